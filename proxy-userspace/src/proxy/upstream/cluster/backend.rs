//! An endpoint at run time: its health, its connections, and its counters.
//!
//! Of a large service, a node uses few endpoints. One that was not used costs only its address: what is known of it is made
//! when it is first used.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
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
    /// What it shares with the others of its cluster.
    common: Arc<Common>,
    /// What is known of it, once it was used.
    used: OnceLock<Box<Used>>,
}

/// What the endpoints of a cluster share.
#[derive(Debug)]
pub(super) struct Common {
    /// Number of data-plane workers: each has its own connections to each endpoint.
    pub(super) workers: usize,
    /// Those that were used: what is done now and then with connections need not look at all the others.
    used: Mutex<Vec<Weak<Backend>>>,
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

impl Common {
    pub(super) fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self { workers, used: Mutex::default() })
    }

    /// The endpoints that were used, if they are still there.
    pub(super) fn used(&self) -> Vec<Arc<Backend>> {
        let mut used = self.used.lock();
        used.retain(|it| it.strong_count() > 0);
        used.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Backend {
    pub(super) fn new(address: SocketAddr, exempt: Exempt, common: Arc<Common>) -> Self {
        Self { address, exempt, closed: AtomicBool::new(false), common, used: OnceLock::new() }
    }

    #[inline]
    fn used(self: &Arc<Self>) -> &Used {
        self.used.get().map_or_else(|| self.make(), |it| &**it)
    }

    #[cold]
    fn make(self: &Arc<Self>) -> &Used {
        let used = self.used.get_or_init(|| {
            self.common.used.lock().push(Arc::downgrade(self));
            Box::new(Used {
                stats: Stats::default(),
                health: Health::new(fastrand::Rng::new()),
                pools: (0..self.common.workers).map(|_| Pool::default()).collect(),
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
    pub fn stats(self: &Arc<Self>) -> &Stats {
        &self.used().stats
    }

    /// Its counters, if it was used.
    pub fn counted(&self) -> Option<&Stats> {
        self.used.get().map(|it| &it.stats)
    }

    /// Its health, to change.
    pub(super) fn health(self: &Arc<Self>) -> &Health {
        &self.used().health
    }

    /// Its health, if it was used.
    pub(super) fn known_health(&self) -> Option<&Health> {
        self.used.get().map(|it| &it.health)
    }

    /// The connections that `worker` keeps to it, to keep one.
    pub fn pool(self: &Arc<Self>, worker: usize) -> &Pool {
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
    pub fn reached_from(self: &Arc<Self>, pod: u64) {
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
    pub fn doubts(self: &Arc<Self>) -> &Doubts {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalog::Endpoint;
    use crate::domain::health::Caller;
    use crate::proxy::upstream::cluster::Cluster;

    #[test]
    fn of_many_endpoints_only_those_that_were_used_are_looked_at_until_they_are_gone() {
        let at = |port: u16| SocketAddr::from(([10, 1, 0, 1], port));
        let cluster = Arc::new(Cluster::new("/svc/many".into(), Exempt::No, 2, Arc::default()));
        cluster.apply(&(1..=1_000).map(|port| Endpoint::at(at(port))).collect());
        let used = || cluster.used_backends().iter().map(|it| it.address).collect::<Vec<_>>();
        // What it is asked for its state makes nothing known of it.
        let now = Instant::now();
        let members = cluster.members();
        assert!(
            members.all.iter().all(|it| it.backend.known_pool(0).is_none() && it.backend.in_flight() == 0)
        );
        drop(members);
        assert!(used().is_empty());
        let mut rng = fastrand::Rng::with_seed(1);
        let lease = cluster.lease(now, &mut rng, (&at(9), Caller::default()), &[]).unwrap();
        let address = lease.backend().address;
        assert_eq!(used(), [address]);
        // It leaves the service, and its request goes on.
        cluster.apply(&[Endpoint::at(at(2_000))].into());
        assert_eq!(used(), [address]);
        drop(lease);
        assert!(used().is_empty());
    }
}
