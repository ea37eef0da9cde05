//! What comes after a list or a watch, and how soon.
//!
//! A watch goes on from where it was, within 2 s of any trouble: kube-rs's own pauses grow to 30 s, and on a real cluster
//! that left a node 20.7 s behind after an API server's short absence. A list costs the server much, so those that fail or
//! come too often are spread over 30 s. Every pause is shortened by up to a half at random, so that nodes that lost the
//! server at the same moment do not return together.

use std::time::Duration;

use super::failure::Failure;

/// The first pause after trouble.
const FIRST: Duration = Duration::from_millis(100);
/// The longest before a watch goes on, and before a server is looked for that cannot be reached.
const WATCH: Duration = Duration::from_secs(2);
/// The longest before a list, and after a server asked for patience.
const LIST: Duration = Duration::from_secs(30);
/// The longest that a server's `Retry-After` is heeded.
const ASKED: Duration = Duration::from_mins(1);
/// The first pause after a refusal that only an administrator can end.
const FORBIDDEN: Duration = Duration::from_secs(1);
/// Refusals of a watch in a row after which a list is tried: what is remembered may be what the server minds.
const REFUSALS: u32 = 3;
/// A watch that lived for so long was well.
pub(super) const WELL: Duration = Duration::from_secs(10);

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// List everything.
    List,
    /// Watch what comes after this version.
    Watch(String),
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A list is complete up to this version.
    Listed(String),
    /// A list failed.
    NotListed(Failure),
    /// A watch ended, having got to `version`, after it was open for `life` (zero if it never was).
    Watched { version: String, life: Duration, why: Option<Failure> },
}

/// The memory that pauses grow by.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Troubles in a row.
    troubles: u32,
    /// Lists since a watch was last well.
    lists: u32,
    /// Refusals of watches in a row.
    refusals: u32,
}

impl Pace {
    /// What comes after `end`, and the pause before it. `spread` is what nodes that list at the same time are spread over.
    pub(super) fn after(&mut self, end: End, spread: Duration, rng: &mut fastrand::Rng) -> (Step, Duration) {
        match end {
            End::Listed(version) => {
                (self.troubles, self.refusals) = (0, 0);
                self.lists += 1;
                (Step::Watch(version), Duration::ZERO)
            }
            End::NotListed(failure) => {
                self.troubles += 1;
                let pause = match failure {
                    Failure::Gone => self.grown(FIRST, LIST, rng),
                    failure => self.pause(&failure, LIST, rng),
                };
                (Step::List, pause)
            }
            End::Watched { version, life, why } => {
                if life >= WELL {
                    *self = Self::default();
                }
                self.after_watch(version, life, why, spread, rng)
            }
        }
    }

    fn after_watch(
        &mut self,
        version: String,
        life: Duration,
        why: Option<Failure>,
        spread: Duration,
        rng: &mut fastrand::Rng,
    ) -> (Step, Duration) {
        let Some(failure) = why else {
            // By its time. A server that ends each at once is not asked in a hurry.
            self.troubles = if life >= FIRST { 0 } else { self.troubles + 1 };
            let pause = if self.troubles == 0 { Duration::ZERO } else { self.grown(FIRST, WATCH, rng) };
            return (Step::Watch(version), pause);
        };
        if failure == Failure::Gone || matches!(failure, Failure::Garbage(_)) {
            // All nodes are told at the same moment when a server starts anew.
            let spread = spread.mul_f64(rng.f64());
            return (Step::List, spread + growing(FIRST, LIST, self.lists.saturating_sub(1), rng));
        }
        self.troubles += 1;
        self.refusals = if matches!(failure, Failure::Refused(_)) { self.refusals + 1 } else { 0 };
        let pause = self.pause(&failure, WATCH, rng);
        (if self.refusals >= REFUSALS { Step::List } else { Step::Watch(version) }, pause)
    }

    fn pause(&self, failure: &Failure, most: Duration, rng: &mut fastrand::Rng) -> Duration {
        match failure {
            Failure::Unreachable(_) | Failure::Silent(_) | Failure::Unauthorized(_) | Failure::Gone => {
                self.grown(FIRST, WATCH, rng)
            }
            Failure::Refused(_) | Failure::Garbage(_) => self.grown(FIRST, most, rng),
            Failure::Forbidden(_) | Failure::Misconfigured(_) => self.grown(FORBIDDEN, LIST, rng),
            Failure::Throttled(asked) => {
                // Not shortened: the server said how long.
                let asked = asked.unwrap_or_default().min(ASKED);
                asked.max(self.grown(FIRST, LIST, rng))
            }
        }
    }

    fn grown(&self, first: Duration, most: Duration, rng: &mut fastrand::Rng) -> Duration {
        growing(first, most, self.troubles, rng)
    }
}

/// Nothing for the zeroth time, `first` for the first, and twice as much each time, up to `most`; less up to a half of it.
fn growing(first: Duration, most: Duration, times: u32, rng: &mut fastrand::Rng) -> Duration {
    let Some(doublings) = times.checked_sub(1) else { return Duration::ZERO };
    let whole = first.saturating_mul(1 << doublings.min(16)).min(most);
    whole.mul_f64(1.0 - rng.f64() / 2.0)
}
