//! Which endpoint takes the next request: the better of two drawn at random.
//!
//! Comparing two random candidates, rather than looking for the best of all, is what keeps many proxies
//! that share a set of endpoints from all running to the same one (Mitzenmacher, "The Power of Two Choices
//! in Randomized Load Balancing", 1996). What "better" means is one number, [`cost`]: how long a request
//! may take there ([`PeakEwma`]), times how many would be waiting. Weights say how often a candidate
//! is drawn ([`Shares`]).
//!
//! The caller passes one tier only. Terminating endpoints are a second tier, offered when the first, the
//! ready ones, is empty; endpoints that are not ready are never offered. An endpoint that its breaker has
//! ejected *is* offered, as [`Usable::No`], because when every endpoint is ejected the breakers are more
//! likely to be wrong than the whole service to be gone, and one is picked all the same ([`Choice::Forced`]).
//!
//! Deliberately absent: any state. In-flight counts, estimates and breakers belong to the endpoints.

mod ewma;
mod rank;
mod shares;
#[cfg(test)]
mod tests;

pub use ewma::PeakEwma;
pub use rank::{identity, score};
pub use shares::Shares;

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
    /// What a request costs there; see [`cost`].
    pub cost: f64,
}

/// Whether a candidate's breaker lets a request through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usable {
    /// It does.
    Yes,
    /// It is ejected, or being probed by another request.
    No,
}

/// The outcome of a pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picked {
    /// The candidate's index.
    pub index: usize,
    /// Whether the breakers had a say.
    pub choice: Choice,
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
        shares: &Shares,
        avoid: Option<usize>,
        rng: &mut fastrand::Rng,
        score: impl Fn(usize) -> f64,
        view: impl Fn(usize) -> View,
    ) -> Option<Picked> {
        match self {
            Self::P2c => pick(shares, avoid, rng, view),
            Self::ClientIp => rank::pick(shares, avoid, score, view),
        }
    }
}

/// Power of two choices; see [`Balancer::pick`].
pub fn pick(
    shares: &Shares,
    avoid: Option<usize>,
    rng: &mut fastrand::Rng,
    view: impl Fn(usize) -> View,
) -> Option<Picked> {
    let len = shares.len();
    let avoid = avoid.filter(|&index| index < len && len > 1);
    let (first, second) = shares.draw_two(avoid, rng)?;
    let (first_view, second_view) = (view(first), view(second));
    let cheaper = if second_view.cost < first_view.cost { second } else { first };
    if first_view.usable == Usable::Yes && second_view.usable == Usable::Yes {
        return Some(Picked { index: cheaper, choice: Choice::Usable });
    }
    let usable = |index: &usize| view(*index).usable == Usable::Yes;
    let others = (0..len).filter(|&index| Some(index) != avoid).filter(usable);
    if let Some((first, second)) = shares.draw_two_of(others, rng) {
        let index = if view(second).cost < view(first).cost { second } else { first };
        return Some(Picked { index, choice: Choice::Usable });
    }
    if let Some(index) = avoid.filter(usable) {
        return Some(Picked { index, choice: Choice::Usable });
    }
    Some(Picked { index: cheaper, choice: Choice::Forced })
}

/// What a request would cost at an endpoint, in nanoseconds of waiting: its latency estimate, times one more
/// than the requests in flight there for each unit of its weight.
///
/// `weight` is relative to the mean ([`Shares::weight`]). It divides the load and not the whole, because
/// weights already say how often a candidate is drawn: idle endpoints of different weights cost the same,
/// and busy ones are level when their load is in proportion. An estimate below a nanosecond counts
/// as one, since at zero the requests in flight would no longer matter.
pub fn cost(estimate_ns: f64, in_flight: usize, weight: f64) -> f64 {
    estimate_ns.max(1.0) * (in_flight as f64 / weight.max(f64::MIN_POSITIVE) + 1.0)
}
