//! Which endpoint takes the next request: the better of two drawn at random.
//!
//! Comparing two random candidates, rather than looking for the best of all, is what keeps many proxies
//! that share a set of endpoints from all running to the same one (Mitzenmacher, "The Power of Two Choices
//! in Randomized Load Balancing", 1996). What "better" means is one number, [`cost`]: how long a request
//! may take there ([`PeakEwma`]), times how many would be waiting, divided by the endpoint's share.
//!
//! The caller passes one tier only. Terminating endpoints are a second tier, offered when the first, the
//! ready ones, is empty; endpoints that are not ready are never offered. An endpoint that its breaker has
//! ejected *is* offered, as [`Usable::No`], because when every endpoint is ejected the breakers are more
//! likely to be wrong than the whole service to be gone, and one is picked all the same ([`Choice::Forced`]).
//!
//! Deliberately absent: any state. In-flight counts, estimates and breakers belong to the endpoints.

mod ewma;
#[cfg(test)]
mod tests;

pub use ewma::PeakEwma;

/// How a cluster chooses among its endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balancer {
    /// The cheaper of two drawn at random (linkerd's `ewma`).
    #[default]
    P2c,
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
    /// Picks one of `len` candidates, or `None` if there are none. Allocates nothing.
    ///
    /// `avoid` is the candidate that an earlier attempt of the same request used: it is picked only when it
    /// is the only usable one, or the only one. `view` is asked twice as a rule; if one of the two drawn is
    /// not usable, every candidate is looked at once or twice, and two are drawn from the usable ones, so
    /// that ejected endpoints do not make the choice among the rest blind.
    pub fn pick(
        self,
        len: usize,
        avoid: Option<usize>,
        rng: &mut fastrand::Rng,
        view: impl Fn(usize) -> View,
    ) -> Option<Picked> {
        match self {
            Self::P2c => pick(len, avoid, rng, view),
        }
    }
}

/// Power of two choices; see [`Balancer::pick`].
pub fn pick(
    len: usize,
    avoid: Option<usize>,
    rng: &mut fastrand::Rng,
    view: impl Fn(usize) -> View,
) -> Option<Picked> {
    let avoid = avoid.filter(|&index| index < len && len > 1);
    let (first, second) = draw_two(len, avoid, rng)?;
    let (first_view, second_view) = (view(first), view(second));
    if first_view.usable == Usable::Yes && second_view.usable == Usable::Yes {
        let index = if second_view.cost < first_view.cost { second } else { first };
        return Some(Picked { index, choice: Choice::Usable });
    }
    let usable = |index: &usize| view(*index).usable == Usable::Yes;
    if let Some(index) = better_of_two(others(len, avoid).filter(usable), rng, &view) {
        return Some(Picked { index, choice: Choice::Usable });
    }
    if let Some(index) = avoid.filter(usable) {
        return Some(Picked { index, choice: Choice::Usable });
    }
    let index = if second_view.cost < first_view.cost { second } else { first };
    Some(Picked { index, choice: Choice::Forced })
}

/// What a request would cost at an endpoint, in weighted nanoseconds of waiting: its latency estimate, times
/// the requests that would then be in flight there, divided by its weight.
///
/// A `weight` that is not positive, which no source produces, counts as the smallest there is. An estimate
/// below a nanosecond counts as one, since at zero the requests in flight would no longer matter.
pub fn cost(estimate_ns: f64, in_flight: usize, weight: f64) -> f64 {
    estimate_ns.max(1.0) * (in_flight as f64 + 1.0) / weight.max(f64::MIN_POSITIVE)
}

/// Two distinct random candidates, or the only one twice. Neither is `avoid`, which must be one of several.
fn draw_two(len: usize, avoid: Option<usize>, rng: &mut fastrand::Rng) -> Option<(usize, usize)> {
    let count = len - usize::from(avoid.is_some());
    if count == 0 {
        return None;
    }
    let first = rng.usize(..count);
    let second = match count {
        1 => first,
        _ => (first + rng.usize(1..count)) % count,
    };
    // Numbers from `avoid` on stand for the candidate one further.
    let skip = |index: usize| index + usize::from(avoid.is_some_and(|avoid| index >= avoid));
    Some((skip(first), skip(second)))
}

/// Every candidate but `avoid`.
fn others(len: usize, avoid: Option<usize>) -> impl Iterator<Item = usize> {
    (0..len).filter(move |&index| Some(index) != avoid)
}

/// The cheaper of two drawn at random from candidates whose number is not known beforehand.
///
/// Reservoir sampling (Vitter's Algorithm R) with room for two: after `n` candidates each pair of them is
/// held with the same probability.
fn better_of_two(
    candidates: impl Iterator<Item = usize>,
    rng: &mut fastrand::Rng,
    view: impl Fn(usize) -> View,
) -> Option<usize> {
    let mut held = [None; 2];
    for (seen, candidate) in candidates.enumerate() {
        let slot = if seen < 2 { seen } else { rng.usize(..=seen) };
        if let Some(slot) = held.get_mut(slot) {
            *slot = Some(candidate);
        }
    }
    // The order held follows the order seen, and the first wins a tie.
    if held[1].is_some() && rng.bool() {
        held.swap(0, 1);
    }
    match held {
        [Some(first), Some(second)] if view(second).cost < view(first).cost => Some(second),
        [first, _] => first,
    }
}
