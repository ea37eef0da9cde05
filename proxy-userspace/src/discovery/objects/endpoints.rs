//! `Endpoints`, of `v1`: the predecessor of EndpointSlices, which linkerd 1 read.

use serde::Deserialize;

use super::meta::{Address, Metadata, PortNumber};

/// All endpoints of the service that has the same name and namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct EndpointsObject {
    /// Its metadata.
    pub metadata: Metadata,
    /// Groups of endpoints with the same ports.
    #[serde(default)]
    pub subsets: Option<Vec<EndpointSubset>>,
}

/// Every address, with every port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSubset {
    /// Endpoints that take traffic.
    #[serde(default)]
    pub addresses: Option<Vec<EndpointAddress>>,
    /// Endpoints that take none.
    #[serde(default)]
    pub not_ready_addresses: Option<Vec<EndpointAddress>>,
    /// Their ports.
    #[serde(default)]
    pub ports: Option<Vec<EndpointPort>>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointAddress {
    /// Its address.
    pub ip: Address,
    /// `hostname`: its name within the service, if it has a stable one.
    #[serde(default)]
    pub hostname: Option<String>,
    /// The node it runs on.
    #[serde(default)]
    pub node_name: Option<String>,
}

/// A port of a subset.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct EndpointPort {
    /// The name of the service's port; absent for the unnamed one.
    #[serde(default)]
    pub name: Option<String>,
    /// The number endpoints listen on.
    pub port: PortNumber,
    /// `TCP`, the default, `UDP` or `SCTP`.
    #[serde(default)]
    pub protocol: Option<String>,
}
