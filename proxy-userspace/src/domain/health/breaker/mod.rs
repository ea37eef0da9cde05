//! Circuit breaker: when an endpoint is ejected, and when it is restored.
//!
//! This is linkerd's default, `io.l5d.consecutiveFailures`: five consecutive failures eject an endpoint; after a
//! backoff exactly one request, the probe, is let through; its success restores the endpoint, and its failure ejects it
//! again, for longer. The caller decides what counts as a failure ([`Verdict`]).
//!
//! ```text
//!            failures in a row, and others are usable
//!   Closed ───────────────────────────────────────────▶ Open ──backoff──▶ Due
//!     ▲                                                  ▲  ▲               │ next request
//!     │ success                     failure, next backoff│  └──·   unknown  ▼
//!     └──────────────────────────────────────────────────┴────────────── Probing
//! ```
//!
//! **An outcome counts only in the period in which its request began.** A hundred requests may be in flight when an
//! endpoint hangs; five time out and eject it. The other ninety-five time out later, perhaps after a probe has restored
//! the endpoint, and no longer matter. Each ejection and each restoration begins a new period; a [`Permit`] stores its
//! own.
//!
//! **The last usable endpoint is never ejected.** Only the cluster knows which one that is, so it passes that with each
//! outcome ([`Peers`]). This is a snapshot: two endpoints that fail at the same moment may each count on the other, and
//! both be ejected. That is harmless, because with no usable endpoint the balancer ignores breakers
//! ([`Choice::Forced`](crate::domain::balance::Choice::Forced)), and a forced request that succeeds restores the
//! endpoint. An endpoint that is kept for this reason keeps its failure count, and is not
//! [`usable`](Breaker::is_usable): the others may have recovered, so all of them get requests until one succeeds. Its
//! next failure ejects it, if another is usable by then.
//!
//! **A probe cannot block its endpoint.** If it ends without a verdict (its client left), the next request may probe at
//! once; if it does not end, another may probe after [`Policy::probe`]. The first one's result still counts.
//!
//! **The policy is an argument**, so that a changed policy applies at once and the breaker keeps its state: the failure
//! count continues, and a running wait is kept within the new minimum and maximum.
//!
//! **Each caller has a breaker of its own** at each endpoint ([`Breakers`]): what one of them provokes ejects nothing for the
//! others.
//!
//! Not here: success rates over a window; locks and clocks; logging.

mod callers;
#[cfg(test)]
mod tests;

pub use callers::{Breakers, CORROBORATED, Caller};

pub use crate::domain::retry::Backoff;
use std::time::{Duration, Instant};

/// When a breaker ejects, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How many consecutive failures eject an endpoint; 0 counts as 1.
    pub failures: u32,
    /// How long it stays ejected: one step more after each failed probe.
    pub backoff: Backoff,
    /// How long a probe may take before another request may probe.
    pub probe: Duration,
}

/// linkerd's: 5 failures, 5 s to 300 s; and 10 s for a probe.
impl Default for Policy {
    fn default() -> Self {
        Self { failures: 5, backoff: Backoff::default(), probe: Duration::from_secs(10) }
    }
}

/// The circuit breaker of one endpoint.
#[derive(Clone, Debug)]
pub struct Breaker {
    position: Position,
    period: Period,
    /// Probes begun so far: distinguishes the current probe from one that took too long.
    probes: u32,
}

/// The stored state; [`State`] is derived from it for a moment.
#[derive(Clone, Copy, Debug)]
enum Position {
    Closed {
        /// Consecutive failures.
        failures: u32,
    },
    Open {
        since: Instant,
        /// The wait that was chosen by the policy at that time.
        wait: Duration,
        /// Backoff steps taken, this one included.
        steps: u32,
    },
    /// The last probe ended without a verdict.
    Due { steps: u32 },
    Probing {
        /// When another request may probe.
        until: Instant,
        steps: u32,
    },
}

/// The time between two transitions: it ends when the endpoint is ejected or restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(u32);

/// The state of a breaker at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Lets requests through.
    Closed,
    /// Ejected: lets none through.
    Open {
        /// When a probe is due.
        until: Instant,
    },
    /// The backoff has passed: the next request is the probe.
    Due,
    /// A probe is in flight: lets no other request through.
    Probing,
}

/// The permission to send one request, to be returned to [`Breaker::end`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// The breaker was closed.
    Normal(Period),
    /// This request decides whether the endpoint is restored.
    Probe(Period, Turn),
    /// The breaker would not have let this request through. If the balancer did not force it, another worker took the
    /// probe first, and the caller should pick again.
    Forced(Period),
}

/// The number of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn(u32);

/// What a request's outcome means for the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The endpoint works.
    Success,
    /// The endpoint failed: a connect error, a reset, a timeout, a 5xx.
    Failure,
    /// Unknown: the client left, or weir itself gave up.
    Unknown,
}

/// Whether the cluster has another endpoint to use. Used only for failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Another endpoint of the tier is [`usable`](Breaker::is_usable). One that is due for a probe does not count,
    /// since it has most likely not recovered.
    Usable,
    /// No other is usable: this one must stay.
    None,
}

