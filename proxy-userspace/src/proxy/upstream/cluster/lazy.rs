//! Creates a service port's cluster when its name is first bound or its address first dialled.
//!
//! A node talks to few of a large cluster's services. An unused one costs only its [`LazyCluster`]: a name and a
//! pointer to the catalog's endpoints, some 150 bytes, where a cluster costs 600, and 600 more for each endpoint. A
//! cluster that was created stays as long as its service port exists.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::{Cluster, ClusterPolicy};
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
    cluster: OnceLock<Arc<Cluster>>,
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

/// The clusters of the catalog created so far, by service.
#[derive(Debug, Default)]
pub struct ClusterRegistry(Mutex<BTreeMap<RegistryKey, Arc<Cluster>>>);

/// A service, and the name of one of its clusters.
type RegistryKey = (ServiceKey, Box<str>);

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
        Self { service, name, exempt, workers, cluster: OnceLock::new(), state }
    }

    /// The cluster; created now if needed, and then registered in `registry`.
    pub fn cluster(&self, registry: &ClusterRegistry) -> &Arc<Cluster> {
        self.cluster.get().unwrap_or_else(|| self.make(registry))
    }

    /// The cluster, if it was created.
    pub fn made(&self) -> Option<&Arc<Cluster>> {
        self.cluster.get()
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
        if let Some(cluster) = self.cluster.get() {
            cluster.adopt(&policy);
        }
        state.policy = policy;
    }

    /// Applies `endpoints`, as [`Cluster::apply`].
    pub fn apply(&self, endpoints: &Arc<[Endpoint]>) {
        let mut state = self.state.lock();
        state.endpoints = endpoints.clone();
        if let Some(cluster) = self.cluster.get() {
            cluster.apply(endpoints);
        }
    }

    /// No snapshot names it any more: its cluster is removed from `registry`, and closes its unused connections.
    pub fn retire(&self, registry: &ClusterRegistry) {
        let mut state = self.state.lock();
        state.retired = true;
        if let Some(cluster) = self.cluster.get() {
            registry.forget(self, cluster);
            cluster.retire();
        }
    }

    #[cold]
    fn make(&self, registry: &ClusterRegistry) -> &Arc<Cluster> {
        let state = self.state.lock();
        self.cluster.get_or_init(|| {
            let cluster =
                Arc::new(Cluster::new(self.name.clone(), self.exempt, self.workers, state.policy.clone()));
            cluster.apply(&state.endpoints);
            // A request with an older snapshot may create the cluster after this; it is dropped with that snapshot.
            if !state.retired {
                registry.0.lock().insert((self.service.clone(), self.name.clone()), cluster.clone());
            }
            cluster
        })
    }
}

impl ClusterRegistry {
    /// Every cluster, by service: files before Services, then by namespace and name.
    pub fn clusters(&self) -> Vec<Arc<Cluster>> {
        self.0.lock().values().cloned().collect()
    }

    /// Removes `cluster`, unless another has replaced it.
    fn forget(&self, lazy: &LazyCluster, cluster: &Arc<Cluster>) {
        let mut registry = self.0.lock();
        let key = (lazy.service.clone(), lazy.name.clone());
        if registry.get(&key).is_some_and(|known| Arc::ptr_eq(known, cluster)) {
            registry.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalog::Namer;

    fn lazy(endpoints: &[&str]) -> LazyCluster {
        let key = ServiceKey { namer: Namer::K8s, namespace: "shop".into(), name: "web".into() };
        LazyCluster::new(key, "web.shop".into(), (Exempt::No, 1), Arc::default(), of(endpoints))
    }

    fn of(endpoints: &[&str]) -> Arc<[Endpoint]> {
        endpoints.iter().map(|address| Endpoint::at(address.parse().unwrap())).collect()
    }

    #[test]
    fn a_cluster_is_made_once_with_the_endpoints_of_that_moment_and_follows_them() {
        let (lazy, registry) = (lazy(&["10.0.0.1:80"]), ClusterRegistry::default());
        lazy.apply(&of(&["10.0.0.1:80", "10.0.0.2:80"]));
        assert!(lazy.made().is_none() && registry.clusters().is_empty());
        let cluster = lazy.cluster(&registry).clone();
        assert_eq!(cluster.members().all.len(), 2);
        lazy.apply(&of(&["10.0.0.3:80"]));
        assert!(Arc::ptr_eq(&cluster, lazy.cluster(&registry)));
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
}
