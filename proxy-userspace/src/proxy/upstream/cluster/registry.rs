//! The clusters of the catalog that exist, and which of them are forgotten since nobody uses them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Cluster, Ejected, LazyCluster};
use crate::domain::catalog::ServiceKey;
use crate::telemetry::Counter;

/// Where there are too many clusters, those that were unused for this long are forgotten.
pub const LATELY: Duration = Duration::from_secs(10);

/// The clusters of the catalog that exist, by service.
#[derive(Debug, Default)]
pub struct ClusterRegistry {
    clusters: Mutex<BTreeMap<Key, Registered>>,
    /// Whether there were more than there should be when that was last looked at.
    crowded: AtomicBool,
    /// Clusters that were forgotten, by why: [`ClusterRegistry::REASONS`].
    pub forgotten: [Counter; Self::REASONS.len()],
}

/// A service, and the name of one of its clusters.
type Key = (ServiceKey, Box<str>);

#[derive(Debug)]
struct Registered {
    lazy: Arc<LazyCluster>,
    /// When it was created, or last found to have been used.
    since: Instant,
}

impl ClusterRegistry {
    /// The labels of [`ClusterRegistry::forgotten`].
    pub const REASONS: [&'static str; 2] = ["idle", "full"];

    /// Every cluster, by service: files before Services, then by namespace and name.
    pub fn clusters(&self) -> Vec<Arc<Cluster>> {
        self.clusters.lock().values().filter_map(|it| it.lazy.made()).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.clusters.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there were too many when [`Self::sweep`] last looked: who keeps a cluster without use is to give it up.
    pub fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Relaxed)
    }

    /// Forgets clusters that were unused for `idle`; and of more than `most`, those that were unused for [`LATELY`], the
    /// longest unused first. One with an ejected endpoint, or one that is left alone (`Retry-After`), stays as long as that is
    /// so, and until `idle` if a probe is only due; and what somebody has stays in any case.
    pub fn sweep(&self, now: Instant, idle: Duration, most: usize) {
        let (total, mut unused) = self.unused(now);
        unused.sort_by_key(|(since, _)| *since);
        let mut left = total;
        for (since, lazy) in unused {
            let lasted = now.saturating_duration_since(since);
            let is_idle = lasted >= idle;
            let is_surplus = left > most && lasted >= LATELY;
            if !is_idle && !is_surplus {
                continue;
            }
            let may_go = match lazy.made().map_or(Ejected::None, |it| it.ejected(now)) {
                Ejected::None => true,
                Ejected::Due => is_idle,
                Ejected::Now => false,
            };
            if may_go && lazy.forget(self) {
                left -= 1;
                self.forgotten[usize::from(!is_idle)].inc();
            }
        }
        self.crowded.store(left > most, Ordering::Relaxed);
    }

    /// How many clusters there are, and since when each unused one is so.
    fn unused(&self, now: Instant) -> (usize, Vec<(Instant, Arc<LazyCluster>)>) {
        let mut clusters = self.clusters.lock();
        for registered in clusters.values_mut() {
            if registered.lazy.made().is_some_and(|it| it.takes_used()) {
                registered.since = now;
            }
        }
        let unused = clusters.values().filter(|it| it.since < now);
        (clusters.len(), unused.map(|it| (it.since, it.lazy.clone())).collect())
    }

    pub(super) fn add(&self, lazy: &Arc<LazyCluster>) {
        let registered = Registered { lazy: lazy.clone(), since: Instant::now() };
        self.clusters.lock().insert(key(lazy), registered);
    }

    /// Removes its cluster, unless another has replaced it.
    pub(super) fn remove(&self, lazy: &Arc<LazyCluster>) {
        let (mut clusters, key) = (self.clusters.lock(), key(lazy));
        if clusters.get(&key).is_some_and(|known| Arc::ptr_eq(&known.lazy, lazy)) {
            clusters.remove(&key);
        }
    }
}

