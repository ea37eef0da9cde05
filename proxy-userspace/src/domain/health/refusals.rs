//! Refusals: a 429, or a tunnel that the endpoint ends early.
//!
//! A refusal is quick, but the client has to ask again. So each one makes the endpoint [`STEP`] doublings more
//! expensive, and does not count for latency. One has no effect; after the second in a row the endpoint is on
//! [`probation`](super::probation).
//!
//! Only refusals beyond the norm of the cluster count ([`Norms`](super::Norms)): an endpoint that refuses as often as
//! the others keeps its cost. If all clients are sometimes refused, or the protocol ends its tunnels early, no endpoint
//! gets worse.

use std::time::{Duration, Instant};

/// The cost of one refusal, in doublings.
const STEP: f64 = 0.9;

/// The least that a served request takes back, in doublings.
const EASED: f64 = 0.25;

/// The highest cost of refusals, in doublings: used only if all others have a thousand times its load.
const MOST: f64 = 10.0;

/// From this cost on they are many: four in a row.
const MANY: f64 = 3.0;

/// The lowest cost while the endpoint asks to be left alone: others are preferred unless each has eight times its load.
/// Not more, since the reason may concern one client only (its own rate limit).
const ASKED: f64 = 3.0;

/// The refusals of one endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Refusals {
    doublings: f64,
    /// When the last refused request began.
    last: Option<Instant>,
    /// It asked to be left alone until this time (`Retry-After`).
    until: Option<Instant>,
}

impl Refusals {
    /// A request begins, with a share of `norm` refused in the cluster: it counts as served until it is refused.
    /// Returns what that took from the cost, for [`Refusals::count`]. Counting only at the end would see refusals
    /// first, since they are quick.
    pub(super) fn begin(&mut self, norm: f64) -> f64 {
        let before = self.doublings;
        self.doublings = (before - EASED - STEP * norm).max(0.0);
        before - self.doublings
    }

    /// It refused a request that began at `started` and had reduced the cost by `eased`.
    pub(super) fn count(&mut self, started: Instant, eased: f64, norm: f64) {
        self.last = self.last.max(Some(started));
        self.give_back(eased + STEP * (1.0 - norm));
    }

    /// The request that had reduced the cost by `eased` ended without a result.
    pub(super) fn give_back(&mut self, eased: f64) {
        self.doublings = (self.doublings + eased).min(MOST);
    }

    /// Resets everything except what it asked for.
    pub(super) fn forget(&mut self) {
        (self.doublings, self.last) = (0.0, None);
    }

    /// Whether a request that began at `started` predicts later ones. One that was accepted before the last refusal
    /// does not: a full database still serves its open connections.
    pub(super) fn are_older_than(&self, started: Instant) -> bool {
        self.last.is_none_or(|last| last <= started)
    }

    /// It asks to be left alone for `wait`.
    pub(super) fn leave_alone(&mut self, now: Instant, wait: Duration) {
        self.until = self.until.max(now.checked_add(wait));
    }

    /// How long it must still be left alone, if at all.
    pub(super) fn left_alone(&self, now: Instant) -> Option<Duration> {
        self.until?.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// The factor on its cost.
    pub(super) fn factor(&self, now: Instant) -> f64 {
        let least = if self.left_alone(now).is_some() { ASKED } else { 0.0 };
        let doublings = self.doublings.max(least);
        // The usual case: avoids computing a power.
        if doublings == 0.0 { 1.0 } else { doublings.exp2() }
    }

    /// Whether they are so many that they count as failures of the endpoint.
    pub(super) fn are_many(&self) -> bool {
        self.doublings >= MANY
    }
}
