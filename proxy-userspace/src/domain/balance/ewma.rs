//! How long an endpoint takes to answer: an average that believes bad news at once and good news slowly.
//!
//! This is Finagle's `PeakEwma` (linkerd's `ewma` balancer): an observation above the estimate replaces it;
//! one below is averaged in, weighted by the time since the last. Between observations the estimate fades
//! towards zero, so that an endpoint avoided for its latency is tried again after a while. Three things differ:
//!
//! - Reading does not write, so that comparing two endpoints needs no exclusive access to either.
//! - A new endpoint starts from a *guess*, which its first observation replaces whatever it is. The guess
//!   is the median of the cluster's other endpoints ([`PeakEwma::joining`]): much more, and it would get nothing for several
//!   decay times; much less, and it would get everything until its first answer.
//!   In a cluster in which nothing has answered yet, all start alike, from [`PeakEwma::INITIAL`]. The first to
//!   answer would then leave the others behind, with a guess that may be a thousand times too high. So at each
//!   endpoint's first observation the cluster guesses anew for those that are still without.
//! - A failure never lowers the estimate, and is no observation: how soon an endpoint refuses says nothing
//!   of how soon it answers, and one that fails in microseconds must not win for it. A failure that took long
//!   does raise the estimate. It is not penalised beyond that: in the simulator, penalties of two and four times
//!   the estimate took most of its traffic from an endpoint with one error in a hundred, and dead ones had 20 s
//!   to a minute until their breakers saw five failures. Leaving an endpoint alone is the breaker's business.
//!
//! Deliberately absent: requests in flight, which [`cost`](super::cost) brings in. The estimate must not be
//! used for a deadline: it is biased upwards on purpose.

#[cfg(test)]
#[path = "ewma_tests.rs"]
mod tests;

use std::time::{Duration, Instant};

/// A peak-sensitive, exponentially weighted moving average of latency.
#[derive(Clone, Debug)]
pub struct PeakEwma {
    /// The estimate as of `stamp`, in nanoseconds.
    value: f64,
    stamp: Instant,
    decay_ns: f64,
    basis: Basis,
}

/// What an estimate rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Basis {
    Guess,
    Observation,
}

impl PeakEwma {
    /// The time after which an old observation counts 1/e of a new one: 10 s, as in Finagle and linkerd.
    pub const DECAY: Duration = Duration::from_secs(10);

    /// The guess for the first endpoints of a cluster, which has no mean yet: 1 s, as in linkerd 2.
    pub const INITIAL: Duration = Duration::from_secs(1);

    /// An estimate that rests on a guess, until the first observation.
    pub fn new(now: Instant, initial: Duration, decay: Duration) -> Self {
        Self {
            value: nanoseconds(initial),
            stamp: now,
            decay_ns: nanoseconds(decay).max(1.0),
            basis: Basis::Guess,
        }
    }

    /// The estimate of an endpoint that is new, or comes back, among `peers`: what the cluster's other
    /// endpoints have been [`observed`](Self::observed) at. It starts as their median, which one peer that is
    /// slow or failing does not move as it would the mean; or as [`INITIAL`](Self::INITIAL) if there are none.
    pub fn joining(now: Instant, peers: impl IntoIterator<Item = f64>, decay: Duration) -> Self {
        let mut peers: Vec<f64> = peers.into_iter().collect();
        peers.sort_unstable_by(f64::total_cmp);
        let median = peers.get(peers.len().saturating_sub(1) / 2);
        let initial = median.map_or(Self::INITIAL, |&median| Duration::from_nanos(median as u64));
        Self::new(now, initial, decay)
    }

    /// Takes in how long a request took that the endpoint answered.
    pub fn observe(&mut self, now: Instant, latency: Duration) {
        self.take(now, nanoseconds(latency));
    }

    /// Takes in a request that failed, after `latency`, by the endpoint's fault.
    pub fn observe_failure(&mut self, now: Instant, latency: Duration) {
        self.value = self.at(now).max(nanoseconds(latency));
        self.stamp = self.stamp.max(now);
    }

    /// The estimate at `now`, in nanoseconds.
    pub fn at(&self, now: Instant) -> f64 {
        self.value * self.remaining(now)
    }

    /// Whether nothing has been observed yet.
    pub fn is_guess(&self) -> bool {
        self.basis == Basis::Guess
    }

    /// The estimate at `now`, in nanoseconds, unless it is only a guess.
    pub fn observed(&self, now: Instant) -> Option<f64> {
        match self.basis {
            Basis::Guess => None,
            Basis::Observation => Some(self.at(now)),
        }
    }

    fn take(&mut self, now: Instant, latency: f64) {
        let remaining = self.remaining(now);
        self.value = match self.basis {
            Basis::Guess => latency,
            Basis::Observation if latency > self.value => latency,
            Basis::Observation => self.value * remaining + latency * (1.0 - remaining),
        };
        self.basis = Basis::Observation;
        // Workers read their clocks before they take the lock, so `now` may lie a little in the past.
        self.stamp = self.stamp.max(now);
    }

    /// The part of the last estimate that is left at `now`: 1 at once, towards 0 later.
    fn remaining(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.stamp);
        (-nanoseconds(elapsed) / self.decay_ns).exp()
    }
}

fn nanoseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}
