//! The routing of one worker's requests, by the snapshot in force.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::cache::{RouteCache, RouteCacheStats};
use super::clients::Clients;
use super::external::ExternalClusters;
use super::resolve::{Client, Holds};
use super::snapshot::Snapshot;
use crate::proxy::listener::Listener;
use crate::proxy::upstream::cluster::{Backend, Cluster};

/// What all workers route by, with its counters.
#[derive(Debug)]
pub struct Routing {
    /// The snapshot in force.
    pub snapshot: ArcSwap<Snapshot>,
    /// The namespaces of clients.
    pub clients: Clients,
    /// Signals that the snapshot in force has changed, or that more is known of clients.
    pub moved: watch::Sender<()>,
    /// Requests that wait for the first list of services.
    pub holds: Holds,
    /// Destinations outside the catalog.
    pub external: Arc<ExternalClusters>,
    /// Counters of bound names.
    pub bindings: Arc<RouteCacheStats>,
    /// When weir started.
    pub epoch: Instant,
}

/// One worker's router.
#[derive(Debug)]
pub struct Router {
    /// State shared with the other workers.
    pub routing: Arc<Routing>,
    /// Bound names, as long as they are valid.
    pub routes: RouteCache,
    pub(super) rng: RefCell<fastrand::Rng>,
}

impl Routing {
    /// Routing by `snapshot`.
    pub fn new(snapshot: Snapshot, external: ExternalClusters) -> Arc<Self> {
        Arc::new(Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            clients: Clients::default(),
            moved: watch::Sender::new(()),
            holds: Holds::default(),
            external: Arc::new(external),
            bindings: Arc::default(),
            epoch: Instant::now(),
        })
    }

    /// Every cluster of the catalog and of transformers.
    pub fn known_clusters(&self) -> Vec<Arc<Cluster>> {
        let snapshot = self.snapshot.load();
        let mut clusters = snapshot.clusters();
        clusters.extend(snapshot.views());
        clusters
    }

    /// Every cluster that exists: of the catalog, of transformers, and outside.
    pub fn clusters(&self) -> Vec<Arc<Cluster>> {
        let mut clusters = self.known_clusters();
        clusters.extend(self.external.clusters());
        clusters
    }

    /// Every endpoint that was used: only these have connections.
    pub fn used_backends(&self) -> Vec<Arc<Backend>> {
        self.clusters().iter().flat_map(|cluster| cluster.used_backends()).collect()
    }
}

impl Router {
    /// A router for one worker, with no routes yet.
    pub fn new(routing: Arc<Routing>) -> Self {
        let routes = RouteCache::new(routing.bindings.clone());
        Self { routing, routes, rng: RefCell::new(fastrand::Rng::new()) }
    }

    /// The snapshot in force, as the first router and diverted connections have it.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.routing.snapshot.load_full()
    }

    /// The snapshot in force for the requests at `listener`; `None` if its router is gone.
    pub fn snapshot_at(&self, listener: &Listener) -> Option<Arc<Snapshot>> {
        let first = self.snapshot();
        if first.is_of(listener) {
            return Some(first);
        }
        first.of_listener(listener.id).cloned()
    }

    /// The snapshot in force that follows `earlier`, of the same router. If that is gone, `earlier` is the last.
    pub(super) fn after(&self, earlier: &Arc<Snapshot>) -> Arc<Snapshot> {
        let (first, listener) = (self.snapshot(), earlier.config.listener);
        if first.config.listener == listener {
            return first;
        }
        first.of_listener(listener).unwrap_or(earlier).clone()
    }

    /// The cluster of the service that owns the address `dialled`, or else of that address itself. `known` caches the
    /// latter for the connection that dialled it.
    pub fn cluster_of(
        &self,
        snapshot: &Snapshot,
        dialled: SocketAddr,
        known: &RefCell<Option<Arc<Cluster>>>,
        client: &impl Client,
    ) -> Arc<Cluster> {
        if let Some(owner) = snapshot.owner(dialled) {
            return owner.cluster;
        }
        let fixed = || self.routing.external.fixed(dialled, Instant::now(), &client.holder());
        let mut known = known.borrow_mut();
        // A cluster that was dropped meanwhile keeps no connections; its successor does.
        known.take_if(|cluster| cluster.is_retired());
        known.get_or_insert_with(fixed).clone()
    }
}
