//! The snapshot: everything that decides a request.
//!
//! A request takes the current snapshot once and is answered by it, so a reload never affects a request halfway.
//! Building a snapshot keeps every cluster that is still named, with its load, breakers and connections; the cluster
//! adopts its settings of the new snapshot. When only endpoints changed there is no new snapshot at all:
//! [`Snapshot::absorb`] applies them to their clusters. When services are added or removed, the next snapshot shares
//! all others with the one before ([`Snapshot::with`]): no cost of a catalog's change is proportional to the size of
//! the cluster.

mod build;
mod dependencies;
mod names;
mod pods;
mod policies;
mod reasons;
#[cfg(test)]
pub(super) mod tests;
pub use build::{RouterConfig, RoutingConfig};
pub use dependencies::{BoundBy, Dependencies, Generation};
pub use policies::PolicySource;
pub(in crate::proxy) use reasons::Audience;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use imbl::OrdMap;
use smallvec::SmallVec;

use crate::domain::catalog::{AppProtocol, At, Catalog, Changes, ServiceKey};
use crate::domain::dtab::Dtab;
use crate::domain::name::{Path, Services};
use crate::domain::route::{self, Delegation, Explanation};
use crate::domain::ssrf::LocalAddresses;
use crate::proxy::listener::{Listener, ListenerId, ListenerKind};
use crate::proxy::routing::route::Route;
use crate::proxy::upstream::DialRules;
use crate::proxy::upstream::cluster::{Cluster, ClusterRegistry, LazyCluster};

/// The state that one request sees.
#[derive(Debug)]
pub struct Snapshot {
    /// The catalog it was built from.
    pub catalog: Arc<Catalog>,
    /// The configuration it was built with.
    pub config: RoutingConfig,
    services: OrdMap<ServiceKey, Arc<[Port]>>,
    owners: OrdMap<(IpAddr, u16), Claims>,
    /// Service ports exposed at nodes' addresses, by node port number.
    node_ports: OrdMap<u16, NodeClaims>,
    /// The clusters created so far, shared by all snapshots of the sequence.
    registry: Arc<ClusterRegistry>,
    change_log: dependencies::ChangeLog,
    /// The dtab of a request without one.
    none: Dtab,
    /// Those of the other routers.
    others: Vec<Arc<Self>>,
}

/// Addresses that lead back to this node, or to weir.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// The node's own addresses.
    pub own: Vec<IpAddr>,
    /// The addresses weir listens on.
    pub listeners: Vec<SocketAddr>,
    /// The routers' listeners, in the order of the configuration.
    pub routers: Vec<ListenerId>,
}

/// One port of a service.
#[derive(Debug)]
struct Port {
    name: Option<Arc<str>>,
    number: u16,
    protocol: AppProtocol,
    lazy: Arc<LazyCluster>,
}

/// The service ports that claim an address and port, ordered by service; the first owns it.
type Claims = SmallVec<[Claim; 1]>;

#[derive(Clone, Debug)]
struct Claim {
    protocol: AppProtocol,
    lazy: Arc<LazyCluster>,
}

/// As `Claims`, for a node port.
type NodeClaims = SmallVec<[(At, Claim); 1]>;

/// The service port that owns a dialled address.
#[derive(Debug)]
pub struct Owner {
    /// Its cluster.
    pub cluster: Arc<Cluster>,
    /// The application protocol that it declares.
    pub protocol: AppProtocol,
}

impl Snapshot {
    /// The route of `name`: by the dtabs of the configuration, followed by `request`'s own.
    pub fn bind(&self, name: &Path, request: Option<&Dtab>) -> Route {
        let dtabs = [&*self.config.dtab, request.unwrap_or(&self.none)];
        let limits = if request.is_some() { route::Limits::REQUEST } else { route::Limits::CONFIGURATION };
        let asked = names::Asked::new(self);
        let delegation = Delegation { dtabs: &dtabs, namers: &self.config.namers, names: &asked, limits };
        let bound = delegation.bind(name);
        // The reasons are shown to the client.
        let explain = || delegation.explain(name);
        Route::new((&self.config, self.services()), name, bound, asked.bound_by(), explain)
    }

    /// As [`Self::bind`], with every step.
    pub fn explain(&self, name: &Path, request: Option<&Dtab>) -> Explanation<Arc<Cluster>> {
        let dtabs = [&*self.config.dtab, request.unwrap_or(&self.none)];
        let limits = if request.is_some() { route::Limits::REQUEST } else { route::Limits::CONFIGURATION };
        Delegation { dtabs: &dtabs, namers: &self.config.namers, names: self, limits }.explain(name)
    }

    /// The snapshot that decides the requests at this listener, where that is another router's.
    pub fn of_listener(&self, listener: ListenerId) -> Option<&Arc<Self>> {
        self.others.iter().find(|it| it.config.listener == listener)
    }

