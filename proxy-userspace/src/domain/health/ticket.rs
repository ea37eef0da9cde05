//! The permission to use one endpoint once, and the report of its outcome.

use std::time::{Duration, Instant};

use super::breaker::{self, Caller, Peers, Permit, Transition, Verdict};
use super::latency::{Latency, cost};
use super::probation::Probation;
use super::{ALIKE, Health, Norms, Tier};
use crate::domain::outcome::{Outcome, Sign};

/// How many endpoints are checked for being usable.
const ASKED: usize = 64;

/// The permission to use one endpoint once. The holder calls [`Ticket::finish`] once, and then drops it.
#[derive(Debug)]
pub struct Ticket {
    /// Set until the breaker has its verdict.
    permit: Option<Permit>,
    caller: Caller,
    started: Instant,
    /// How much its start reduced the cost of refusals.
    eased: f64,
    /// For a trial: the latency of the endpoint it was compared with, in nanoseconds.
    trial: Option<f64>,
    /// Set when the answer's head has arrived.
    answered: Option<Outcome>,
}

/// The result of a finished ticket.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    /// How it counts.
    pub outcome: Outcome,
    /// The verdict on the endpoint.
    pub verdict: Verdict,
    /// The change of the breaker's state.
    pub transition: Option<Transition>,
    /// How long it took.
    pub took: Duration,
}

/// What a ticket acts on. The outcome of most requests needs neither policy nor other endpoints, so they are asked for only
/// when they are needed.
pub trait Setting {
    /// The health of the endpoint.
    fn health(&self) -> &Health;

    /// The norms of its cluster.
    fn norms(&self) -> &Norms;

    /// When endpoints are ejected.
    fn policy(&self) -> breaker::Policy;

    /// Whether there is another endpoint that is usable for a caller.
    fn has_another(&self, caller: Caller, rng: &mut fastrand::Rng) -> bool;
}

/// The context of a ticket, known beforehand.
#[derive(Clone, Copy)]
pub struct Scene<'a, T> {
    /// The endpoints that this one was chosen from, or the current ones.
    pub tier: &'a T,
    /// The health of the endpoint.
    pub health: &'a Health,
    /// The norms of its cluster.
    pub norms: &'a Norms,
    /// When endpoints are ejected.
    pub policy: &'a breaker::Policy,
}

impl<T: Tier> Setting for Scene<'_, T> {
    fn health(&self) -> &Health {
        self.health
    }

    fn norms(&self) -> &Norms {
        self.norms
    }

    fn policy(&self) -> breaker::Policy {
        *self.policy
    }

    /// Only some of many are checked: if all were ejected, each failure would have to check each of them.
    fn has_another(&self, caller: Caller, rng: &mut fastrand::Rng) -> bool {
        let len = self.tier.weights().len();
        let first = rng.usize(..len.max(1));
        let mut others = (0..len.min(ASKED)).map(|step| self.tier.health((first + step) % len));
        others.any(|it| !std::ptr::eq(it, self.health) && it.is_usable(caller, self.policy))
    }
}

impl Ticket {
    pub(super) fn new(
        caller: Caller,
        (permit, eased): (Permit, f64),
        started: Instant,
        trial: Option<f64>,
    ) -> Self {
        Self { permit: Some(permit), caller, started, eased, trial, answered: None }
    }

    /// When it was issued.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The outcome by the answer's head, once that has arrived.
    pub fn outcome(&self) -> Option<Outcome> {
        self.answered
    }

    /// Whether this is a trial of an endpoint on probation.
    pub fn is_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// Whether its outcome decides whether the breaker restores the endpoint.
    pub fn is_probe(&self) -> bool {
        matches!(self.permit, Some(Permit::Probe(..) | Permit::Forced(_)))
    }

    /// The head of the answer has arrived, or a tunnel has lived for a while. Latency is measured up to here, without
    /// the body. A failure, and the result of a probe, reach the breaker now, since a body may stream for hours; any
    /// other outcome at the end, because a truncated answer is a failure whatever its status.
    pub fn answered(&mut self, now: Instant, outcome: Outcome, scene: &impl Setting) -> Option<Transition> {
        if self.answered.is_some() {
            return None;
        }
        self.answered = Some(outcome);
        let (lives, permit) = (outcome == Outcome::Carried, self.permit);
        let is_heard = self.is_probe() || lives || outcome.verdict() == Verdict::Failure;
        let transition = match is_heard {
            true => self.judge(now, outcome, scene).1,
            false => None,
        };
        if lives && matches!(permit, Some(Permit::Normal(_))) {
            // Its end may still be a failure of the endpoint.
            self.permit = permit;
        }
        self.observe(now, outcome, scene);
        transition
    }

