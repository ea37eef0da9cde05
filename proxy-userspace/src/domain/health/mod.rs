//! How the endpoints of a cluster are doing, and who of them gets the next request.
//!
//! Everything that decides this is here and in [`balance`](super::balance), and both the product's clusters and the
//! simulator's run it: [`select`] gives a [`Ticket`] for one request to one endpoint, and the ticket reports how it went,
//! exactly once, to the endpoint's [`Health`] and to the cluster's [`Norms`].
//!
//! # What a request costs
//!
//! As in Finagle's `p2c` with `PeakEwma` (linkerd's `ewma` balancer) an endpoint's cost is its latency times its load,
//! and the cheaper of two drawn at random gets the request. That rule, as Finagle has it, ranks equal endpoints at low
//! load: an estimate that is 1 % smaller wins every time, and the others are not asked again until theirs have faded. It
//! also believes one slow answer for half a minute. So five things differ:
//!
//! | what | Finagle | here | because |
//! |---|---|---|---|
//! | comparison | the smaller cost | latencies less than [`ALIKE`] times each other count as equal, then load decides, then who was asked longest ago | equal endpoints take turns at any load |
//! | noise | none | [0.5 ms](latency) are added to each answer's time | below that it is the scheduler's time, not the endpoint's |
//! | peak | believed whole, at once | counts for at most 4 estimates, with a weight of a fifth | one slow answer says nothing, three in a row do |
//! | decay | of the estimate, by time | none; an endpoint that loses is [tried](probation) after so many comparisons lost and so much time, and each trial that goes wrong makes the next one rarer | a good one is back after one request, one that stays slow gets one request in a hundred |
//! | forgetting | by time | by evidence: a trial that goes well replaces what was known | the same |
//!
//! Requests that end too soon (refused, failed, not found) go on to count as [load](load) for a normal request's time, and
//! say nothing of latency: who refuses fast does not win. [Refusals](refusals) multiply the cost.
//! All figures were chosen with the simulator (`sim`); `docs/balancing.md` has its results.
//!
//! # Who is asked at all
//!
//! An endpoint that fails several times in a row is ejected by its [`breaker`]. Leaving alone who fails is the breaker's
//! business and not the cost's: in the simulator, a cost for failures took most of its traffic from an endpoint with
//! one error in a hundred, and left dead ones in for up to a minute until their breakers had seen five.
//!
//! Deliberately absent: clocks, sockets, and the list of endpoints, which their owner keeps ([`Tier`]).

pub mod breaker;
mod latency;
mod load;
mod norms;
mod probation;
mod refusals;
mod select;
#[cfg(test)]
mod tests;
mod ticket;

pub use norms::Norms;
pub use select::{Policy, Selected, Tier, select};
pub use ticket::{Finished, Scene, Ticket};

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::balance::{Usable, View};
use super::silence::Doubts;
use breaker::{Breaker, Permit, State};
use latency::Latency;
use load::Lingering;
use probation::Probation;
use refusals::Refusals;

/// Costs of one unit of load that differ by less than this factor are alike.
pub const ALIKE: f64 = 3.0;

/// How one endpoint is doing; shared by all workers.
#[derive(Debug)]
pub struct Health {
    in_flight: AtomicUsize,
    /// The pick by which it was chosen last.
    picked: AtomicU64,
    /// Connections to it whose far side may be gone.
    doubts: Doubts,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    latency: Latency,
    refusals: Refusals,
    lingering: Lingering,
    probation: Probation,
    breaker: Breaker,
    /// For the breaker's jitter.
    rng: fastrand::Rng,
}

impl Health {
    /// Of an endpoint that nothing is known of: it is taken to be as good as the others.
    pub fn new(rng: fastrand::Rng) -> Self {
        let inner = Inner {
            latency: Latency::default(),
            refusals: Refusals::default(),
            lingering: Lingering::default(),
            probation: Probation::default(),
            breaker: Breaker::default(),
            rng,
        };
        Self {
            in_flight: AtomicUsize::new(0),
            picked: AtomicU64::new(0),
            doubts: Doubts::default(),
            inner: Mutex::new(inner),
        }
    }

    /// Requests that are on it now.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Connections to it whose far side may be gone: as long as there are any, others are asked.
    pub fn doubts(&self) -> &Doubts {
        &self.doubts
    }

    /// What its breaker does.
    pub fn breaker(&self, now: Instant, policy: &breaker::Policy) -> State {
        self.inner.lock().breaker.state(now, policy)
    }

    /// Its latency estimate; nothing before its first answer.
    pub fn latency(&self) -> Option<Duration> {
        self.inner.lock().latency.estimate()
    }

    /// For how long it is still to be left alone, as it has asked (`Retry-After`).
    pub fn left_alone(&self, now: Instant) -> Option<Duration> {
        self.inner.lock().refusals.left_alone(now)
    }

    /// Whether another endpoint may be ejected because this one is there.
    fn is_usable(&self, policy: &breaker::Policy) -> bool {
        self.inner.lock().breaker.is_usable(policy)
    }

    /// Whether a request may be sent to it.
    pub fn usable(&self, now: Instant, policy: &breaker::Policy) -> Usable {
        if self.doubts.any() { Usable::No } else { self.inner.lock().usable(now, policy) }
    }

    /// What the balancer sees of it. `weight` is relative to the mean of the tier's.
    fn view(&self, now: Instant, weight: f64, norms: &Norms, policy: &breaker::Policy) -> View {
        let inner = self.inner.lock();
        let weight = weight.max(f64::MIN_POSITIVE);
        let busy = self.in_flight() as f64 + inner.lingering.at(now, || norms.hold());
        let latency = inner.latency.cost().or_else(|| norms.answer()).unwrap_or(latency::FLOOR);
        let waited = norms.picks().wrapping_sub(self.picked.load(Ordering::Relaxed));
        View {
            usable: if self.doubts.any() { Usable::No } else { inner.usable(now, policy) },
            load: busy / weight + 1.0,
            latency: latency * inner.refusals.factor(now),
            due: inner.probation.is_due(now) && inner.refusals.left_alone(now).is_none(),
            waited: waited as f64 * weight,
        }
    }

    /// A request begins. Pairs with [`Health::release`].
    fn begin(&self, now: Instant, norms: &Norms, policy: &breaker::Policy) -> (Permit, f64) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.picked.store(norms.pick(), Ordering::Relaxed);
        norms.begin();
        let mut inner = self.inner.lock();
        inner.probation.ask(now);
        let eased = inner.refusals.begin(norms.refused());
        (inner.breaker.begin(now, policy), eased)
    }

    /// The request is over.
    pub fn release(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inner {
    fn usable(&self, now: Instant, policy: &breaker::Policy) -> Usable {
        match self.breaker.state(now, policy) {
            State::Closed if !self.breaker.is_usable(policy) => Usable::Spared,
            State::Closed | State::Due => Usable::Yes,
            State::Open { .. } | State::Probing => Usable::No,
        }
    }
}
