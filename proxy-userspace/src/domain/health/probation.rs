//! Endpoints that are worse than others: how often they are tried all the same.
//!
//! An endpoint on probation loses every comparison in which its cost decides, and so hears nothing of itself. It gets a
//! trial, one request, when it has lost so often *and* waited so long. Each trial that goes wrong makes the next one
//! rarer; one that goes well ends probation at once, and what it took is what is believed from then on.
//! Both are needed: by count alone a trial would come every few milliseconds at a high rate, by time alone
//! every other request would be one at a low rate. What nobody has looked at for [`STALE`] is tried in any case.

use std::time::{Duration, Instant};

/// Comparisons lost before the first trial.
const LOST: f64 = 6.0;

/// The time before the first trial.
const WAITED: Duration = Duration::from_millis(20);

/// How often both are doubled at most.
const DOUBLINGS: f64 = 3.0;

/// After this time an endpoint is tried however few comparisons it lost.
const STALE: Duration = Duration::from_secs(60);

/// What each answer in order takes from the doublings.
const EASED: f64 = 0.25;

/// How long one endpoint has been left out, and how much it takes to be trusted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Probation {
    /// How often the first wait is doubled.
    doublings: f64,
    /// Comparisons lost since it was asked last.
    lost: u32,
    /// When it was asked last.
    asked: Option<Instant>,
    /// When a trial went wrong last.
    failed: Option<Instant>,
}

impl Probation {
    /// Whether it should get the next request for which it is drawn, should it be worse than the other.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let Some(asked) = self.asked else { return true };
        let waited = now.saturating_duration_since(asked);
        let factor = if self.doublings == 0.0 { 1.0 } else { self.doublings.exp2() };
        waited >= STALE || (f64::from(self.lost) >= LOST * factor && waited >= WAITED.mul_f64(factor))
    }

    /// It was worse than another.
    pub(super) fn lose(&mut self) {
        self.lost = self.lost.saturating_add(1);
    }

    /// It was asked.
    pub(super) fn ask(&mut self, now: Instant) {
        (self.lost, self.asked) = (0, self.asked.max(Some(now)));
    }

    /// An answer was in order.
    pub(super) fn ease(&mut self) {
        self.doublings = (self.doublings - EASED).max(0.0);
    }

    /// A trial that began at `started` went wrong. Of several at the same time one counts.
    pub(super) fn fail(&mut self, started: Instant, now: Instant) {
        if self.failed.is_none_or(|failed| failed <= started) {
            self.doublings = (self.doublings + 1.0).min(DOUBLINGS);
            self.failed = Some(now);
        }
    }
}