    /// The request or tunnel has ended.
    pub fn finish(&mut self, now: Instant, outcome: Outcome, scene: &impl Setting) -> Finished {
        // A failure that the breaker has counted stays one if the client leaves before the end of the body.
        let failed = self.answered.filter(|it| it.verdict() == Verdict::Failure);
        let outcome = if outcome == Outcome::Abandoned { failed.unwrap_or(outcome) } else { outcome };
        let took = now.saturating_duration_since(self.started);
        let (verdict, transition) = self.judge(now, outcome, scene);
        if self.answered.is_none() {
            self.observe(now, outcome, scene);
        }
        match outcome.sign() {
            Sign::Served => scene.norms().observe_hold(took),
            Sign::Answered | Sign::Refused | Sign::Failed => {
                scene.health().inner.lock().lingering.add(now, took, scene.norms().hold());
            }
            Sign::Nothing => {}
        }
        Finished { outcome, verdict, transition, took }
    }

    /// The endpoint asks to be left alone for `wait` (`Retry-After`), limited to `most`.
    pub fn leave_alone(&self, now: Instant, wait: Duration, most: Duration, scene: &impl Setting) {
        scene.health().inner.lock().refusals.leave_alone(now, wait.min(most));
    }

    fn observe(&self, now: Instant, outcome: Outcome, scene: &impl Setting) {
        let took = now.saturating_duration_since(self.started);
        // Used only until the endpoint has an estimate of its own.
        let norm = |latency: &Latency| latency.cost().is_none().then(|| scene.norms().answer()).flatten();
        let inner = &mut *scene.health().inner.lock();
        match outcome.sign() {
            Sign::Served => {
                scene.norms().serve();
                let timed = matches!(outcome, Outcome::Answered(_));
                match self.trial {
                    Some(other) if timed && cost(took) > ALIKE * other => {
                        inner.probation.fail(self.started, now)
                    }
                    Some(_) => {
                        inner.refusals.forget();
                        inner.latency.forget();
                        inner.probation.ease();
                    }
                    None => inner.probation.ease(),
                }
                if timed {
                    inner.latency.observe(took, norm(&inner.latency));
                    scene.norms().observe_answer(took);
                }
            }
            Sign::Answered => {
                inner.latency.observe_at_least(took, norm(&inner.latency));
                if self.trial.is_some() {
                    inner.refusals.forget();
                }
            }
            Sign::Refused | Sign::Failed => {
                inner.latency.observe_at_least(took, norm(&inner.latency));
                if outcome.sign() == Sign::Refused {
                    inner.refusals.count(self.started, self.eased, scene.norms().refused());
                    scene.norms().refuse();
                } else {
                    inner.refusals.give_back(self.eased);
                }
                if self.trial.is_some() {
                    inner.probation.fail(self.started, now);
                }
            }
            Sign::Nothing => inner.refusals.give_back(self.eased),
        }
    }

    /// Gives the verdict to the breaker, once.
    fn judge(
        &mut self,
        now: Instant,
        outcome: Outcome,
        scene: &impl Setting,
    ) -> (Verdict, Option<Transition>) {
        let verdict = match outcome {
            Outcome::EndedEarly | Outcome::Carried => self.judge_tunnel(outcome, scene),
            outcome => outcome.verdict(),
        };
        let Some(permit) = self.permit.take() else { return (verdict, None) };
        let mut peers = Peers::Usable;
        if verdict == Verdict::Failure {
            // Only failures look at the other endpoints, and must not hold this endpoint's lock meanwhile.
            let mut rng = scene.health().inner.lock().rng.fork();
            peers = if scene.has_another(self.caller, &mut rng) { Peers::Usable } else { Peers::None };
        }
        let inner = &mut *scene.health().inner.lock();
        if inner.breakers.settle(self.caller, verdict) {
            return (verdict, None);
        }
        let (ended, policy) = ((now, permit), scene.policy());
        let heard = (verdict, outcome != Outcome::NeverReached);
        let transition = inner.breakers.end(self.caller, ended, heard, peers, (&policy, &mut inner.rng));
        let alone = !inner.asked_by.is_some_and(|(_, several)| several);
        if transition == Some(Transition::Restored) || (transition.is_some() && alone) {
            // Its estimate was measured on failures. While it is ejected for all, only the breaker matters.
            inner.latency.forget();
            inner.probation = Probation::default();
        }
        if transition.is_some() && alone {
            // What it refused, and asked for (`Retry-After`), is also others'.
            inner.refusals.forget();
        }
        (verdict, transition)
    }

    /// The verdict on a tunnel depends on the norms of the cluster.
    fn judge_tunnel(&self, outcome: Outcome, scene: &impl Setting) -> Verdict {
        let odd = scene.norms().refusals_are_odd();
        let inner = scene.health().inner.lock();
        match outcome {
            // If tunnels end early at all endpoints, that is the protocol.
            Outcome::EndedEarly if !odd => Verdict::Success,
            Outcome::EndedEarly if !inner.refusals.are_many() && !self.is_probe() => Verdict::Unknown,
            Outcome::Carried if !inner.refusals.are_older_than(self.started) => Verdict::Unknown,
            outcome => outcome.verdict(),
        }
    }
}
