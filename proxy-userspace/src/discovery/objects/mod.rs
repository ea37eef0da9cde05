//! Interprets the Kubernetes objects of a service.
//!
//! The objects are serde structs with exactly the fields that weir uses; values no API server would accept (port 0, an
//! endpoint at 0.0.0.0) fail to deserialize, so every value is valid. [`assemble`] builds one catalog service from
//! them. The caller decides where to read them (a folder, an API server).
//!
//! Deliberately absent: UDP and SCTP ports; addresses of load balancers, which reach a node from outside; slices of
//! type FQDN, which no Kubernetes component reads either.

mod assemble;
mod endpoints;
mod host_pods;
mod ingress;
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
pub use host_pods::HostPods;
pub use ingress::{IngressObject, ingress_class};
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
pub use slice::{Conditions, HintedName, Hints, SliceEndpoint, SliceObject, SlicePort, TargetRef};
