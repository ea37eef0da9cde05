//! An endpoint at run time: its load, its breaker, its connections.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Plan;
use crate::domain::balance::{PeakEwma, Usable, View, cost};
use crate::domain::breaker::{Breaker, Peers, Permit, State, Transition, Verdict};
use crate::domain::outcome::Outcome;
use crate::domain::refuse::Exempt;
use crate::proxy::pool::Pool;
use crate::telemetry::Count;

/// One endpoint of one cluster.
#[derive(Debug)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it may be an address that weir otherwise refuses.
    pub exempt: Exempt,
    /// What it was asked and how it did.
    pub stats: Stats,
    in_flight: AtomicUsize,
    health: Mutex<Health>,
    pools: Box<[Pool]>,
}

/// What is counted of an endpoint.
#[derive(Debug, Default)]
pub struct Stats {
    /// Attempts begun, whatever their outcome.
    pub requests: Count,
    /// Attempts that were its own failure.
    pub failures: Count,
    /// Connections opened to it.
    pub connects: Count,
    /// Times its breaker ejected it.
    pub ejections: Count,
}

#[derive(Debug)]
struct Health {
    latency: PeakEwma,
    breaker: Breaker,
    /// For the breaker's jitter.
    rng: fastrand::Rng,
}

/// Whether an observation is the first of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    First,
    None,
}

impl Backend {
    pub(super) fn new(address: SocketAddr, plan: &Plan, peers: &[f64], now: Instant) -> Self {
        let latency = PeakEwma::joining(now, peers.iter().copied(), PeakEwma::DECAY);
        Self {
            address,
            exempt: plan.exempt,
            stats: Stats::default(),
            in_flight: AtomicUsize::new(0),
            health: Mutex::new(Health {
                latency,
                breaker: Breaker::new(plan.breaker),
                rng: fastrand::Rng::new(),
            }),
            pools: (0..plan.workers).map(|_| Pool::default()).collect(),
        }
    }

    /// The connections that `worker` keeps to it.
    pub fn pool(&self, worker: usize) -> &Pool {
        &self.pools[worker]
    }

    /// Every worker's connections, for sweeping and the admin.
    pub fn pools(&self) -> &[Pool] {
        &self.pools
    }

    /// Requests that are on it now.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// What its breaker does.
    pub fn breaker(&self, now: Instant) -> State {
        self.health.lock().breaker.state(now)
    }

    /// Its latency estimate in nanoseconds, once it has been observed.
    pub fn latency(&self, now: Instant) -> Option<f64> {
        self.health.lock().latency.observed(now)
    }

    /// What the balancer sees of it.
    pub(super) fn view(&self, now: Instant, weight: f64) -> View {
        let health = self.health.lock();
        let usable = if health.breaker.admits(now) { Usable::Yes } else { Usable::No };
        View { usable, cost: cost(health.latency.at(now), self.in_flight(), weight) }
    }

    /// Whether its breaker is closed.
    pub(super) fn is_closed(&self, now: Instant) -> bool {
        self.breaker(now) == State::Closed
    }

    /// A request begins. Pairs with [`Backend::release`].
    pub(super) fn begin(&self, now: Instant) -> Permit {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.health.lock().breaker.begin(now)
    }

    /// The request is over.
    pub(super) fn release(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes in how long the first byte of an answer, or a failure, took; says whether it was the first.
    pub(super) fn observe(&self, now: Instant, outcome: Outcome, latency: Duration) -> News {
        let mut health = self.health.lock();
        let was_guess = health.latency.is_guess();
        match outcome.verdict() {
            Verdict::Success => health.latency.observe(now, latency),
            Verdict::Failure => health.latency.observe_failure(now, latency),
            Verdict::Unknown => {}
        }
        if was_guess && !health.latency.is_guess() { News::First } else { News::None }
    }

    /// Takes what its peers are observed to take for its own latency, as long as nothing is known of that.
    pub(super) fn guess_if_unknown(&self, now: Instant, peers: &[f64]) {
        let mut health = self.health.lock();
        if health.latency.is_guess() {
            health.latency = PeakEwma::joining(now, peers.iter().copied(), PeakEwma::DECAY);
        }
    }

    /// Tells the breaker how a request ended.
    pub(super) fn judge(
        &self,
        now: Instant,
        permit: Permit,
        outcome: Outcome,
        peers: impl FnOnce() -> Peers,
    ) -> Option<Transition> {
        let verdict = outcome.verdict();
        // Only a failure asks about the others, and must not hold this endpoint's lock while it does.
        let peers = if verdict == Verdict::Failure { peers() } else { Peers::Usable };
        let Health { breaker, rng, .. } = &mut *self.health.lock();
        breaker.end(now, permit, verdict, peers, rng)
    }

    /// Forgets the latency of the time it was out, which is made of failures, and takes its peers'.
    pub(super) fn guess(&self, now: Instant, peers: &[f64]) {
        self.health.lock().latency = PeakEwma::joining(now, peers.iter().copied(), PeakEwma::DECAY);
    }

    /// Closes its unused connections, and those still to come back: it left the catalog, or is not to be used now. One
    /// that terminates waits for them.
    pub(super) fn retire(&self) {
        for pool in &self.pools {
            pool.close();
        }
    }

    /// Keeps unused connections again: it is to be used after all.
    pub(super) fn resume(&self) {
        for pool in &self.pools {
            pool.open();
        }
    }
}
