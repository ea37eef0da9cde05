//! What an endpoint has to do: requests in flight, and those that it was too quick to turn away.
//!
//! Whoever refuses or fails at once has nothing in flight, and by that count would be the one to ask, most of all where
//! the others have much to do. So a request that ended in another way than it should, and sooner than is
//! normal in the cluster, goes on to count until its time would have been over, as if it had been served. The sum of those
//! decays exponentially: its integral over time is the same, and it needs no timer.

use std::time::{Duration, Instant};

/// Less than this is nothing: idle endpoints are to be equal.
const NOTHING: f64 = 0.02;

/// Requests that count although they have ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lingering {
    /// Their number at `stamp`.
    count: f64,
    stamp: Option<Instant>,
}

impl Lingering {
    /// A request ended after `took`, where `hold` is normal.
    pub(super) fn add(&mut self, now: Instant, took: Duration, hold: Duration) {
        let rest = 1.0 - took.as_secs_f64() / hold.as_secs_f64().max(1e-9);
        if rest > 0.0 {
            self.count = self.at(now, || hold) + rest;
            self.stamp = self.stamp.max(Some(now));
        }
    }

    /// How many there are at `now`. `hold` is asked only if there are any.
    pub(super) fn at(&self, now: Instant, hold: impl FnOnce() -> Duration) -> f64 {
        let Some(stamp) = self.stamp.filter(|_| self.count > 0.0) else { return 0.0 };
        let elapsed = now.saturating_duration_since(stamp).as_secs_f64();
        let left = self.count * (-elapsed / hold().as_secs_f64().max(1e-9)).exp();
        if left < NOTHING { 0.0 } else { left }
    }
}
