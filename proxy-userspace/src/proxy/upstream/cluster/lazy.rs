//! Creates a service port's cluster when its name is first bound or its address first dialled.
//!
//! A node talks to few of a large cluster's services. An unused one costs only its [`LazyCluster`]: a name and a
//! pointer to the catalog's endpoints, some 150 bytes, where a cluster costs 600, and 600 more for each endpoint. A
//! cluster that nobody uses any more is forgotten (`registry.rs`), and created anew when it is used again.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use super::{Cluster, ClusterPolicy, ClusterRegistry};
use crate::domain::catalog::{Endpoint, ServiceKey};
use crate::domain::ssrf::Exempt;

/// One service port's cluster, created on first use. Snapshots share it as long as the port is unchanged.
#[derive(Debug)]
pub struct LazyCluster {
    /// The service.
    pub service: ServiceKey,
    /// The cluster's name.
    pub name: Box<str>,
    /// Which otherwise refused addresses its endpoints may have.
    pub exempt: Exempt,
    workers: usize,
    cluster: ArcSwapOption<Cluster>,
    state: Mutex<State>,
}

/// Changes under the lock, so that a cluster created while its endpoints or settings change gets the newer ones.
#[derive(Debug)]
struct State {
    endpoints: Arc<[Endpoint]>,
    policy: Arc<ClusterPolicy>,
    /// No snapshot names it any more.
    retired: bool,
}

impl LazyCluster {
    /// A cluster that is not created yet.
    pub fn new(
        service: ServiceKey,
        name: Box<str>,
        (exempt, workers): (Exempt, usize),
        policy: Arc<ClusterPolicy>,
        endpoints: Arc<[Endpoint]>,
    ) -> Self {
        let state = Mutex::new(State { endpoints, policy, retired: false });
        Self { service, name, exempt, workers, cluster: ArcSwapOption::empty(), state }
    }

    /// The cluster; created now if needed, and then registered in `registry`.
    pub fn cluster(self: &Arc<Self>, registry: &ClusterRegistry) -> Arc<Cluster> {
        self.cluster.load_full().unwrap_or_else(|| self.make(registry))
    }

    /// The cluster, if there is one now.
    pub fn made(&self) -> Option<Arc<Cluster>> {
        self.cluster.load_full()
    }

    /// The endpoints as the catalog has them now.
    pub fn endpoints(&self) -> Arc<[Endpoint]> {
        self.state.lock().endpoints.clone()
    }

    /// The cluster's settings, whether it was created or not.
    pub fn policy(&self) -> Arc<ClusterPolicy> {
        self.state.lock().policy.clone()
    }

    /// Adopts `policy`, as [`Cluster::adopt`].
    pub fn adopt(&self, policy: Arc<ClusterPolicy>) {
        let mut state = self.state.lock();
        if state.policy == policy {
            return;
        }
        if let Some(cluster) = self.made() {
            cluster.adopt(&policy);
        }
        state.policy = policy;
    }

    /// Applies `endpoints`, as [`Cluster::apply`].
    pub fn apply(&self, endpoints: &Arc<[Endpoint]>) {
        let mut state = self.state.lock();
        state.endpoints = endpoints.clone();
        if let Some(cluster) = self.made() {
            cluster.apply(endpoints);
        }
    }

    /// No snapshot names it any more: its cluster is removed from `registry`, and closes its unused connections.
    pub fn retire(self: &Arc<Self>, registry: &ClusterRegistry) {
        let mut state = self.state.lock();
        state.retired = true;
        if let Some(cluster) = self.made() {
            registry.remove(self);
            cluster.retire();
        }
    }

    /// Forgets the cluster, if nobody has it: no route, no request, no connection. Returns whether it did.
    pub(super) fn forget(self: &Arc<Self>, registry: &ClusterRegistry) -> bool {
        // While the lock is held, none is created.
        let state = self.state.lock();
        let Some(cluster) = self.cluster.swap(None) else { return false };
        // It cannot be got from here any more, so nobody who has it now comes later.
        if Arc::strong_count(&cluster) > 1 || !cluster.has_unused_views() {
            self.cluster.store(Some(cluster));
            return false;
        }
        registry.remove(self);
        drop(state);
        cluster.retire();
        true
    }

