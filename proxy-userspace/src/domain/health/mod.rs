//! The health of a cluster's endpoints, and the choice of one for each request.
//!
//! Everything that decides this is here and in [`balance`](super::balance); the product's clusters and the simulator's
//! both run it: [`select`] returns a [`Ticket`] for one request to one endpoint, and the ticket reports the outcome,
//! exactly once, to the endpoint's [`Health`] and to the cluster's [`Norms`].
//!
//! # The cost of a request
//!
//! As in Finagle's `p2c` with `PeakEwma` (linkerd's `ewma` balancer), an endpoint's cost is its latency times its load,
//! and the cheaper of two random candidates gets the request. In Finagle's form, that rule ranks equal endpoints at low
//! load: an estimate that is 1 % smaller always wins, and the others get no requests until their estimates have
//! decayed. It also trusts one slow answer for half a minute. So five things differ:
//!
//! | what | Finagle | here | because |
//! |---|---|---|---|
//! | comparison | the smaller cost | latencies that differ by less than a factor of [`ALIKE`] count as equal, then load decides, then who was picked longest ago | equal endpoints take turns at any load |
//! | noise | none | [0.5 ms](latency) are added to each answer's time | below that it is the scheduler's time, not the endpoint's |
//! | peak | counts fully, at once | counts for at most 4 estimates, with a weight of a fifth | one slow answer means nothing, three in a row do |
//! | decay | of the estimate, by time | none; an endpoint that loses gets a [trial](probation) after enough lost comparisons and enough time, and each failed trial makes the next one rarer | a recovered one is back after one request, one that stays slow gets one request in a hundred |
//! | forgetting | by time | by evidence: a successful trial replaces the estimate | the same |
//!
//! Requests that end too soon (refused, failed, not found) keep counting as [load](load) for a normal request's time,
//! and do not count for latency: a fast refusal is no advantage. [Refusals](refusals) multiply the cost. All constants
//! were chosen with the simulator (`sim`); `docs/balancing.md` has its results.
//!
//! # Ejected endpoints
//!
//! An endpoint that fails a caller (a pod, or another client) several times in a row is ejected for that caller by its
//! [`breaker`]. Failures do not affect the cost: in the
//! simulator, a cost for failures took most of its traffic from an endpoint with one error in a hundred, and kept dead
//! ones for up to a minute until their breakers had counted five.
//!
//! Not here: clocks, sockets, and the list of endpoints, which the caller keeps ([`Tier`]).

pub mod breaker;
mod latency;
mod load;
mod norms;
mod probation;
pub mod reach;
mod refusals;
mod select;
#[cfg(test)]
mod tests;
mod ticket;

pub use breaker::Caller;
pub use norms::Norms;
pub use select::{Policy, Selected, Tier, select};
pub use ticket::{Finished, Scene, Setting, Ticket};

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::balance::{Usable, View};
use super::silence::Doubts;
use breaker::{Breakers, Permit, State};
use latency::Latency;
use load::Lingering;
use probation::Probation;
use refusals::Refusals;

/// Latencies that differ by less than this factor count as equal.
pub const ALIKE: f64 = 3.0;

/// The health of one endpoint; shared by all workers.
#[derive(Debug)]
pub struct Health {
    in_flight: AtomicUsize,
    /// The number of the pick that chose it last.
    picked: AtomicU64,
    /// Connections to it whose peer may be gone.
    doubts: Doubts,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    latency: Latency,
    refusals: Refusals,
    lingering: Lingering,
    probation: Probation,
    breakers: Breakers,
    /// Who asked it first, and whether others have since.
    asked_by: Option<(Caller, bool)>,
    /// For the breaker's jitter.
    rng: fastrand::Rng,
}

impl Health {
    /// A new endpoint, taken to be as good as the others.
    pub fn new(rng: fastrand::Rng) -> Self {
        let inner = Inner {
            latency: Latency::default(),
            refusals: Refusals::default(),
            lingering: Lingering::default(),
            probation: Probation::default(),
            breakers: Breakers::default(),
            asked_by: None,
            rng,
        };
        Self {
            in_flight: AtomicUsize::new(0),
            picked: AtomicU64::new(0),
            doubts: Doubts::default(),
            inner: Mutex::new(inner),
        }
    }

    /// Its requests in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Connections to it whose peer may be gone: while there are any, other endpoints are preferred.
    pub fn doubts(&self) -> &Doubts {
        &self.doubts
    }

    /// The state of its breaker, for those callers for which it is worst.
    pub fn breaker(&self, now: Instant, policy: &breaker::Policy) -> State {
        self.inner.lock().breakers.worst(now, policy)
    }

    /// For how many callers it is ejected.
    pub fn ejected_for(&self) -> usize {
        self.inner.lock().breakers.ejected_for()
    }

    /// Its latency estimate; none before its first answer.
    pub fn latency(&self) -> Option<Duration> {
        self.inner.lock().latency.estimate()
    }

    /// How long it must still be left alone, as it asked (`Retry-After`).
    pub fn left_alone(&self, now: Instant) -> Option<Duration> {
        self.inner.lock().refusals.left_alone(now)
    }

    /// Whether another endpoint may be ejected for a caller because this one is usable.
    fn is_usable(&self, caller: Caller, policy: &breaker::Policy) -> bool {
        self.inner.lock().breakers.is_usable(caller, policy)
    }

    /// Whether a request of a caller may be sent to it.
    pub fn usable(&self, caller: Caller, now: Instant, policy: &breaker::Policy) -> Usable {
        if self.doubts.any() { Usable::No } else { self.inner.lock().usable(caller, now, policy) }
    }

    /// Its state for the balancer, for a caller at this time. `weight` is relative to the mean of the tier's.
    fn view(
        &self,
        (caller, now): (Caller, Instant),
        weight: f64,
        norms: &Norms,
        policy: &breaker::Policy,
    ) -> View {
        let inner = self.inner.lock();
        let weight = weight.max(f64::MIN_POSITIVE);
        let busy = self.in_flight() as f64 + inner.lingering.at(now, || norms.hold());
        let latency = inner.latency.cost().or_else(|| norms.answer()).unwrap_or(latency::FLOOR);
        let waited = norms.picks().wrapping_sub(self.picked.load(Ordering::Relaxed));
        View {
            usable: if self.doubts.any() { Usable::No } else { inner.usable(caller, now, policy) },
            load: busy / weight + 1.0,
            latency: latency * inner.refusals.factor(now),
            due: inner.probation.is_due(now) && inner.refusals.left_alone(now).is_none(),
            waited: waited as f64 * weight,
        }
    }

    /// A request begins. Must be paired with [`Health::release`].
    fn begin(&self, caller: Caller, now: Instant, norms: &Norms, policy: &breaker::Policy) -> (Permit, f64) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.picked.store(norms.pick(), Ordering::Relaxed);
        norms.begin();
        let mut inner = self.inner.lock();
        inner.probation.ask(now);
        let eased = inner.refusals.begin(norms.refused());
        inner.asked_by = match inner.asked_by {
            None => Some((caller, false)),
            Some((other, several)) => Some((other, several || other != caller)),
        };
        (inner.breakers.begin(caller, now, policy), eased)
    }

    /// A request has ended.
    pub fn release(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inner {
    fn usable(&self, caller: Caller, now: Instant, policy: &breaker::Policy) -> Usable {
        match self.breakers.state(caller, now, policy) {
            State::Closed if !self.breakers.is_usable(caller, policy) => Usable::Spared,
            State::Closed | State::Due => Usable::Yes,
            State::Open { .. } | State::Probing => Usable::No,
        }
    }
}
