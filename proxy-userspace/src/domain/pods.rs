//! The pods of this node and what was asked for them: the facts that enrolment decides by.
//!
//! Only this node's pods are known, and of their annotations only weir's own: a pod is some 10 KB as an API server
//! tells it, and some 200 bytes here.
//!
//! Deliberately absent: the decision itself, and cgroups.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What every annotation of weir's begins with; [`Wishes`] hold the rest of the key.
pub const ANNOTATIONS: &str = "weir.dev/";

/// The annotations below `weir.dev/` of one object, unread: `divert` -> `enabled`.
pub type Wishes = BTreeMap<Arc<str>, Arc<str>>;

/// The pods of this node at one moment, and the namespaces' annotations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Residents {
    /// The pods by their UID, as the API server spells it (`0b7f…-…`).
    pub pods: BTreeMap<Arc<str>, Arc<Pod>>,
    /// The namespaces that carry annotations of weir's.
    pub namespaces: BTreeMap<Arc<str>, Arc<Wishes>>,
}

/// A pod of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// `spec.hostNetwork`: it has the node's addresses and network namespace.
    pub host_network: bool,
    /// Whether its phase is `Succeeded` or `Failed`: nothing of it runs any more.
    pub finished: bool,
    /// The UID its cgroup is named by: a static pod's is in the annotation `kubernetes.io/config.mirror`, any other's is
    /// its own.
    pub cgroup_uid: Arc<str>,
    /// `status.podIPs`; empty until it has any.
    pub addresses: Vec<IpAddr>,
    /// Its annotations of weir's.
    pub wishes: Wishes,
}