fn key(lazy: &LazyCluster) -> Key {
    (lazy.service.clone(), lazy.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalog::{Endpoint, Namer};
    use crate::domain::health::Caller;
    use crate::domain::health::breaker::{Backoff, Policy};
    use crate::domain::outcome::Outcome;
    use crate::domain::ssrf::Exempt;
    use crate::proxy::upstream::cluster::ClusterPolicy;

    const IDLE: Duration = Duration::from_secs(600);

    fn lazy(name: &str) -> Arc<LazyCluster> {
        let key = ServiceKey { namer: Namer::K8s, namespace: "shop".into(), name: name.into() };
        let endpoints = [Endpoint::at("10.0.0.1:80".parse().unwrap())].into();
        Arc::new(LazyCluster::new(key, name.into(), (Exempt::No, 1), Arc::default(), endpoints))
    }

    fn names(registry: &ClusterRegistry) -> Vec<String> {
        registry.clusters().iter().map(|it| it.name.to_string()).collect()
    }

    /// Uses its cluster once.
    fn call(lazy: &Arc<LazyCluster>, registry: &ClusterRegistry) {
        let client = "10.9.9.9:1".parse().unwrap();
        let cluster = lazy.cluster(registry);
        let client = (&client, Caller::default());
        drop(cluster.lease(Instant::now(), &mut fastrand::Rng::with_seed(1), client, &[]).unwrap());
    }

    /// Uses its cluster once, in vain.
    fn fail(lazy: &Arc<LazyCluster>, registry: &ClusterRegistry, now: Instant) {
        let client = "10.9.9.9:1".parse().unwrap();
        let (mut rng, caller) = (fastrand::Rng::with_seed(1), (&client, Caller::default()));
        let lease = lazy.cluster(registry).lease(now, &mut rng, caller, &[]).unwrap();
        lease.finish(now, Outcome::ConnectFailed);
    }

    #[test]
    fn an_unused_cluster_is_forgotten_when_its_time_is_over() {
        let (registry, [used, unused]) = (ClusterRegistry::default(), ["used", "unused"].map(lazy));
        let mut now = Instant::now();
        for lazy in [&used, &unused] {
            call(lazy, &registry);
        }
        for _ in 0..4 {
            now += IDLE / 3;
            registry.sweep(now, IDLE, 100);
            call(&used, &registry);
        }
        now += IDLE / 3;
        registry.sweep(now, IDLE, 100);
        assert_eq!(names(&registry), ["used"]);
        assert_eq!([0, 1].map(|at| registry.forgotten[at].value()), [1, 0]);
    }

    #[test]
    fn a_cluster_with_an_ejected_endpoint_stays_as_long_as_that_is_so() {
        // A breaker that waits for longer than the cluster may be unused, and one that does not.
        for (backoff, [early, late]) in [(2 * IDLE, [true, true]), (IDLE / 2, [true, false])] {
            let backoff = Backoff { min: backoff, max: backoff };
            let breaker = Policy { failures: 1, backoff, ..Policy::default() };
            let (registry, lazy) = (ClusterRegistry::default(), lazy("a"));
            lazy.adopt(Arc::new(ClusterPolicy { breaker, ..ClusterPolicy::default() }));
            lazy.apply(&["10.0.0.1:80", "10.0.0.2:80"].map(|it| Endpoint::at(it.parse().unwrap())).into());
            let start = Instant::now();
            fail(&lazy, &registry, start);
            let is_there = |after: Duration, most: usize| {
                registry.sweep(start + after, IDLE, most);
                !registry.is_empty()
            };
            assert!(is_there(Duration::from_secs(1), 0), "it was used a moment ago");
            assert_eq!(
                [is_there(IDLE - LATELY, 0), is_there(IDLE + LATELY, 9)],
                [early, late],
                "{backoff:?}"
            );
        }
    }

    #[test]
    fn a_cluster_whose_endpoint_asked_to_be_left_alone_stays_until_then() {
        let (registry, lazy) = (ClusterRegistry::default(), lazy("a"));
        let (start, wait) = (Instant::now(), 3 * LATELY);
        let client = "10.9.9.9:1".parse().unwrap();
        let (mut rng, caller) = (fastrand::Rng::with_seed(1), (&client, Caller::default()));
        let mut lease = lazy.cluster(&registry).lease(start, &mut rng, caller, &[]).unwrap();
        lease.leave_alone(start, wait, wait);
        lease.finish(start, Outcome::Answered(429));
        let is_there = |after: Duration| {
            registry.sweep(start + after, IDLE, 0);
            !registry.is_empty()
        };
        let second = Duration::from_secs(1);
        assert_eq!(
            [second, 2 * LATELY, wait - second, wait + second].map(is_there),
            [true, true, true, false]
        );
    }

    #[test]
    fn of_too_many_clusters_the_longest_unused_ones_go_and_those_that_somebody_has_stay() {
        let registry = ClusterRegistry::default();
        let all = ["a", "b", "c", "d"].map(lazy);
        let mut now = Instant::now();
        for lazy in &all {
            call(lazy, &registry);
        }
        let held = all[0].cluster(&registry);
        now += Duration::from_secs(1);
        registry.sweep(now, IDLE, 2);
        assert_eq!((registry.len(), registry.is_crowded()), (4, true), "each was used a moment ago");
        now += Duration::from_secs(1);
        call(&all[3], &registry);
        registry.sweep(now, IDLE, 2);
        now += LATELY - Duration::from_secs(1);
        registry.sweep(now, IDLE, 2);
        assert_eq!((names(&registry), registry.is_crowded()), (vec!["a".to_owned(), "d".to_owned()], false));
        assert_eq!([0, 1].map(|at| registry.forgotten[at].value()), [0, 2]);
        drop(held);
        registry.sweep(now, IDLE, 1);
        assert_eq!(names(&registry), ["d"]);
    }
}