    #[cold]
    fn make(self: &Arc<Self>, registry: &ClusterRegistry) -> Arc<Cluster> {
        let state = self.state.lock();
        if let Some(cluster) = self.made() {
            return cluster;
        }
        let cluster =
            Arc::new(Cluster::new(self.name.clone(), self.exempt, self.workers, state.policy.clone()));
        cluster.apply(&state.endpoints);
        self.cluster.store(Some(cluster.clone()));
        // A request with an older snapshot may create the cluster after this; it is dropped with that snapshot.
        if !state.retired {
            registry.add(self);
        }
        cluster
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalog::Namer;

    fn lazy(endpoints: &[&str]) -> Arc<LazyCluster> {
        let key = ServiceKey { namer: Namer::K8s, namespace: "shop".into(), name: "web".into() };
        Arc::new(LazyCluster::new(key, "web.shop".into(), (Exempt::No, 1), Arc::default(), of(endpoints)))
    }

    fn of(endpoints: &[&str]) -> Arc<[Endpoint]> {
        endpoints.iter().map(|address| Endpoint::at(address.parse().unwrap())).collect()
    }

    #[test]
    fn a_cluster_is_made_once_with_the_endpoints_of_that_moment_and_follows_them() {
        let (lazy, registry) = (lazy(&["10.0.0.1:80"]), ClusterRegistry::default());
        lazy.apply(&of(&["10.0.0.1:80", "10.0.0.2:80"]));
        assert!(lazy.made().is_none() && registry.clusters().is_empty());
        let cluster = lazy.cluster(&registry);
        assert_eq!(cluster.members().all.len(), 2);
        lazy.apply(&of(&["10.0.0.3:80"]));
        assert!(Arc::ptr_eq(&cluster, &lazy.cluster(&registry)));
        assert_eq!(cluster.members().all[0].backend.address, "10.0.0.3:80".parse().unwrap());
        assert_eq!(registry.clusters().len(), 1);
    }

    #[test]
    fn a_seat_that_nothing_names_is_forgotten_and_stays_so() {
        let (early, late, registry) = (lazy(&[]), lazy(&[]), ClusterRegistry::default());
        early.cluster(&registry);
        early.retire(&registry);
        late.retire(&registry);
        late.cluster(&registry);
        assert!(registry.clusters().is_empty());
    }

    #[test]
    fn a_cluster_that_somebody_has_is_not_forgotten_and_another_one_is_made_anew() {
        let (lazy, registry) = (lazy(&["10.0.0.1:80"]), ClusterRegistry::default());
        assert!(!lazy.forget(&registry), "there is none");
        let cluster = lazy.cluster(&registry);
        assert!(!lazy.forget(&registry));
        assert!(Arc::ptr_eq(&cluster, &lazy.cluster(&registry)) && !cluster.is_retired());
        drop(cluster);
        lazy.apply(&of(&["10.0.0.1:80", "10.0.0.2:80"]));
        assert!(lazy.forget(&registry) && lazy.made().is_none() && registry.clusters().is_empty());
        assert_eq!(lazy.cluster(&registry).members().all.len(), 2, "with the endpoints of now");
        assert_eq!(registry.clusters().len(), 1);
    }

    #[test]
    fn a_cluster_is_never_forgotten_while_it_is_handed_out() {
        let (lazy, registry) = (lazy(&["10.0.0.1:80"]), ClusterRegistry::default());
        std::thread::scope(|scope| {
            let forgetting = scope.spawn(|| (0..20_000).filter(|_| lazy.forget(&registry)).count());
            for _ in 0..20_000 {
                let cluster = lazy.cluster(&registry);
                assert!(!cluster.is_retired());
            }
            forgetting.join().unwrap();
        });
    }
}
