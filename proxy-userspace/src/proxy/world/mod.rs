//! The world: everything a request is decided by, as one snapshot.
//!
//! A request takes the current world once and is answered by it, so a reload never splits a request. Building
//! one keeps every cluster that is still named, and with it load, breakers and connections. When only endpoints
//! changed there is no new world at all: [`World::absorb`] hands them to their clusters.

mod build;
pub use build::Terms;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::RandomState;

use super::cluster::Cluster;
use super::fault::{Fault, Kind};
use crate::domain::catalog::{AppProtocol, Catalog, Changes, ServiceKey};
use crate::domain::name::{Host, ServiceName};
use crate::domain::refuse::Grounds;

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

/// Where a name leads.
#[derive(Debug)]
pub enum Choice {
    /// To this cluster.
    Cluster(Arc<Cluster>),
    /// Out of the catalog, to this address or DNS name.
    Outside,
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
    /// Where `host` leads. The order is the base dtab's, strongest first: files in linkerd's format, services of
    /// the catalog (an IP literal that is a Service's address is that Service), names and addresses outside.
    ///
    /// This is the seam for the dtab engine: it will delegate the name and return a tree of clusters.
    ///
    /// # Errors
    ///
    /// [`Kind::Unbound`], saying what there is instead.
    pub fn bind(&self, host: &Host<'_>) -> Result<Choice, Fault> {
        if let Some(address) = host.literal() {
            let owner = self.owner(SocketAddr::new(address, host.port.unwrap_or(80)));
            return Ok(owner.map_or(Choice::Outside, |owner| Choice::Cluster(owner.cluster)));
        }
        if let Some(named) = self.names.get(&*host.host) {
            if let (Some(key), None) = (&named.fs, host.port)
                && let Some(port) = self.services.get(key).and_then(|ports| ports.first())
            {
                return Ok(Choice::Cluster(port.cluster.clone()));
            }
            if let Some(ports) = named.k8s.as_ref().and_then(|key| self.services.get(key)) {
                return self.port(host, ports).map(|port| Choice::Cluster(port.cluster.clone()));
            }
        }
        if host.legacy_literal().is_some() {
            return Ok(Choice::Outside);
        }
        if self.is_outside(host) { Ok(Choice::Outside) } else { Err(self.unbound(host)) }
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

    /// The port of a Service that a name means: the number it says; else the port named `http` (settable), else
    /// number 80, else the only one.
    fn port<'a>(&self, host: &Host<'_>, ports: &'a [Port]) -> Result<&'a Port, Fault> {
        let chosen = match host.port {
            Some(number) => ports.iter().find(|port| port.number == number),
            None => ports
                .iter()
                .find(|port| port.name.as_deref() == Some(&*self.terms.rules.port))
                .or_else(|| ports.iter().find(|port| port.number == 80))
                .or(if let [only] = ports { Some(only) } else { None }),
        };
        chosen.ok_or_else(|| {
            let there: Vec<String> = ports.iter().map(ToString::to_string).collect();
            let wanted = match host.port {
                Some(number) => format!("no port {number}"),
                None => {
                    format!("no port named {}, none numbered 80, and not exactly one", self.terms.rules.port)
                }
            };
            Fault::new(Kind::Unbound, format!("{host} has {wanted}; its ports are: {}", there.join(", ")))
        })
    }

    /// Whether DNS may know `host`: not without a dot, not below the cluster's domain, not when it is off.
    fn is_outside(&self, host: &Host<'_>) -> bool {
        self.terms.dns && host.host.contains('.') && !self.terms.rules.in_cluster_domain(&host.host)
    }

    fn unbound(&self, host: &Host<'_>) -> Fault {
        let mut why = format!("nothing is named {host}");
        if let Some(service) = ServiceName::of(&host.host) {
            let elsewhere = self.catalog.services.keys().filter(|key| *key.name == *service.name);
            let elsewhere: Vec<String> = elsewhere.take(3).map(ToString::to_string).collect();
            let namespace = service.namespace.unwrap_or(&self.terms.rules.namespace);
            why = format!("no service {} in namespace {namespace}", service.name);
            if !elsewhere.is_empty() {
                why = format!("{why}; there is {}", elsewhere.join(", "));
            }
        }
        Fault::new(Kind::Unbound, why)
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
