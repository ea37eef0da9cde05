//! An endpoint at run time: its health, its connections, and its counters.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::domain::health::Health;
use crate::domain::health::breaker::{Policy, State};
use crate::domain::health::reach::Reach;
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
    /// Its counters.
    pub stats: Stats,
    /// Its health.
    pub(super) health: Health,
    pools: Box<[Pool]>,
    /// Which pods have reached it, once weir has connected from one.
    reach: Mutex<Option<Box<Reach>>>,
}

/// The counters of an endpoint.
#[derive(Debug, Default)]
pub struct Stats {
    /// Attempts begun, whatever their outcome.
    pub requests: Counter,
    /// Attempts that failed because of the endpoint.
    pub failures: Counter,
    /// Requests that it refused: answers of 429, and tunnels that it ended within a moment.
    pub refusals: Counter,
    /// Requests sent to it although another endpoint was faster or refused less, to measure it again.
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
            reach: Mutex::default(),
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

    /// A connect from this pod succeeded.
    pub fn reached_from(&self, pod: u64) {
        self.reach.lock().get_or_insert_default().connected(pod);
    }

    /// Whether a connect from this pod has succeeded: then one that fails says something about the endpoint, and not only
    /// about what the pod may reach.
    pub fn was_reached_from(&self, pod: u64) -> bool {
        self.reach.lock().as_ref().is_some_and(|reach| reach.has_reached(pod))
    }

    /// Requests in flight on it.
    pub fn in_flight(&self) -> usize {
        self.health.in_flight()
    }

    /// The state of its breaker under this policy, its cluster's, for those callers for which it is worst.
    pub fn breaker(&self, now: Instant, policy: &Policy) -> State {
        self.health.breaker(now, policy)
    }

    /// For how many callers its breaker has ejected it.
    pub fn ejected_for(&self) -> usize {
        self.health.ejected_for()
    }

    /// Its latency estimate in nanoseconds, once it has been observed.
    pub fn latency(&self) -> Option<f64> {
        self.health.latency().map(|estimate| estimate.as_secs_f64() * 1e9)
    }

    /// How much longer it is not to be used, as it asked (`Retry-After`).
    pub fn left_alone(&self, now: Instant) -> Option<Duration> {
        self.health.left_alone(now)
    }

    /// Where connections to it report that they may be silent.
    pub fn doubts(&self) -> &Doubts {
        self.health.doubts()
    }

    /// Whether any of them has reported so.
    pub fn is_in_doubt(&self) -> bool {
        self.doubts().any()
    }

    /// Closes its unused connections: its node is silent, so they are useless, too.
    pub(super) fn close_unused(&self) {
        self.pools.iter().for_each(Pool::clear);
    }

    /// Closes its unused connections, and those in use when they are returned: it left the catalog, or is not to be
    /// used now. A terminating endpoint waits for them.
    pub(super) fn retire(&self) {
        for pool in &self.pools {
            pool.close();
        }
    }

    /// Keeps unused connections again: the endpoint is used after all.
    pub(super) fn resume(&self) {
        for pool in &self.pools {
            pool.open();
        }
    }
}
