//! Probation: how often an endpoint that is worse than others is still tried.
//!
//! An endpoint on probation loses every comparison that its cost decides, and so gets no new measurements. It gets a
//! trial, one request, after enough lost comparisons *and* enough time. Each failed trial makes the next one rarer; a
//! successful one ends probation at once, and its time becomes the estimate. Both conditions are needed: by count
//! alone, trials would come every few milliseconds at a high rate; by time alone, every other request would be one at a
//! low rate. An endpoint not used for [`STALE`] gets a trial in any case.

use std::time::{Duration, Instant};

/// Comparisons lost before the first trial.
const LOST: f64 = 6.0;

/// The time before the first trial.
const WAITED: Duration = Duration::from_millis(20);

/// The most doublings of both.
const DOUBLINGS: f64 = 3.0;

/// After this time an endpoint gets a trial, however few comparisons it lost.
const STALE: Duration = Duration::from_secs(60);

/// How many doublings each good answer takes back.
const EASED: f64 = 0.25;

/// How long one endpoint has been on probation, and how rare its trials are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Probation {
    /// How often the first wait was doubled.
    doublings: f64,
    /// Comparisons lost since its last request.
    lost: u32,
    /// The time of its last request.
    asked: Option<Instant>,
    /// The time of its last failed trial.
    failed: Option<Instant>,
}

impl Probation {
    /// Whether it gets the next request for which it is drawn, even if it is worse than the other.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let Some(asked) = self.asked else { return true };
        let waited = now.saturating_duration_since(asked);
        let factor = if self.doublings == 0.0 { 1.0 } else { self.doublings.exp2() };
        waited >= STALE || (f64::from(self.lost) >= LOST * factor && waited >= WAITED.mul_f64(factor))
    }

    /// It lost a comparison.
    pub(super) fn lose(&mut self) {
        self.lost = self.lost.saturating_add(1);
    }

    /// It got a request.
    pub(super) fn ask(&mut self, now: Instant) {
        (self.lost, self.asked) = (0, self.asked.max(Some(now)));
    }

    /// An answer was good.
    pub(super) fn ease(&mut self) {
        self.doublings = (self.doublings - EASED).max(0.0);
    }

    /// A trial that began at `started` failed. Of several at the same time, one counts.
    pub(super) fn fail(&mut self, started: Instant, now: Instant) {
        if self.failed.is_none_or(|failed| failed <= started) {
            self.doublings = (self.doublings + 1.0).min(DOUBLINGS);
            self.failed = Some(now);
        }
    }
}
