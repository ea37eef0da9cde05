//! Selecting an endpoint for one request.

use std::time::Instant;

use super::breaker::{self, Caller, Permit};
use super::{Health, Norms, Ticket};
use crate::domain::balance::{Balancer, Choice, Picked, Usable, View, Weights};

/// The endpoints to choose from, as the caller keeps them.
pub trait Tier {
    /// Their weights, and their number.
    fn weights(&self) -> &Weights;

    /// The health of one endpoint, to look at: of one that was never chosen it may stand for all such ones.
    fn health(&self, at: usize) -> &Health;

    /// The health of one endpoint, to change: its own.
    fn used(&self, at: usize) -> &Health {
        self.health(at)
    }
}

/// How endpoints of a cluster are selected and ejected.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Policy {
    /// How one is selected.
    pub balancer: Balancer,
    /// When one is ejected, and for how long.
    pub breaker: breaker::Policy,
}

/// The endpoint for one request.
#[derive(Debug)]
pub struct Selected {
    /// Its index.
    pub at: usize,
    /// The permission to use it.
    pub ticket: Ticket,
    /// Whether breakers were respected.
    pub choice: Choice,
}

/// Selects one endpoint of `tier`; none if it is empty. Those that earlier attempts of the same request `tried` come
/// last, and of these the `last` one. `score` is the rank of each for the client, if the balancer needs it. Breakers are
/// those of `caller`.
pub fn select<T: Tier>(
    caller: Caller,
    tier: &T,
    norms: &Norms,
    policy: &Policy,
    (now, rng): (Instant, &mut fastrand::Rng),
    (tried, last): (impl Fn(usize) -> bool, Option<usize>),
    score: impl Fn(usize) -> f64,
) -> Option<Selected> {
    let view = |at: usize| -> View {
        let view = tier.health(at).view((caller, now), tier.weights().weight(at), norms, &policy.breaker);
        if tried(at) { View { usable: Usable::No, ..view } } else { view }
    };
    // Another worker may take a probe between the look and the choice: retry a few times.
    for _ in 0..3 {
        let mut picked = policy.balancer.pick(tier.weights(), last, rng, &score, view)?;
        if picked.choice == Choice::Forced && tried(picked.index) {
            let untried = untried(tier.weights().len(), &tried, rng).unwrap_or(picked.index);
            picked = Picked::alone(untried, Choice::Forced);
        }
        let health = tier.used(picked.index);
        let begun = health.begin(caller, now, norms, &policy.breaker);
        let lost_the_probe = matches!(begun.0, Permit::Forced(_)) && picked.choice == Choice::Usable;
        if lost_the_probe && tier.weights().len() > 1 {
            health.release();
            continue;
        }
        if let Some(loser) = picked.loser {
            tier.used(loser).inner.lock().probation.lose();
        }
        return Some(selected(caller, picked, begun, now));
    }
    let index = rng.usize(..tier.weights().len());
    let begun = tier.used(index).begin(caller, now, norms, &policy.breaker);
    Some(selected(caller, Picked::alone(index, Choice::Usable), begun, now))
}

fn selected(caller: Caller, picked: Picked, begun: (Permit, f64), now: Instant) -> Selected {
    Selected {
        at: picked.index,
        ticket: Ticket::new(caller, begun, now, picked.trial),
        choice: picked.choice,
    }
}

/// Any of those not tried yet, with equal probability.
fn untried(len: usize, tried: impl Fn(usize) -> bool, rng: &mut fastrand::Rng) -> Option<usize> {
    let count = (0..len).filter(|&at| !tried(at)).count();
    let nth = (count > 0).then(|| rng.usize(..count))?;
    (0..len).filter(|&at| !tried(at)).nth(nth)
}
