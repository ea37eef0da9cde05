//! The catalog: every service weir knows of, as one immutable value.
//!
//! Each discovery source (a folder of files, Kubernetes) produces this same value, so nothing above it
//! knows where an endpoint came from. A [`Service`] that did not change keeps its `Arc` from one catalog
//! to the next; [`Changes::between`] therefore compares pointers first and values second.
//!
//! Deliberately absent: health, load, pools. Those belong to the proxy, which keeps them across catalogs.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

/// Every service known at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    /// The services, by key.
    pub services: OrdMap<ServiceKey, Arc<Service>>,
    /// While the cluster's own services are not known at all yet, what is waited for. Then a service of
    /// [`Namer::K8s`] that is not here may exist all the same.
    pub awaited: Option<Awaited>,
    /// The addresses of the cluster's nodes, as far as they are known: at each of them a [node port](NodePort) is its
    /// service. This node's own are known without.
    pub nodes: Arc<BTreeSet<IpAddr>>,
}

/// What the first list of services is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// What is waited for and why, for operators.
    pub why: Arc<str>,
    /// The same in weir's own words, for whoever sends requests: what an API server says names accounts and namespaces.
    pub brief: Arc<str>,
    /// Whether it was tried to get the list and that failed: it may take long.
    pub is_failing: bool,
}

/// Which kind of source names a service; each has its own namer (`/#/io.l5d.fs`, `/#/io.l5d.k8s`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namer {
    /// linkerd's `io.l5d.fs`: a file named after the service, one endpoint a line.
    Fs,
    /// Kubernetes objects, from a cluster or from a folder that stands in for one.
    K8s,
}

/// The identity of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The namer that knows it.
    pub namer: Namer,
    /// Its namespace; empty for [`Namer::Fs`], which has none.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// A service: the addresses applications dial, and per port the endpoints behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its identity.
    pub key: ServiceKey,
    /// The virtual addresses that applications dial (ClusterIPs), both families; empty for headless and fs services.
    pub addresses: Vec<IpAddr>,
    /// Its ports, in the order the source gives them.
    pub ports: Vec<ServicePort>,
    /// Whether an operator wrote the endpoints down in `discovery.files`: those may be addresses that weir
    /// otherwise refuses to connect to (loopback, link-local, this node's own).
    pub written: bool,
    /// The DNS name that this service is another name for (`externalName`), in lower case; it has no endpoints of its own.
    pub external_name: Option<Arc<str>>,
    /// `sessionAffinity: ClientIP`: for how long a client keeps its endpoint after its last connection.
    pub affinity: Option<Duration>,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServicePort {
    /// The port's name, where it has one.
    pub name: Option<Arc<str>>,
    /// The number applications dial; 0 for an fs service, which has no port of its own.
    pub number: u16,
    /// What the service says is spoken there (`appProtocol`), where that decides anything.
    pub protocol: AppProtocol,
    /// The endpoints behind this port, sorted by address and without duplicates.
    pub endpoints: Arc<[Endpoint]>,
    /// Where nodes' addresses are this port, too.
    pub node_port: Option<NodePort>,
}

/// A service port at the addresses of nodes (`nodePort`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePort {
    /// The number there.
    pub number: u16,
    /// At which nodes.
    pub at: At,
}

/// The nodes at whose addresses a node port is the service port, as far as weir can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Every node that is known.
    Every,
    /// This node only: another one has its own endpoints behind it (`externalTrafficPolicy: Local`).
    Own,
}

/// What a service port declares of its protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppProtocol {
    /// Nothing declared, or a value weir does not know: look at the bytes.
    #[default]
    Sniff,
    /// `http`: HTTP/1.
    Http1,
    /// `kubernetes.io/h2c`: HTTP/2 with prior knowledge.
    Http2,
    /// `tcp`, `https`, `tls` and the like, or `weir.dev/opaque-ports`: forward without looking.
    Opaque,
    /// `weir.dev/skip-ports`: not to be diverted. What comes all the same is forwarded without looking.
    Direct,
}

/// One address that serves a port.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share relative to the others of its port; positive and finite, 1.0 unless the source says otherwise.
    pub weight: f64,
    /// Whether it should get traffic.
    pub condition: Condition,
    /// What it is called within its service, in lower case, where it has a stable name (EndpointSlice `hostname`): a pod of a
    /// StatefulSet.
    pub hostname: Option<Arc<str>>,
    /// The zone it runs in, where known.
    pub zone: Option<Arc<str>>,
    /// The node it runs on, where known.
    pub node: Option<Arc<str>>,
}

/// An endpoint's readiness, as its source reports it (EndpointSlice `conditions`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Takes traffic.
    Ready,
    /// Serving but terminating: used only when nothing ready is left.
    Terminating,
    /// Takes none.
    NotReady,
}

/// What differs between two catalogs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys only the newer one has.
    pub added: Vec<ServiceKey>,
    /// Keys only the older one has.
    pub removed: Vec<ServiceKey>,
    /// Keys whose service differs.
    pub changed: Vec<ServiceKey>,
    /// Whether something else is [awaited](Catalog::awaited), or nothing any more.
    pub awaited: bool,
    /// Whether other [nodes](Catalog::nodes) are known.
    pub nodes: bool,
}

impl Changes {
    /// What changed from `old` to `new`. What both share costs nothing when one was made from the other, and services
    /// that kept their `Arc` one pointer comparison otherwise.
    pub fn between(old: &Catalog, new: &Catalog) -> Self {
        let nodes = !Arc::ptr_eq(&old.nodes, &new.nodes) && old.nodes != new.nodes;
        let mut changes = Self { awaited: old.awaited != new.awaited, nodes, ..Self::default() };
        for item in old.services.diff(&new.services) {
            match item {
                DiffItem::Add(key, _) => changes.added.push(key.clone()),
                DiffItem::Remove(key, _) => changes.removed.push(key.clone()),
                DiffItem::Update { new: (key, _), .. } => changes.changed.push(key.clone()),
            }
        }
        changes
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        !self.awaited
            && !self.nodes
            && self.added.is_empty()
            && self.removed.is_empty()
            && self.changed.is_empty()
    }
}

impl Service {
    /// The stable names of its endpoints, each once and in order; mostly none.
    pub fn hostnames(&self) -> BTreeSet<&str> {
        let endpoints = self.ports.iter().flat_map(|port| &*port.endpoints);
        endpoints.filter_map(|endpoint| endpoint.hostname.as_deref()).collect()
    }

    /// Whether DNS knows its endpoints by names of their own below its name: it is headless, or some have stable names.
    pub fn names_endpoints(&self) -> bool {
        let is_headless =
            self.key.namer == Namer::K8s && self.addresses.is_empty() && self.external_name.is_none();
        is_headless || !self.hostnames().is_empty()
    }
}

impl Endpoint {
    /// An endpoint that is ready, of weight 1, of which only the address is known.
    pub fn at(address: SocketAddr) -> Self {
        Self { address, weight: 1.0, condition: Condition::Ready, hostname: None, zone: None, node: None }
    }
}

/// The namer path: `/#/io.l5d.fs/hello`, `/#/io.l5d.k8s/default/hello`.
impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namer {
            Namer::Fs => write!(f, "/#/io.l5d.fs/{}", self.name),
            Namer::K8s => write!(f, "/#/io.l5d.k8s/{}/{}", self.namespace, self.name),
        }
    }
}
