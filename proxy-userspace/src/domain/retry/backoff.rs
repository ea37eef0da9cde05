//! Waiting times that double, and of which half is random.
//!
//! Randomness keeps the many weirs of a cluster, which saw the same endpoint fail at the same moment, from
//! all coming back to it at the same moment. Half of each step is fixed, so that waiting never shrinks to
//! nothing by chance: "equal jitter" (Brooker, "Exponential Backoff And Jitter", 2015).

use std::time::Duration;

/// An equal-jittered exponential backoff, as linkerd's failure accrual uses by default.
///
/// Step 0 waits exactly `min`; step n waits between `min`·2ⁿ⁻¹ and `min`·2ⁿ, until that would pass `max`,
/// and from then on between half of `max` and `max`. Finagle stops at exactly `max` there, which would
/// bring back the convoy that the randomness is to prevent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first waiting time.
    pub min: Duration,
    /// The longest waiting time; it wins where `min` is longer.
    pub max: Duration,
}

impl Backoff {
    /// How long to wait after `step` earlier waits.
    pub fn delay(&self, step: u32, rng: &mut fastrand::Rng) -> Duration {
        let Some(doublings) = step.checked_sub(1) else {
            return self.min.min(self.max);
        };
        let factor = 2u32.saturating_pow(doublings);
        let half = self.min.saturating_mul(factor).min(self.max / 2);
        half + half.mul_f64(rng.f64())
    }
}

/// linkerd's: 5 s to 300 s.
impl Default for Backoff {
    fn default() -> Self {
        Self { min: Duration::from_secs(5), max: Duration::from_secs(300) }
    }
}