    /// The snapshot that decides the requests at `listener`; `None` if its router is gone. This is the first router's.
    pub fn at(self: &Arc<Self>, listener: &Listener) -> Option<&Arc<Self>> {
        match self.is_of(listener) {
            true => Some(self),
            false => self.of_listener(listener.id),
        }
    }

    /// Whether this one decides the requests at `listener`.
    pub fn is_of(&self, listener: &Listener) -> bool {
        listener.kind != ListenerKind::Outgoing || self.config.listener == listener.id
    }

    /// The snapshots of the other routers, in the order of the configuration.
    pub fn others(&self) -> &[Arc<Self>] {
        &self.others
    }

    /// The number of this snapshot in its sequence.
    pub fn generation(&self) -> Generation {
        self.change_log.now()
    }

    /// Whether a binding with these `dependencies` from the snapshot of `then` is still valid.
    pub fn holds(&self, dependencies: &Dependencies, then: Generation) -> bool {
        self.change_log.holds(dependencies, then)
    }

    /// The service port that owns `dialled`, if any.
    pub fn owner(&self, dialled: SocketAddr) -> Option<Owner> {
        let (ip, port) = (dialled.ip().to_canonical(), dialled.port());
        let of_service = self.owners.get(&(ip, port)).and_then(|claims| claims.first());
        let claim = of_service.or_else(|| self.owner_of_node_port(ip, port))?;
        Some(Owner { cluster: claim.lazy.cluster(&self.registry), protocol: claim.protocol })
    }

    /// The service port exposed as `port` on the node with address `ip`, if any.
    fn owner_of_node_port(&self, ip: IpAddr, port: u16) -> Option<&Claim> {
        let claims = self.node_ports.get(&port)?;
        let at = match self.config.node.own.iter().any(|own| own.to_canonical() == ip) {
            true => At::Own,
            false if self.catalog.nodes.contains(&ip) => At::Every,
            false => return None,
        };
        claims.iter().find(|(of, _)| at == At::Own || *of == At::Every).map(|(_, claim)| claim)
    }

    /// Every service that claims `address` and `port`, whether or not they are left alone; the first owns them.
    pub fn claimants(&self, address: IpAddr, port: u16) -> impl Iterator<Item = &ServiceKey> {
        let claims = self.owners.get(&(address.to_canonical(), port));
        let claims = claims.into_iter().flatten().filter(|claim| claim.protocol != AppProtocol::Direct);
        claims.map(|claim| &claim.lazy.service)
    }

    /// Every cluster of the catalog that was requested, files before Services.
    pub fn clusters(&self) -> Vec<Arc<Cluster>> {
        self.registry.clusters()
    }

    /// The clusters of the catalog that exist.
    pub fn registry(&self) -> &ClusterRegistry {
        &self.registry
    }

    /// Every cluster that transformers derive from one of the catalog, as far as requested.
    pub fn views(&self) -> Vec<Arc<Cluster>> {
        self.clusters().iter().flat_map(|cluster| cluster.views()).collect()
    }

    /// The clusters of one service, one per port, created or not.
    pub fn clusters_of(&self, key: &ServiceKey) -> impl Iterator<Item = &LazyCluster> {
        self.services.get(key).into_iter().flat_map(|ports| &**ports).map(|port| &*port.lazy)
    }

    /// Whether the cluster's Services are known.
    pub fn services(&self) -> Services {
        if self.catalog.awaited.is_some() { Services::Awaited } else { Services::Known }
    }

    /// Whether getting the first list of services has failed.
    pub fn is_failing(&self) -> bool {
        self.catalog.awaited.as_ref().is_some_and(|awaited| awaited.is_failing)
    }

    /// Its rules for connecting to endpoints.
    pub fn dial_rules(&self) -> DialRules<'_> {
        DialRules { limits: &self.config.limits, local: self.local() }
    }

    /// Addresses that weir does not connect to.
    pub fn local(&self) -> LocalAddresses<'_> {
        let node = &self.config.node;
        LocalAddresses { own: &node.own, listeners: &node.listeners, refused: &self.config.refused }
    }

    /// Applies `catalog`'s endpoints to their clusters, when nothing else differs. Returns whether that was all: if
    /// not, a new snapshot is needed.
    pub fn absorb(&self, catalog: &Catalog, changes: &Changes) -> bool {
        let same_shape = |key: &ServiceKey| match (self.catalog.services.get(key), catalog.services.get(key))
        {
            (Some(before), Some(after)) => build::same_shape(before, after),
            _ => false,
        };
        let same_services = changes.added.is_empty() && changes.removed.is_empty();
        if changes.awaited || changes.nodes || !same_services || !changes.changed.iter().all(same_shape) {
            return false;
        }
        for key in &changes.changed {
            if let Some(service) = catalog.services.get(key) {
                self.apply(key, service);
            }
        }
        true
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} ({name})", self.number),
            None => write!(f, "{}", self.number),
        }
    }
}
