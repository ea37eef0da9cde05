//! `Node`, of `v1`: the node's addresses and zone.

use std::net::IpAddr;

use serde::Deserialize;

/// A Node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NodeObject {
    /// Its metadata.
    pub metadata: NodeMetadata,
    /// kubelet's status; absent if only the metadata was requested.
    #[serde(default)]
    pub status: Option<NodeStatus>,
}

/// A Node's `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct NodeStatus {
    /// `addresses`.
    #[serde(default)]
    pub addresses: Option<Vec<NodeAddress>>,
}

/// One of a Node's addresses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NodeAddress {
    /// `type`: `InternalIP`, `ExternalIP`, `Hostname` and others.
    #[serde(rename = "type")]
    pub kind: String,
    /// An IP address or a name, depending on the type.
    pub address: String,
}

/// A Node's `metadata`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NodeMetadata {
    /// Its name.
    pub name: String,
    /// Its labels.
    #[serde(default)]
    pub labels: Option<NodeLabels>,
}

/// The one label that is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct NodeLabels {
    /// `topology.kubernetes.io/zone`.
    #[serde(default, rename = "topology.kubernetes.io/zone")]
    pub zone: Option<String>,
}

impl NodeObject {
    /// Its addresses in the cluster (`InternalIP`). Others are translated by a cloud and are not the node's own.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let all = self.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let internal = all.filter(|it| it.kind == "InternalIP");
        internal.filter_map(|it| it.address.parse().ok()).map(|it: IpAddr| it.to_canonical())
    }

    /// Its zone, if known.
    pub fn zone(&self) -> Option<&str> {
        self.metadata.labels.as_ref()?.zone.as_deref().filter(|zone| !zone.is_empty())
    }
}
