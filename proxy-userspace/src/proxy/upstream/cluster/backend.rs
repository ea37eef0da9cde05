//! An endpoint at run time: its health, its connections, and what is counted of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::domain::health::Health;
use crate::domain::health::breaker::{Policy, State};
use crate::domain::silence::Doubts;
use crate::domain::ssrf::Exempt;
use crate::proxy::upstream::Pool;
use crate::telemetry::Counter;

/// One endpoint of one cluster.
#[derive(Debug)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it may be an address that weir otherwise refuses.
    pub exempt: Exempt,
    /// What it was asked and how it did.
    pub stats: Stats,
    /// How it is doing.
    pub(super) health: Health,
    pools: Box<[Pool]>,
}

/// What is counted of an endpoint.
#[derive(Debug, Default)]
pub struct Stats {
    /// Attempts begun, whatever their outcome.
    pub requests: Counter,
    /// Attempts that were its own failure.
    pub failures: Counter,
    /// Requests that it turned away: answers of 429, and tunnels that it ended within a moment.
    pub refusals: Counter,
    /// Requests that it got although another endpoint was faster or refused less, to see whether that is still so.
    pub trials: Counter,
    /// Connections opened to it.
    pub connects: Counter,
    /// Times its breaker ejected it.
    pub ejections: Counter,
}

impl Backend {
    pub(super) fn new(address: SocketAddr, exempt: Exempt, workers: usize) -> Self {
        Self {
            address,
            exempt,
            stats: Stats::default(),
            health: Health::new(fastrand::Rng::new()),
            pools: (0..workers).map(|_| Pool::default()).collect(),
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
        self.health.in_flight()
    }

    /// What its breaker does by this policy, its cluster's.
    pub fn breaker(&self, now: Instant, policy: &Policy) -> State {
        self.health.breaker(now, policy)
    }

    /// Its latency estimate in nanoseconds, once it has been observed.
    pub fn latency(&self) -> Option<f64> {
        self.health.latency().map(|estimate| estimate.as_secs_f64() * 1e9)
    }

    /// For how long it is still to be left alone, as it has asked (`Retry-After`).
    pub fn left_alone(&self, now: Instant) -> Option<Duration> {
        self.health.left_alone(now)
    }

    /// Where connections to it say that they may turn out to be silent.
    pub fn doubts(&self) -> &Doubts {
        self.health.doubts()
    }

    /// Whether any of them says so.
    pub fn is_in_doubt(&self) -> bool {
        self.doubts().any()
    }

    /// Closes its unused connections: its node is silent, so they lead to nobody either.
    pub(super) fn close_unused(&self) {
        self.pools.iter().for_each(Pool::clear);
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
