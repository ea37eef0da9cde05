//! Load balancing: the better of two random candidates takes the request.
//!
//! Comparing two random candidates, instead of searching for the best of all, keeps many proxies that share a set of
//! endpoints from all choosing the same one (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing",
//! 1996). [`View::compare`] defines "better". Weights decide how often a candidate is drawn ([`Weights`]).
//!
//! The caller passes one tier only. Ready endpoints are the first tier; terminating ones are the second, used if the
//! first is empty; endpoints that are not ready are never passed. An ejected endpoint *is* passed, as [`Usable::No`]:
//! if every endpoint is ejected, the breakers are more likely wrong than the whole service gone, and one is picked
//! anyway ([`Choice::Forced`]).
//!
//! Not here: any state. In-flight counts, estimates and breakers belong to the endpoints ([`health`](super::health)).

use std::cmp::Ordering;

use super::health::ALIKE;

mod rendezvous;
#[cfg(test)]
mod tests;
mod weights;

pub use rendezvous::{identity, score};
pub use weights::Weights;

/// How a cluster chooses among its endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balancer {
    /// The better of two random candidates (linkerd's `ewma`).
    #[default]
    P2c,
    /// The same endpoint for each client address (`sessionAffinity: ClientIP`); see [`score`].
    ClientIp,
}

/// What the balancer sees of one candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// Whether its breaker lets a request through now.
    pub usable: Usable,
    /// Its requests in flight, with the one to be sent, per unit of its weight.
    pub load: f64,
    /// The latency per unit of load, in nanoseconds.
    pub latency: f64,
    /// Whether a trial is due, although others cost less.
    pub due: bool,
    /// Picks since it was last picked, times its weight.
    pub waited: f64,
}

/// Whether a candidate's breaker lets a request through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usable {
    /// It does.
    Yes,
    /// It does, but only as the last endpoint left, which fails as well. If no other is usable either, breakers are
    /// ignored.
    Spared,
    /// It is ejected, or being probed by another request.
    No,
}

/// The outcome of a pick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Picked {
    /// The candidate's index.
    pub index: usize,
    /// Whether breakers were respected.
    pub choice: Choice,
    /// The candidate that lost to it because of its latency.
    pub loser: Option<usize>,
    /// If the picked candidate has the higher latency of the two: the latency of the other.
    pub trial: Option<f64>,
}

/// Whether breakers were respected by a pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The candidate was usable.
    Usable,
    /// No candidate was usable, so breakers were ignored.
    Forced,
}

impl Balancer {
    /// Picks one of the candidates, or `None` if there are none. Does not allocate.
    ///
    /// `avoid` is the candidate that an earlier attempt of the same request used: it is picked only if no other is
    /// usable, or if it is the only one. `view` is usually called twice; if one of the two drawn is not usable, every
    /// candidate is viewed once or twice, and two are drawn from the usable ones, so that ejected endpoints do not skew
    /// the choice among the rest.
    ///
    /// `score` is a candidate's rank for the client; it is called only if the balancer needs it.
    pub fn pick(
        self,
        weights: &Weights,
        avoid: Option<usize>,
        rng: &mut fastrand::Rng,
        score: impl Fn(usize) -> f64,
        view: impl Fn(usize) -> View,
    ) -> Option<Picked> {
        match self {
            Self::P2c => pick(weights, avoid, rng, view),
            Self::ClientIp => rendezvous::pick(weights, avoid, score, view),
        }
    }
}

/// How often two candidates are drawn before all are viewed, if some are not usable.
const DRAWS: usize = 8;

/// Power of two choices; see [`Balancer::pick`].
pub fn pick(
    weights: &Weights,
    avoid: Option<usize>,
    rng: &mut fastrand::Rng,
    view: impl Fn(usize) -> View,
) -> Option<Picked> {
    let len = weights.len();
    let avoid = avoid.filter(|&index| index < len && len > 1);
    let mut drawn = weights.draw_two(avoid, rng)?;
    for _ in 0..DRAWS {
        let views = (view(drawn.0), view(drawn.1));
        if are_usable(views.0.usable, views.1.usable) {
            return Some(better(drawn, views, Choice::Usable));
        }
        if len <= DRAWS {
            break;
        }
        drawn = weights.draw_two(avoid, rng)?;
    }
    let others = (0..len).filter(|&index| Some(index) != avoid);
    if others.clone().any(|index| view(index).usable == Usable::Yes) {
        let others = others.filter(|&index| view(index).usable != Usable::No);
        if let Some(drawn) = weights.draw_two_of(others, rng) {
            return Some(better(drawn, (view(drawn.0), view(drawn.1)), Choice::Usable));
        }
    }
    if let Some(index) = avoid.filter(|&index| view(index).usable == Usable::Yes) {
        return Some(Picked::alone(index, Choice::Usable));
    }
    Some(better(drawn, (view(drawn.0), view(drawn.1)), Choice::Forced))
}

/// Whether one of these may be picked without viewing the others.
fn are_usable(one: Usable, other: Usable) -> bool {
    one != Usable::No && other != Usable::No && (one == Usable::Yes || other == Usable::Yes)
}

/// The better of two candidates.
fn better(drawn: (usize, usize), views: (View, View), choice: Choice) -> Picked {
    if drawn.0 == drawn.1 {
        return Picked::alone(drawn.0, choice);
    }
    let Comparison { second, slower } = views.0.compare(&views.1);
    let (index, other) = if second { (drawn.1, drawn.0) } else { (drawn.0, drawn.1) };
    match slower {
        None => Picked::alone(index, choice),
        Some(Slower::Lost) => Picked { index, choice, loser: Some(other), trial: None },
        Some(Slower::Won) => {
            let faster = if second { views.0 } else { views.1 };
            Picked { index, choice, loser: None, trial: Some(faster.latency) }
        }
    }
}

impl Picked {
    /// A pick without a comparison.
    pub(super) fn alone(index: usize, choice: Choice) -> Self {
        Self { index, choice, loser: None, trial: None }
    }
}

/// How two candidates compare.
struct Comparison {
    /// Whether the second one is better.
    second: bool,
    /// The slower one, if their latencies are not alike.
    slower: Option<Slower>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slower {
    Lost,
    Won,
}

impl View {
    /// The smaller load is better, multiplied by latency if latencies differ by a factor of [`ALIKE`]; on a tie,
    /// the one that waited longer.
    fn compare(&self, other: &Self) -> Comparison {
        let alike = self.latency <= other.latency * ALIKE && other.latency <= self.latency * ALIKE;
        let slower_is_second = other.latency > self.latency;
        let (faster, slower) = if slower_is_second { (self, other) } else { (other, self) };
        let factor = if alike || slower.due { 1.0 } else { slower.latency / faster.latency };
        let slower_wins = match (slower.load * factor).total_cmp(&faster.load) {
            Ordering::Less => true,
            Ordering::Equal => slower.waited > faster.waited,
            Ordering::Greater => false,
        };
        let outcome = if slower_wins { Slower::Won } else { Slower::Lost };
        Comparison { second: slower_wins == slower_is_second, slower: (!alike).then_some(outcome) }
    }
}
