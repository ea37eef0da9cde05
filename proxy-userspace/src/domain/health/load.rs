//! The load of an endpoint: its requests in flight, and recent ones that it refused or failed too quickly.
//!
//! An endpoint that refuses or fails at once has nothing in flight, and would look least loaded, most of all while the
//! others are busy. So a request that was not served, and ended sooner than is normal in the cluster, keeps counting as
//! load for the rest of the normal time. The sum of these decays exponentially: its integral over time is the same, and
//! it needs no timer.

use std::time::{Duration, Instant};

/// Values below this count as zero, so that idle endpoints are equal.
const NOTHING: f64 = 0.02;

/// Requests that have ended and still count as load.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lingering {
    /// Their number at `stamp`.
    count: f64,
    stamp: Option<Instant>,
}

impl Lingering {
    /// Adds a request that ended after `took`, if `hold` is the normal time.
    pub(super) fn add(&mut self, now: Instant, took: Duration, hold: Duration) {
        let rest = 1.0 - took.as_secs_f64() / hold.as_secs_f64().max(1e-9);
        if rest > 0.0 {
            self.count = self.at(now, || hold) + rest;
            self.stamp = self.stamp.max(Some(now));
        }
    }

    /// Their number at `now`. `hold` is called only if there are any.
    pub(super) fn at(&self, now: Instant, hold: impl FnOnce() -> Duration) -> f64 {
        let Some(stamp) = self.stamp.filter(|_| self.count > 0.0) else { return 0.0 };
        let elapsed = now.saturating_duration_since(stamp).as_secs_f64();
        let left = self.count * (-elapsed / hold().as_secs_f64().max(1e-9)).exp();
        if left < NOTHING { 0.0 } else { left }
    }
}
