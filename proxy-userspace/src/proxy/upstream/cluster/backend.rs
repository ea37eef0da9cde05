//! An endpoint at run time: its health, its connections, and its counters.
//!
//! Of a large service, a node uses few endpoints. One that was not used costs only its address: what is known of it is made
//! when it is first used.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Whether it keeps no unused connections: it left the catalog, or is not to be used now.
    closed: AtomicBool,
    workers: usize,
    /// What is known of it, once it was used.
    used: OnceLock<Box<Used>>,
}

/// What is known of an endpoint that was used.
#[derive(Debug)]
struct Used {
    stats: Stats,
    health: Health,
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
        Self { address, exempt, closed: AtomicBool::new(false), workers, used: OnceLock::new() }
    }

    #[inline]
    fn used(&self) -> &Used {
        self.used.get().map_or_else(|| self.make(), |it| &**it)
    }

    #[cold]
    fn make(&self) -> &Used {
        let used = self.used.get_or_init(|| {
            Box::new(Used {
                stats: Stats::default(),
                health: Health::new(fastrand::Rng::new()),
                pools: (0..self.workers).map(|_| Pool::default()).collect(),
                reach: Mutex::default(),
            })
        });
        // Whoever closes it meanwhile sees the pools, or this sees that it is closed.
        if self.closed.load(Ordering::SeqCst) {
            used.pools.iter().for_each(Pool::close);
        }
        used
    }

    /// Its counters, to count.
    pub fn stats(&self) -> &Stats {
        &self.used().stats
    }

    /// Its counters, if it was used.
    pub fn counted(&self) -> Option<&Stats> {
        self.used.get().map(|it| &it.stats)
    }

    /// Its health, to change.
    pub(super) fn health(&self) -> &Health {
        &self.used().health
    }

    /// Its health, if it was used.
    pub(super) fn known_health(&self) -> Option<&Health> {
        self.used.get().map(|it| &it.health)
    }

    /// The connections that `worker` keeps to it, to keep one.
    pub fn pool(&self, worker: usize) -> &Pool {
        &self.used().pools[worker]
    }

    /// The connections that `worker` keeps to it, if it was used.
    pub fn known_pool(&self, worker: usize) -> Option<&Pool> {
        self.pools().get(worker)
    }

    /// Every worker's connections, for sweeping and the admin; none before it was used.
    pub fn pools(&self) -> &[Pool] {
        self.used.get().map(|it| &*it.pools).unwrap_or_default()
    }

    /// A connect from this pod succeeded.
    pub fn reached_from(&self, pod: u64) {
        self.used().reach.lock().get_or_insert_default().connected(pod);
    }

    /// Whether a connect from this pod has succeeded: then one that fails says something about the endpoint, and not only
    /// about what the pod may reach.
    pub fn was_reached_from(&self, pod: u64) -> bool {
        let has_reached = |it: &Used| it.reach.lock().as_ref().is_some_and(|reach| reach.has_reached(pod));
        self.used.get().is_some_and(|it| has_reached(it))
    }

    /// Requests in flight on it.
    pub fn in_flight(&self) -> usize {
        self.known_health().map_or(0, Health::in_flight)
    }

    /// The state of its breaker under this policy, its cluster's, for those callers for which it is worst.
    pub fn breaker(&self, now: Instant, policy: &Policy) -> State {
        self.known_health().map_or(State::Closed, |it| it.breaker(now, policy))
    }

    /// For how many callers its breaker has ejected it.
    pub fn ejected_for(&self) -> usize {
        self.known_health().map_or(0, Health::ejected_for)
    }

    /// Its latency estimate in nanoseconds, once it has been observed.
    pub fn latency(&self) -> Option<f64> {
        self.known_health()?.latency().map(|estimate| estimate.as_secs_f64() * 1e9)
    }

    /// How much longer it is not to be used, as it asked (`Retry-After`).
    pub fn left_alone(&self, now: Instant) -> Option<Duration> {
        self.known_health()?.left_alone(now)
    }

    /// Where connections to it report that they may be silent.
    pub fn doubts(&self) -> &Doubts {
        self.health().doubts()
    }

    /// Whether any of them has reported so.
    pub fn is_in_doubt(&self) -> bool {
        self.known_health().is_some_and(|it| it.doubts().any())
    }

    /// Closes its unused connections: its node is silent, so they are useless, too.
    pub(super) fn close_unused(&self) {
        self.pools().iter().for_each(Pool::clear);
    }

    /// Closes its unused connections, and those in use when they are returned: it left the catalog, or is not to be
    /// used now. A terminating endpoint waits for them.
    pub(super) fn retire(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.pools().iter().for_each(Pool::close);
    }

    /// Keeps unused connections again: the endpoint is used after all.
    pub(super) fn resume(&self) {
        self.closed.store(false, Ordering::SeqCst);
        self.pools().iter().for_each(Pool::open);
    }
}
