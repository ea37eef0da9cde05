//! What the Kubernetes objects of a service mean.
//!
//! The objects are serde structs of exactly the fields weir acts on; values no API server would accept (port 0,
//! an endpoint at 0.0.0.0) fail to deserialize, so that what exists is sound. [`assemble`] makes one catalog
//! service of them. Where they were read (a folder, an API server) is the caller's affair.
//!
//! Deliberately absent: UDP and SCTP ports; load balancers' addresses, which reach a node from outside; slices of type FQDN, which no Kubernetes component reads either.

mod assemble;
mod endpoints;
mod meta;
mod node;
mod place;
#[cfg(test)]
mod place_tests;
mod pod;
mod protocol;
mod service;
mod slice;
#[cfg(test)]
mod tests;

pub(in crate::discovery) use assemble::sorted;
pub use assemble::{Backing, assemble};
pub use endpoints::{EndpointAddress, EndpointPort, EndpointSubset, EndpointsObject};
pub use meta::{Address, Annotations, Labels, Metadata, PortNumber};
pub use node::{NodeAddress, NodeLabels, NodeMetadata, NodeObject, NodeStatus};
pub use place::Place;
pub use pod::{
    NamespaceMetadata, NamespaceObject, PodAnnotations, PodIp, PodMetadata, PodObject, PodSpec, PodStatus,
};
pub use protocol::app_protocol;
pub use service::{
    AffinityConfig, ClientIpConfig, ClusterIp, Family, ServiceObject, ServiceSpec, SpecPort, TrafficPolicy,
};
pub use slice::{Conditions, HintedName, Hints, SliceEndpoint, SliceObject, SlicePort};
