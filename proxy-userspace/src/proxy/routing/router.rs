//! Where the requests of one worker go, by the snapshot in force.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::cache::{Bindings, Routes};
use super::clients::Clients;
use super::external::Outside;
use super::resolve::Holds;
use super::snapshot::World;
use crate::proxy::upstream::cluster::Cluster;

/// What all workers route by, and what is counted of that.
#[derive(Debug)]
pub struct Routing {
    /// The snapshot in force.
    pub world: ArcSwap<World>,
    /// Which namespaces clients are in.
    pub clients: Clients,
    /// Says that the snapshot in force is another, or that more is known of clients.
    pub moved: watch::Sender<()>,
    /// Requests that wait for the first list of services.
    pub holds: Holds,
    /// Destinations outside the catalog.
    pub outside: Arc<Outside>,
    /// What is counted of bound names.
    pub bindings: Arc<Bindings>,
    /// When weir started.
    pub epoch: Instant,
}

/// One worker's routes.
#[derive(Debug)]
pub struct Router {
    /// What it shares with the others.
    pub routing: Arc<Routing>,
    /// Where names lead, as long as that is so.
    pub routes: Routes,
    pub(super) rng: RefCell<fastrand::Rng>,
}

impl Routing {
    /// Routing by `world` from now on.
    pub fn new(world: World, outside: Outside) -> Arc<Self> {
        Arc::new(Self {
            world: ArcSwap::from_pointee(world),
            clients: Clients::default(),
            moved: watch::Sender::new(()),
            holds: Holds::default(),
            outside: Arc::new(outside),
            bindings: Arc::default(),
            epoch: Instant::now(),
        })
    }

    /// Every cluster there is: of the catalog, of transformers, and outside.
    pub fn clusters(&self) -> Vec<Arc<Cluster>> {
        let world = self.world.load();
        let mut clusters = world.clusters();
        clusters.extend(world.views());
        clusters.extend(self.outside.clusters());
        clusters
    }
}

impl Router {
    /// The routes of one worker, none of which is known yet.
    pub fn new(routing: Arc<Routing>) -> Self {
        let routes = Routes::new(routing.bindings.clone());
        Self { routing, routes, rng: RefCell::new(fastrand::Rng::new()) }
    }

    /// The snapshot in force.
    pub fn world(&self) -> Arc<World> {
        self.routing.world.load_full()
    }

    /// The cluster of the service that owns the address `dialled`, or else of that very address. `known` keeps the latter for
    /// the connection that dialled it.
    pub fn cluster_of(
        &self,
        world: &World,
        dialled: SocketAddr,
        known: &RefCell<Option<Arc<Cluster>>>,
    ) -> Arc<Cluster> {
        if let Some(owner) = world.owner(dialled) {
            return owner.cluster.clone();
        }
        let fixed = || self.routing.outside.fixed(dialled, Instant::now());
        let mut known = known.borrow_mut();
        // One that was forgotten meanwhile keeps no connections, and its successor does.
        known.take_if(|cluster| cluster.is_retired());
        known.get_or_insert_with(fixed).clone()
    }
}
