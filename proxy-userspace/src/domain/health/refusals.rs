//! Answers by which an endpoint turns a request away: 429, or a tunnel that it ends within a moment.
//!
//! A refusal is quick, and it is no answer: a client that gets one has to ask again. So each makes the endpoint
//! [`STEP`] doublings more expensive, without a word on how fast it is. One has no consequence; after the second in a row
//! it is on [`probation`](super::probation).
//!
//! What counts is how much more it refuses than is normal in the cluster ([`Norms`](super::Norms)): steps are such that
//! an endpoint that refuses as much as all do stays where it is. Where every client is refused once in a while, or
//! every server ends its tunnels within a moment because that is the protocol, no endpoint is worse for it.

use std::time::{Duration, Instant};

/// What one refusal costs, in doublings.
const STEP: f64 = 0.9;

/// What a request that is not refused takes from that at least.
const EASED: f64 = 0.25;

/// The most that refusals may cost, in doublings: where all others have a thousand times as much to do.
const MOST: f64 = 10.0;

/// From here on they are many: four in a row.
const MANY: f64 = 3.0;

/// What it costs at least as long as the endpoint has asked to be left alone: others are asked unless each has eight times as
/// much to do. Not more, since what one client is refused for (a limit of its own) need not concern the others.
const ASKED: f64 = 3.0;

/// What one endpoint has refused.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Refusals {
    doublings: f64,
    /// When the last request began that was refused.
    last: Option<Instant>,
    /// It asked to be left alone until then (`Retry-After`).
    until: Option<Instant>,
}

impl Refusals {
    /// A request begins, where a `norm` of all are refused: it will be served, as far as is known. Returns what that took
    /// from the cost, for [`Refusals::count`]. To wait for the end would count refusals only, which come first.
    pub(super) fn begin(&mut self, norm: f64) -> f64 {
        let before = self.doublings;
        self.doublings = (before - EASED - STEP * norm).max(0.0);
        before - self.doublings
    }

    /// It refused a request that began at `started` and `eased` the cost.
    pub(super) fn count(&mut self, started: Instant, eased: f64, norm: f64) {
        self.last = self.last.max(Some(started));
        self.give_back(eased + STEP * (1.0 - norm));
    }

    /// Nothing is known of the request that `eased` the cost.
    pub(super) fn give_back(&mut self, eased: f64) {
        self.doublings = (self.doublings + eased).min(MOST);
    }

    /// All is forgotten, but what it asked for.
    pub(super) fn forget(&mut self) {
        (self.doublings, self.last) = (0.0, None);
    }

    /// Whether a request that began at `started` says something of those to come. One that was taken in before another was
    /// refused does not: a full database serves those that are connected.
    pub(super) fn are_older_than(&self, started: Instant) -> bool {
        self.last.is_none_or(|last| last <= started)
    }

    /// It asks to be left alone for so long.
    pub(super) fn leave_alone(&mut self, now: Instant, wait: Duration) {
        self.until = self.until.max(now.checked_add(wait));
    }

    /// For how long it is to be left alone, if it is.
    pub(super) fn left_alone(&self, now: Instant) -> Option<Duration> {
        self.until?.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// How many times as expensive it is.
    pub(super) fn factor(&self, now: Instant) -> f64 {
        let least = if self.left_alone(now).is_some() { ASKED } else { 0.0 };
        let doublings = self.doublings.max(least);
        // Nearly always, and not worth a power.
        if doublings == 0.0 { 1.0 } else { doublings.exp2() }
    }

    /// Whether they are so many that they are the endpoint's own failure.
    pub(super) fn are_many(&self) -> bool {
        self.doublings >= MANY
    }
}
