//! Exponential backoff with equal jitter.
//!
//! Jitter prevents the many weirs of a cluster, which saw the same endpoint fail at the same moment, from all retrying
//! at the same moment. Half of each step is fixed, so that a wait is never close to zero: "equal jitter" (Brooker,
//! "Exponential Backoff And Jitter", 2015).

use std::time::Duration;

/// An exponential backoff with equal jitter, as in linkerd's default failure accrual.
///
/// Step 0 waits between `min` and 1.5 times that; step n waits between `min`·2ⁿ⁻¹ and `min`·2ⁿ while that is at most
/// `max`, then between half of `max` and `max`, but never less than `min`. Finagle's first wait is exactly `min` and
/// its last ones exactly `max`, which would synchronize the retries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The shortest wait, and approximately the first.
    pub min: Duration,
    /// The longest wait; it applies even if `min` is longer.
    pub max: Duration,
}

impl Backoff {
    /// The wait after `step` earlier waits.
    pub fn delay(&self, step: u32, rng: &mut fastrand::Rng) -> Duration {
        let (least, most) = match step.checked_sub(1) {
            None => (self.min, self.min.saturating_add(self.min / 2)),
            Some(doublings) => {
                let half = self.min.saturating_mul(2u32.saturating_pow(doublings)).min(self.max / 2);
                (half.max(self.min), half.saturating_mul(2))
            }
        };
        let (least, most) = (least.min(self.max), most.min(self.max));
        least + most.saturating_sub(least).mul_f64(rng.f64())
    }

    /// `wait`, chosen by another backoff, within the bounds of this one.
    pub fn bound(&self, wait: Duration) -> Duration {
        wait.max(self.min).min(self.max)
    }
}

/// linkerd's: 5 s to 300 s.
impl Default for Backoff {
    fn default() -> Self {
        Self { min: Duration::from_secs(5), max: Duration::from_secs(300) }
    }
}
