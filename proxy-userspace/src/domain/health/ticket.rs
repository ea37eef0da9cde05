//! The right to use one endpoint once, and what its use says of the endpoint.

use std::time::{Duration, Instant};

use super::breaker::{self, Peers, Permit, Transition, Verdict};
use super::latency::cost;
use super::probation::Probation;
use super::{ALIKE, Health, Norms, Tier};
use crate::domain::outcome::{Outcome, Sign};

/// How many endpoints are asked whether they are to be relied on.
const ASKED: usize = 64;

/// The right to use one endpoint once. Whoever holds it calls [`Ticket::finish`] once, and then drops it.
#[derive(Debug)]
pub struct Ticket {
    /// Until the breaker has been told.
    permit: Option<Permit>,
    started: Instant,
    /// What its beginning took from the cost of refusals.
    eased: f64,
    /// If the endpoint was worse than another when it was chosen: what the other's latency was, in nanoseconds.
    trial: Option<f64>,
    /// Once the answer's head is here.
    answered: Option<Outcome>,
}

/// What the end of a use came to.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    /// How it counts.
    pub outcome: Outcome,
    /// What it said of the endpoint.
    pub verdict: Verdict,
    /// What the breaker did.
    pub transition: Option<Transition>,
    /// How long it took.
    pub took: Duration,
}

/// Where a ticket is used.
#[derive(Clone, Copy)]
pub struct Scene<'a, T> {
    /// The endpoints among which this one was chosen, or those that are there now.
    pub tier: &'a T,
    /// How the endpoint is doing.
    pub health: &'a Health,
    /// What is normal in its cluster.
    pub norms: &'a Norms,
    /// When endpoints are ejected.
    pub policy: &'a breaker::Policy,
}

impl<T> Scene<'_, T> {
    /// Whether the tier has another endpoint to rely on. Of many only some are asked: were all of them out, each
    /// failure would have to ask each of them.
    fn has_another(&self, rng: &mut fastrand::Rng) -> bool
    where
        T: Tier,
    {
        let len = self.tier.weights().len();
        let first = rng.usize(..len.max(1));
        let mut others = (0..len.min(ASKED)).map(|step| self.tier.health((first + step) % len));
        others.any(|it| !std::ptr::eq(it, self.health) && it.is_usable(self.policy))
    }
}

impl Ticket {
    pub(super) fn new((permit, eased): (Permit, f64), started: Instant, trial: Option<f64>) -> Self {
        Self { permit: Some(permit), started, eased, trial, answered: None }
    }

    /// When it was given.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// What the answer's head said, once it is here.
    pub fn outcome(&self) -> Option<Outcome> {
        self.answered
    }

    /// Whether the endpoint was worse than another when it was chosen.
    pub fn is_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// Whether the breaker decides by this use whether the endpoint is restored.
    pub fn is_probe(&self) -> bool {
        matches!(self.permit, Some(Permit::Probe(..) | Permit::Forced(_)))
    }

    /// The head of the answer is here, or a tunnel has lived for a while. Latency is measured to this point: how long a body
    /// takes is the body's. A failure, and the result of a probe, reach the breaker now, since a body may stream for
    /// hours; anything else at the end, because an answer cut short is a failure whatever its status said.
    pub fn answered(
        &mut self,
        now: Instant,
        outcome: Outcome,
        scene: &Scene<'_, impl Tier>,
    ) -> Option<Transition> {
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
            // How it ends may still be its endpoint's failure.
            self.permit = permit;
        }
        self.observe(now, outcome, scene);
        transition
    }

    /// The use is over.
    pub fn finish(&mut self, now: Instant, outcome: Outcome, scene: &Scene<'_, impl Tier>) -> Finished {
        // A failure that the breaker has heard of stays one when its client leaves before the body's end.
        let failed = self.answered.filter(|it| it.verdict() == Verdict::Failure);
        let outcome = if outcome == Outcome::Abandoned { failed.unwrap_or(outcome) } else { outcome };
        let took = now.saturating_duration_since(self.started);
        let (verdict, transition) = self.judge(now, outcome, scene);
        if self.answered.is_none() {
            self.observe(now, outcome, scene);
        }
        match outcome.sign() {
            Sign::Served => scene.norms.observe_hold(took),
            Sign::Answered | Sign::Refused | Sign::Failed => {
                scene.health.inner.lock().lingering.add(now, took, scene.norms.hold());
            }
            Sign::Nothing => {}
        }
        Finished { outcome, verdict, transition, took }
    }

    /// The endpoint asks to be left alone for so long (`Retry-After`), which it is for `most` at most.
    pub fn leave_alone(&self, now: Instant, wait: Duration, most: Duration, scene: &Scene<'_, impl Tier>) {
        scene.health.inner.lock().refusals.leave_alone(now, wait.min(most));
    }

    fn observe(&self, now: Instant, outcome: Outcome, scene: &Scene<'_, impl Tier>) {
        let took = now.saturating_duration_since(self.started);
        let norm = scene.norms.answer();
        let inner = &mut *scene.health.inner.lock();
        match outcome.sign() {
            Sign::Served => {
                scene.norms.serve();
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
                    inner.latency.observe(took, norm);
                    scene.norms.observe_answer(took);
                }
            }
            Sign::Answered => {
                inner.latency.observe_at_least(took, norm);
                if self.trial.is_some() {
                    inner.refusals.forget();
                }
            }
            Sign::Refused | Sign::Failed => {
                inner.latency.observe_at_least(took, norm);
                if outcome.sign() == Sign::Refused {
                    inner.refusals.count(self.started, self.eased, scene.norms.refused());
                    scene.norms.refuse();
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

    /// Tells the breaker, once.
    fn judge(
        &mut self,
        now: Instant,
        outcome: Outcome,
        scene: &Scene<'_, impl Tier>,
    ) -> (Verdict, Option<Transition>) {
        let policy = scene.policy;
        let verdict = match outcome {
            Outcome::EndedEarly | Outcome::Carried => self.judge_tunnel(outcome, scene),
            outcome => outcome.verdict(),
        };
        let Some(permit) = self.permit.take() else { return (verdict, None) };
        let mut peers = Peers::Usable;
        if verdict == Verdict::Failure {
            // Only a failure asks about the others, and must not hold this endpoint's lock while it does.
            let mut rng = scene.health.inner.lock().rng.fork();
            peers = if scene.has_another(&mut rng) { Peers::Usable } else { Peers::None };
        }
        let inner = &mut *scene.health.inner.lock();
        let transition = inner.breaker.end(now, permit, verdict, peers, (policy, &mut inner.rng));
        if transition.is_some() {
            // What is known of it is made of failures. It is the breaker's business while it is out, and then begins anew.
            inner.latency.forget();
            inner.refusals.forget();
            inner.probation = Probation::default();
        }
        (verdict, transition)
    }

    /// What a tunnel says to the breaker depends on what is normal.
    fn judge_tunnel(&self, outcome: Outcome, scene: &Scene<'_, impl Tier>) -> Verdict {
        let odd = scene.norms.refusals_are_odd();
        let inner = scene.health.inner.lock();
        match outcome {
            // Where the tunnels of all end within a moment, that is how the protocol is.
            Outcome::EndedEarly if !odd => Verdict::Success,
            Outcome::EndedEarly if !inner.refusals.are_many() && !self.is_probe() => Verdict::Unknown,
            Outcome::Carried if !inner.refusals.are_older_than(self.started) => Verdict::Unknown,
            outcome => outcome.verdict(),
        }
    }
}
