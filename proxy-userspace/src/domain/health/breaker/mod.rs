//! When to leave an endpoint alone, and when to trust it again.
//!
//! This is linkerd's default, `io.l5d.consecutiveFailures`: five failures in a row eject an endpoint; after
//! a backoff exactly one request, the probe, is let through; its success restores the endpoint and its
//! failure ejects it again, for longer. What counts as a failure is the caller's to judge ([`Verdict`]).
//!
//! ```text
//!            failures in a row, and others are usable
//!   Closed ───────────────────────────────────────────▶ Open ──backoff──▶ Due
//!     ▲                                                  ▲  ▲               │ next request
//!     │ success                     failure, next backoff│  └──·   unknown  ▼
//!     └──────────────────────────────────────────────────┴────────────── Probing
//! ```
//!
//! **An outcome counts only in the period in which its request began.** A hundred requests may be in flight
//! when an endpoint hangs; five time out and eject it. The other ninety-five time out later, perhaps when a
//! probe has already found the endpoint well again, and say nothing about it. Each ejection and each
//! restoration begins a new period; a [`Permit`] remembers its own.
//!
//! **The last usable endpoint is never ejected.** Only the cluster knows which one that is, so it says so
//! with each outcome ([`Peers`]). Its word is a snapshot: two endpoints that fail at the same moment may
//! each count on the other, and both be ejected. That is harmless, because with no endpoint usable the
//! balancer ignores breakers ([`Choice::Forced`](crate::domain::balance::Choice::Forced)), and a request so forced
//! through restores the endpoint if it succeeds. An endpoint spared keeps its count, and is not [`usable`](Breaker::is_usable):
//! the others may have recovered, so requests go to all of them alike until one succeeds. Its next failure ejects it, if
//! by then another is usable.
//!
//! **A probe cannot block its endpoint.** If it ends without a verdict (its client left) the next request
//! may probe at once; if it does not end, another may after [`Policy::probe`]. The first is still heard.
//!
//! **The policy is an argument**, so that a changed one holds from then on for a breaker that stays as it is: a count of
//! failures goes on, and a wait that has begun becomes no shorter than the shortest, and no longer than the longest that
//! there is now.
//!
//! Deliberately absent: a rate of successes over a window; locks and clocks; the log.

#[cfg(test)]
mod tests;

pub use crate::domain::retry::Backoff;
use std::time::{Duration, Instant};

/// When a breaker ejects, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How many failures in a row eject an endpoint; 0 counts as 1.
    pub failures: u32,
    /// How long it stays ejected: one step further after each probe that fails.
    pub backoff: Backoff,
    /// How long a probe may take before another request may probe too.
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
    /// Probes begun so far: tells a probe that holds the turn from one that lost it by taking too long.
    probes: u32,
}

/// What is stored; [`State`] is this, seen at a moment.
#[derive(Clone, Copy, Debug)]
enum Position {
    Closed {
        /// Failures since the last success.
        failures: u32,
    },
    Open {
        since: Instant,
        /// How long it was to be, by the policy of then.
        wait: Duration,
        /// Backoff steps taken, this one included.
        steps: u32,
    },
    /// The last probe has ended without a verdict.
    Due { steps: u32 },
    Probing {
        /// When the probe loses its turn.
        until: Instant,
        steps: u32,
    },
}

/// The time between two changes of mind: it ends when the endpoint is ejected or restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period(u32);

/// What a breaker does at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Lets requests through.
    Closed,
    /// Ejected: lets none through.
    Open {
        /// When it becomes due.
        until: Instant,
    },
    /// The backoff has passed: the next request is the probe.
    Due,
    /// The probe is under way: lets no other through.
    Probing,
}

/// The right to send one request, to be given back to [`Breaker::end`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// The breaker was closed.
    Normal(Period),
    /// This request decides whether the endpoint is restored.
    Probe(Period, Turn),
    /// The breaker would not have let it through. If the balancer did not force this request, another
    /// worker took the probe first, and it should pick again.
    Forced(Period),
}

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn(u32);

/// What a request says of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Success,
    /// It does not: a connect error, a reset, a timeout, a 5xx.
    Failure,
    /// Nothing: the client left, or weir itself gave up.
    Unknown,
}

/// Whether the cluster has another endpoint to use, as of an outcome. Only a failure's is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Another endpoint of the tier is [`usable`](Breaker::is_usable). One that is due for a probe does not count: it most
    /// likely still is what it was ejected for.
    Usable,
    /// No other is: this one must stay.
    None,
}

/// A change of mind, for log and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The endpoint is out, for the first time or again after a failed probe.
    Ejected {
        /// Until it is due for a probe.
        retry_in: Duration,
    },
    /// The endpoint is back. Its latency estimate should start afresh: the old one is made of failures.
    Restored,
}

impl Breaker {
    /// What the breaker does at `now`.
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

    /// Whether the endpoint is one to rely on: its breaker is closed, and not only because it is the last one.
    pub fn is_usable(&self, policy: &Policy) -> bool {
        matches!(self.position, Position::Closed { failures } if failures == 0 || failures < policy.failures)
    }

    /// A request is about to be sent. The first one that begins when a probe is due is that probe.
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

    /// A request has ended. To be called once per permit; a permit never given back does no lasting harm.
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
            // One that was not let through may still prove the breaker wrong, but not more than right.
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

/// A closed breaker that has heard nothing.
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