/// A change of state, for log and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The endpoint is ejected, for the first time or again after a failed probe.
    Ejected {
        /// The time until a probe is due.
        retry_in: Duration,
    },
    /// The endpoint is restored. Its latency estimate should be reset, since it was measured on failures.
    Restored,
}

impl Breaker {
    /// The state at `now`.
    pub fn state(&self, now: Instant, policy: &Policy) -> State {
        match self.position {
            Position::Closed { .. } => State::Closed,
            Position::Open { since, wait, .. } => match since + policy.backoff.bound(wait) {
                until if now < until => State::Open { until },
                _ => State::Due,
            },
            Position::Probing { until, .. } if now < until => State::Probing,
            Position::Due { .. } | Position::Probing { .. } => State::Due,
        }
    }

    /// Whether the endpoint is healthy: its breaker is closed, and not only because it is the last one.
    pub fn is_usable(&self, policy: &Policy) -> bool {
        matches!(self.position, Position::Closed { failures } if failures == 0 || failures < policy.failures)
    }

    /// Whether the endpoint is ejected, or about to be probed.
    fn is_out(&self) -> bool {
        !matches!(self.position, Position::Closed { .. })
    }

    /// Until when no request is let through, as far as known by the policy of the ejection.
    fn waits_until(&self) -> Option<Instant> {
        match self.position {
            Position::Open { since, wait, .. } => Some(since + wait),
            Position::Closed { .. } | Position::Due { .. } | Position::Probing { .. } => None,
        }
    }

    /// A request is about to be sent. The first one that begins when a probe is due becomes the probe.
    pub fn begin(&mut self, now: Instant, policy: &Policy) -> Permit {
        match (self.state(now, policy), self.position) {
            (
                State::Due,
                Position::Open { steps, .. } | Position::Due { steps } | Position::Probing { steps, .. },
            ) => {
                self.probes = self.probes.wrapping_add(1);
                self.position = Position::Probing { until: now + policy.probe, steps };
                Permit::Probe(self.period, Turn(self.probes))
            }
            (State::Closed, _) => Permit::Normal(self.period),
            (State::Open { .. } | State::Probing | State::Due, _) => Permit::Forced(self.period),
        }
    }

    /// A request has ended. Called once per permit; a permit that is never returned does no lasting harm.
    pub fn end(
        &mut self,
        now: Instant,
        permit: Permit,
        verdict: Verdict,
        peers: Peers,
        (policy, rng): (&Policy, &mut fastrand::Rng),
    ) -> Option<Transition> {
        match permit {
            Permit::Normal(period) | Permit::Probe(period, _) | Permit::Forced(period)
                if period != self.period =>
            {
                None
            }
            Permit::Normal(_) => self.end_normal(now, verdict, peers, (policy, rng)),
            Permit::Probe(_, turn) => self.end_probe(now, turn, verdict, (policy, rng)),
            // A forced request that succeeds restores the endpoint; its failure changes nothing.
            Permit::Forced(_) => match verdict {
                Verdict::Success => Some(self.restore()),
                Verdict::Failure | Verdict::Unknown => None,
            },
        }
    }

    fn end_normal(
        &mut self,
        now: Instant,
        verdict: Verdict,
        peers: Peers,
        (policy, rng): (&Policy, &mut fastrand::Rng),
    ) -> Option<Transition> {
        let Position::Closed { failures } = &mut self.position else {
            return None;
        };
        match verdict {
            Verdict::Success => *failures = 0,
            Verdict::Unknown => {}
            Verdict::Failure => *failures = failures.saturating_add(1),
        }
        let tripped = verdict == Verdict::Failure && *failures >= policy.failures;
        (tripped && peers == Peers::Usable).then(|| {
            self.period = self.period.next();
            self.open(now, 0, (policy, rng))
        })
    }

    fn end_probe(
        &mut self,
        now: Instant,
        turn: Turn,
        verdict: Verdict,
        (policy, rng): (&Policy, &mut fastrand::Rng),
    ) -> Option<Transition> {
        match (verdict, self.position) {
            (Verdict::Success, _) => Some(self.restore()),
            (Verdict::Failure, Position::Probing { steps, .. }) => Some(self.open(now, steps, (policy, rng))),
            (Verdict::Unknown, Position::Probing { steps, .. }) if turn == Turn(self.probes) => {
                self.position = Position::Due { steps };
                None
            }
            (Verdict::Failure | Verdict::Unknown, _) => None,
        }
    }

    fn open(&mut self, now: Instant, steps: u32, (policy, rng): (&Policy, &mut fastrand::Rng)) -> Transition {
        let retry_in = policy.backoff.delay(steps, rng);
        self.position = Position::Open { since: now, wait: retry_in, steps: steps.saturating_add(1) };
        Transition::Ejected { retry_in }
    }

    fn restore(&mut self) -> Transition {
        self.period = self.period.next();
        self.position = Position::Closed { failures: 0 };
        Transition::Restored
    }
}

/// A closed breaker without outcomes.
impl Default for Breaker {
    fn default() -> Self {
        Self { position: Position::Closed { failures: 0 }, period: Period(0), probes: 0 }
    }
}

impl Period {
    fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}
