//! Which endpoint takes the next request: the better of two drawn at random.
//!
//! Comparing two random candidates, rather than looking for the best of all, is what keeps many proxies
//! that share a set of endpoints from all running to the same one (Mitzenmacher, "The Power of Two Choices
//! in Randomized Load Balancing", 1996). What "better" means is [`View::compare`]. Weights say how often a candidate
//! is drawn ([`Weights`]).
//!
//! The caller passes one tier only. Terminating endpoints are a second tier, offered when the first, the
//! ready ones, is empty; endpoints that are not ready are never offered. An endpoint that its breaker has
//! ejected *is* offered, as [`Usable::No`], because when every endpoint is ejected the breakers are more
//! likely to be wrong than the whole service to be gone, and one is picked all the same ([`Choice::Forced`]).
//!
//! Deliberately absent: any state. In-flight counts, estimates and breakers belong to the endpoints
//! ([`health`](super::health)).

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
    /// The cheaper of two drawn at random (linkerd's `ewma`).
    #[default]
    P2c,
    /// Each client's own, by its address (`sessionAffinity: ClientIP`); see [`score`].
    ClientIp,
}

/// What the balancer sees of one candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// Whether its breaker lets a request through now.
    pub usable: Usable,
    /// What it has to do for each unit of its weight, with the request that is to be sent.
    pub load: f64,
    /// What one unit of load costs there, in nanoseconds.
    pub latency: f64,
    /// Whether it is to be tried although others cost less.
    pub due: bool,
    /// Picks since it was picked last, times its weight.
    pub waited: f64,
}

/// Whether a candidate's breaker lets a request through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usable {
    /// It does.
    Yes,
    /// It does, but only because no other endpoint was left: it fails as well. Where that is still so, breakers are ignored.
    Spared,
    /// It is ejected, or being probed by another request.
    No,
}

/// The outcome of a pick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Picked {
    /// The candidate's index.
    pub index: usize,
    /// Whether the breakers had a say.
    pub choice: Choice,
    /// The one that lost to it because of its latency.
    pub loser: Option<usize>,
    /// If the candidate's latency is worse than that of the one it was compared with: that one's.
    pub trial: Option<f64>,
}

/// Whether the breakers had a say in a pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The candidate was usable.
    Usable,
    /// No candidate was usable, so that the breakers were ignored.
    Forced,
}

impl Balancer {
    /// Picks one of the candidates, or `None` if there are none. Allocates nothing.
    ///
    /// `avoid` is the candidate that an earlier attempt of the same request used: it is picked only when it
    /// is the only usable one, or the only one. `view` is asked twice as a rule; if one of the two drawn is
    /// not usable, every candidate is looked at once or twice, and two are drawn from the usable ones, so
    /// that ejected endpoints do not make the choice among the rest blind.
    ///
    /// `score` says how high a candidate ranks for the client, and is asked only where that decides.
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

/// How often two candidates are drawn before all are looked at, where some are not usable.
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

/// Whether one of these may be picked without a look at the others.
fn are_usable(one: Usable, other: Usable) -> bool {
    one != Usable::No && other != Usable::No && (one == Usable::Yes || other == Usable::Yes)
}

/// The better of two.
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
    /// Whether the second is the better one.
    second: bool,
    /// If their latencies are not alike, what became of the slower.
    slower: Option<Slower>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slower {
    Lost,
    Won,
}

impl View {
    /// The smaller load is better, times the latency where that is not [`ALIKE`]; of equals the one that has waited longer.
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
