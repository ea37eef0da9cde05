//! Choosing an endpoint, with the right to use it once.

use std::time::Instant;

use super::breaker::{self, Permit};
use super::{Health, Norms, Ticket};
use crate::domain::balance::{Balancer, Choice, Picked, Usable, View, Weights};

/// The endpoints among which one is chosen, as their owner keeps them.
pub trait Tier {
    /// How often each is drawn; also says how many there are.
    fn weights(&self) -> &Weights;

    /// How one is doing.
    fn health(&self, at: usize) -> &Health;
}

/// How endpoints of a cluster are chosen and ejected.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Policy {
    /// How one is chosen.
    pub balancer: Balancer,
    /// When one is ejected, and for how long.
    pub breaker: breaker::Policy,
}

/// An endpoint for one request.
#[derive(Debug)]
pub struct Selected {
    /// Which.
    pub at: usize,
    /// The right to use it.
    pub ticket: Ticket,
    /// Whether the breakers had a say.
    pub choice: Choice,
}

/// Chooses one endpoint of `tier`; nothing if there is none. Those that earlier attempts of the same request `tried` come
/// last, and of these the `last` one. `score` says how high each ranks for the client, where that decides.
pub fn select<T: Tier>(
    tier: &T,
    norms: &Norms,
    policy: &Policy,
    (now, rng): (Instant, &mut fastrand::Rng),
    (tried, last): (impl Fn(usize) -> bool, Option<usize>),
    score: impl Fn(usize) -> f64,
) -> Option<Selected> {
    let view = |at: usize| -> View {
        let view = tier.health(at).view(now, tier.weights().weight(at), norms, &policy.breaker);
        if tried(at) { View { usable: Usable::No, ..view } } else { view }
    };
    // A probe may be taken by another worker between the look and the choice: look again, a few times.
    for _ in 0..3 {
        let mut picked = policy.balancer.pick(tier.weights(), last, rng, &score, view)?;
        if picked.choice == Choice::Forced && tried(picked.index) {
            let untried = untried(tier.weights().len(), &tried, rng).unwrap_or(picked.index);
            picked = Picked::alone(untried, Choice::Forced);
        }
        let health = tier.health(picked.index);
        let begun = health.begin(now, norms, &policy.breaker);
        let lost_the_probe = matches!(begun.0, Permit::Forced(_)) && picked.choice == Choice::Usable;
        if lost_the_probe && tier.weights().len() > 1 {
            health.release();
            continue;
        }
        if let Some(loser) = picked.loser {
            tier.health(loser).inner.lock().probation.lose();
        }
        return Some(selected(picked, begun, now));
    }
    let index = rng.usize(..tier.weights().len());
    let begun = tier.health(index).begin(now, norms, &policy.breaker);
    Some(selected(Picked::alone(index, Choice::Usable), begun, now))
}

fn selected(picked: Picked, begun: (Permit, f64), now: Instant) -> Selected {
    Selected { at: picked.index, ticket: Ticket::new(begun, now, picked.trial), choice: picked.choice }
}

/// Any of those that were not tried, each as likely as the others.
fn untried(len: usize, tried: impl Fn(usize) -> bool, rng: &mut fastrand::Rng) -> Option<usize> {
    let count = (0..len).filter(|&at| !tried(at)).count();
    let nth = (count > 0).then(|| rng.usize(..count))?;
    (0..len).filter(|&at| !tried(at)).nth(nth)
}
