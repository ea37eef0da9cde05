//! The world: everything a request is decided by, as one snapshot.
//!
//! A request takes the current world once and is answered by it, so a reload never splits a request. Building
//! one keeps every cluster that is still named, and with it load, breakers and connections. When only endpoints
//! changed there is no new world at all: [`World::absorb`] hands them to their clusters.

mod build;
mod names;
mod plans;
pub use build::Terms;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::RandomState;

use super::cluster::Cluster;
use super::route::Route;
use crate::domain::catalog::{AppProtocol, Catalog, Changes, ServiceKey};
use crate::domain::dtab::Dtab;
use crate::domain::name::Path;
use crate::domain::refuse::Grounds;
use crate::domain::route::{self, Delegation, Explanation};

/// What one request sees.
#[derive(Debug)]
pub struct World {
    /// The catalog it was built from.
    pub catalog: Arc<Catalog>,
    /// What it was built with.
    pub terms: Terms,
    services: HashMap<ServiceKey, Vec<Port>, RandomState>,
    names: HashMap<Box<str>, Named, RandomState>,
    owners: HashMap<(IpAddr, u16), (ServiceKey, usize), RandomState>,
    /// The dtab of a request that brings none.
    none: Dtab,
}

/// Which addresses lead back to this node, or to weir.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// The node's own addresses.
    pub own: Vec<IpAddr>,
    /// Where weir listens.
    pub listeners: Vec<SocketAddr>,
}

/// One port of a service, bound.
#[derive(Debug)]
struct Port {
    name: Option<Arc<str>>,
    number: u16,
    protocol: AppProtocol,
    cluster: Arc<Cluster>,
}

/// What a name means, by namer.
#[derive(Debug, Default)]
struct Named {
    fs: Option<ServiceKey>,
    k8s: Option<ServiceKey>,
}

/// The service port that owns a dialled address.
#[derive(Debug)]
pub struct Owner {
    /// Its cluster.
    pub cluster: Arc<Cluster>,
    /// What it declares of its protocol.
    pub protocol: AppProtocol,
}

impl World {
    /// Where `name` leads: by the dtabs of the configuration, and `request`'s own after them.
    pub fn bind(&self, name: &Path, request: Option<&Dtab>) -> Route {
        let dtabs = [&*self.terms.dtab, request.unwrap_or(&self.none)];
        let limits = if request.is_some() { route::Limits::REQUEST } else { route::Limits::CONFIGURATION };
        let delegation = Delegation { dtabs: &dtabs, namers: &self.terms.namers, names: self, limits };
        Route::new(&self.terms, name, delegation.bind(name), || delegation.explain(name))
    }

    /// The same, with every step.
    pub fn explain(&self, name: &Path, request: Option<&Dtab>) -> Explanation<Arc<Cluster>> {
        let dtabs = [&*self.terms.dtab, request.unwrap_or(&self.none)];
        let limits = if request.is_some() { route::Limits::REQUEST } else { route::Limits::CONFIGURATION };
        Delegation { dtabs: &dtabs, namers: &self.terms.namers, names: self, limits }.explain(name)
    }

    /// The service port that owns `dialled`, if any.
    pub fn owner(&self, dialled: SocketAddr) -> Option<Owner> {
        let (key, at) = self.owners.get(&(dialled.ip().to_canonical(), dialled.port()))?;
        let port = self.services.get(key)?.get(*at)?;
        Some(Owner { cluster: port.cluster.clone(), protocol: port.protocol })
    }

    /// Every cluster of the catalog, by service.
    pub fn clusters(&self) -> impl Iterator<Item = (&ServiceKey, &Arc<Cluster>)> {
        self.services.iter().flat_map(|(key, ports)| ports.iter().map(move |port| (key, &port.cluster)))
    }

    /// Every cluster that transformers make of one of the catalog, as far as requests have asked for it.
    pub fn views(&self) -> Vec<Arc<Cluster>> {
        self.clusters().flat_map(|(_, cluster)| cluster.views()).collect()
    }

    /// The clusters of one service, one for each port.
    pub fn clusters_of(&self, key: &ServiceKey) -> impl Iterator<Item = &Arc<Cluster>> {
        self.services.get(key).into_iter().flatten().map(|port| &port.cluster)
    }

    /// Which addresses weir does not connect to.
    pub fn grounds(&self) -> Grounds<'_> {
        let node = &self.terms.node;
        Grounds { own: &node.own, listeners: &node.listeners }
    }

    /// Hands `catalog`'s endpoints to their clusters, when nothing else differs. Returns whether that was all:
    /// if not, a new world is needed.
    pub fn absorb(&self, catalog: &Catalog, changes: &Changes, now: Instant) -> bool {
        let same_shape = |key: &ServiceKey| match (self.catalog.services.get(key), catalog.services.get(key))
        {
            (Some(before), Some(after)) => build::same_shape(before, after),
            _ => false,
        };
        if !changes.added.is_empty() || !changes.removed.is_empty() || !changes.changed.iter().all(same_shape)
        {
            return false;
        }
        for key in &changes.changed {
            let (Some(service), Some(ports)) = (catalog.services.get(key), self.services.get(key)) else {
                continue;
            };
            for (port, bound) in service.ports.iter().zip(ports) {
                bound.cluster.apply(&port.endpoints, now);
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
