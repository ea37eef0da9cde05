//! The catalog: every service weir knows of, as one immutable value.
//!
//! Each discovery source (a folder of files, Kubernetes) produces this value, so the code above does not know where an
//! endpoint came from. An unchanged [`Service`] keeps its `Arc` in the next catalog; [`Changes::between`] therefore
//! compares pointers first and values second.
//!
//! Not here: health, load, pools. They belong to the proxy, which keeps them across catalogs.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use super::policy::Protocol;

/// Every service known at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    /// The services, by key.
    pub services: OrdMap<ServiceKey, Arc<Service>>,
    /// While the cluster's own services are not known yet: what is awaited. Until then, a service of [`Namer::K8s`]
    /// that is not here may exist.
    pub awaited: Option<Awaited>,
    /// The known addresses of the cluster's nodes: at each of them, a [node port](NodePort) is its service. This node's
    /// own are known separately.
    pub nodes: Arc<BTreeSet<IpAddr>>,
}

/// Why the first list of services is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// What is awaited and why, for operators.
    pub why: Arc<str>,
    /// The same in weir's own words, for clients: an API server's message can contain names of accounts and namespaces.
    pub brief: Arc<str>,
    /// Whether an attempt to get the list failed, so that it may take long.
    pub is_failing: bool,
}

/// The kind of source that a service comes from; each has its own namer (`/#/io.l5d.fs`, `/#/io.l5d.k8s`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namer {
    /// linkerd's `io.l5d.fs`: a file named after the service, one endpoint a line.
    Fs,
    /// Kubernetes objects, from a cluster or from a folder in place of one.
    K8s,
}

/// The identity of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The namer of its source.
    pub namer: Namer,
    /// Its namespace; empty for [`Namer::Fs`], which has none.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// A service: the addresses that applications dial, and the endpoints of each port.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its identity.
    pub key: ServiceKey,
    /// The virtual addresses that applications dial (ClusterIPs), both families; empty for headless and fs services.
    pub addresses: Vec<IpAddr>,
    /// Its ports, in the order the source gives them.
    pub ports: Vec<ServicePort>,
    /// Whether an operator wrote the endpoints in `discovery.files`: these may be addresses that weir otherwise refuses
    /// to connect to (loopback, link-local, this node's own).
    pub written: bool,
    /// The DNS name that this service is an alias for (`externalName`), in lower case; it has no endpoints of its own.
    pub external_name: Option<Arc<str>>,
    /// `sessionAffinity: ClientIP`: how long a client keeps its endpoint after its last connection.
    pub affinity: Option<Duration>,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServicePort {
    /// The port's name, if it has one.
    pub name: Option<Arc<str>>,
    /// The number that applications dial; 0 for an fs service, which has no port of its own.
    pub number: u16,
    /// The protocol that the service declares (`appProtocol`), if it decides anything.
    pub protocol: AppProtocol,
    /// The endpoints behind this port, sorted by address and without duplicates.
    pub endpoints: Arc<[Endpoint]>,
    /// Its node port, if it has one.
    pub node_port: Option<NodePort>,
}

/// A service port at the addresses of nodes (`nodePort`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePort {
    /// The port number.
    pub number: u16,
    /// The nodes.
    pub at: At,
}

/// The nodes whose addresses serve a node port, as far as weir can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Every known node.
    Every,
    /// This node only: other nodes have their own endpoints for it (`externalTrafficPolicy: Local`).
    Own,
}

/// The protocol that a service port declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppProtocol {
    /// Nothing declared, or a value that weir does not know: detect it from the bytes.
    #[default]
    Sniff,
    /// `http`: HTTP/1.
    Http1,
    /// `kubernetes.io/h2c`, `grpc`: HTTP/2 with prior knowledge.
    Http2,
    /// `tcp`, `https`, `tls` and the like, or `weir.dev/opaque-ports`: forward without detection.
    Opaque,
    /// `weir.dev/skip-ports`: not diverted. A connection that arrives anyway is forwarded without detection.
    Direct,
}

impl AppProtocol {
    /// The version of HTTP that the port's endpoints speak, if it is declared.
    pub fn http(self) -> Option<Protocol> {
        match self {
            Self::Http1 => Some(Protocol::Http1),
            Self::Http2 => Some(Protocol::Http2),
            Self::Sniff | Self::Opaque | Self::Direct => None,
        }
    }
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
    /// Its stable name within its service, in lower case, if it has one (EndpointSlice `hostname`): a pod of a
    /// StatefulSet.
    pub hostname: Option<Arc<str>>,
    /// Its zone, if known.
    pub zone: Option<Arc<str>>,
    /// Its node, if known.
    pub node: Option<Arc<str>>,
    /// Whether it is known to be in the network of this node: a pod with `hostNetwork`, or the API server. Others may not
    /// have an address of this node.
    pub on_node: bool,
}

/// An endpoint's readiness, as its source reports it (EndpointSlice `conditions`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Gets traffic.
    Ready,
    /// Serving but terminating: used only if no ready one is left.
    Terminating,
    /// Gets no traffic.
    NotReady,
}

/// The differences between two catalogs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys that only the newer one has.
    pub added: Vec<ServiceKey>,
    /// Keys that only the older one has.
    pub removed: Vec<ServiceKey>,
    /// Keys whose service differs.
    pub changed: Vec<ServiceKey>,
    /// Whether [`awaited`](Catalog::awaited) differs.
    pub awaited: bool,
    /// Whether the known [nodes](Catalog::nodes) differ.
    pub nodes: bool,
}

impl Changes {
    /// The changes from `old` to `new`. If one was made from the other, shared parts cost nothing; otherwise a service
    /// that kept its `Arc` costs one pointer comparison.
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
    /// The stable names of its endpoints, sorted, without duplicates; usually none.
    pub fn hostnames(&self) -> BTreeSet<&str> {
        let endpoints = self.ports.iter().flat_map(|port| &*port.endpoints);
        endpoints.filter_map(|endpoint| endpoint.hostname.as_deref()).collect()
    }

    /// Whether DNS has names for its endpoints below its name: it is headless, or some have stable names.
    pub fn names_endpoints(&self) -> bool {
        let is_headless =
            self.key.namer == Namer::K8s && self.addresses.is_empty() && self.external_name.is_none();
        is_headless || !self.hostnames().is_empty()
    }
}

impl Endpoint {
    /// A ready endpoint of weight 1, of which only the address is known.
    pub fn at(address: SocketAddr) -> Self {
        Self {
            address,
            weight: 1.0,
            condition: Condition::Ready,
            hostname: None,
            zone: None,
            node: None,
            on_node: false,
        }
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
