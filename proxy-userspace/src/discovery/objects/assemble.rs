//! Builds a catalog service from a Service and its backing objects.

use std::net::SocketAddr;
use std::sync::Arc;

use super::endpoints::{EndpointAddress, EndpointsObject};
use super::meta::PortNumber;
use super::place::{Backed, Place};
use super::protocol::{app_protocol, is_tcp};
use super::service::{Family, ServiceObject, SpecPort, TrafficPolicy};
use super::slice::SliceObject;
use crate::domain::catalog::{
    AppProtocol, At, Condition, Endpoint, Namer, NodePort, Service, ServiceKey, ServicePort,
};
use crate::domain::ports::PortWishes;

/// The backing objects of a Service.
#[derive(Clone, Copy, Debug)]
pub enum Backing<'a> {
    /// Its EndpointSlices.
    Slices(&'a [&'a SliceObject]),
    /// Its Endpoints object.
    Endpoints(&'a EndpointsObject),
}

/// The service built from `object` and its backing, not [`written`](Service::written).
///
/// A port has the endpoints whose port has the same name; a Service with a single nameless port is matched by a
/// nameless one. An `ExternalName` service is only an alias: its backing is ignored.
///
/// Only endpoints for the `place` are kept ([`Place::narrow`]).
pub fn assemble(object: &ServiceObject, backing: Backing<'_>, place: Place<'_>) -> Service {
    let tcp = || object.spec.ports.iter().flatten().filter(|port| port.is_tcp());
    let external_name = object.external_name().map(|name| Arc::from(name.to_ascii_lowercase()));
    let backing = if external_name.is_some() { Backing::Slices(&[]) } else { backing };
    let policy = object.spec.internal_traffic_policy;
    let family = object.preferred_family();
    let narrow = |backed: Vec<Backed<'_>>| place.narrow(policy, of_family(family, backed));
    let mut ports: Vec<_> = tcp().map(|port| service_port(port, backing, place, &narrow)).collect();
    for (port, spec) in ports.iter_mut().zip(tcp()) {
        port.node_port = node_port(spec, policy, object.spec.external_traffic_policy);
    }
    annotate(&mut ports, &object.port_wishes().0);
    Service {
        key: ServiceKey {
            namer: Namer::K8s,
            namespace: object.metadata.namespace.as_str().into(),
            name: object.metadata.name.as_str().into(),
        },
        addresses: object.addresses(),
        ports,
        written: false,
        external_name,
        affinity: object.affinity(),
    }
}

fn service_port(
    port: &SpecPort,
    backing: Backing<'_>,
    place: Place<'_>,
    narrow: &dyn Fn(Vec<Backed<'_>>) -> Vec<Endpoint>,
) -> ServicePort {
    let endpoints = match backing {
        Backing::Slices(slices) => {
            narrow(slices.iter().flat_map(|slice| of_slice(slice, port, place)).collect())
        }
        Backing::Endpoints(endpoints) => of_endpoints(endpoints, port),
    };
    ServicePort {
        name: port.name.as_deref().filter(|name| !name.is_empty()).map(Arc::from),
        number: port.port.0,
        protocol: app_protocol(port.app_protocol.as_deref()),
        endpoints: sorted(endpoints),
        node_port: None,
    }
}

/// The node port of `port`. None with `internalTrafficPolicy: Local`: a node port leads to all endpoints, and the
/// service's own port only to those of this node.
fn node_port(port: &SpecPort, internal: TrafficPolicy, external: TrafficPolicy) -> Option<NodePort> {
    let at = match (internal, external) {
        (TrafficPolicy::Local, _) => return None,
        (TrafficPolicy::Cluster, TrafficPolicy::Cluster) => At::Every,
        (TrafficPolicy::Cluster, TrafficPolicy::Local) => At::Own,
    };
    port.node_port.filter(|&number| number != 0).map(|number| NodePort { number, at })
}

/// The Service's annotations override what its ports declare.
fn annotate(ports: &mut [ServicePort], wishes: &PortWishes) {
    for port in ports {
        if wishes.skip.contains(port.number) {
            port.protocol = AppProtocol::Direct;
        } else if wishes.opaque.contains(port.number) {
            port.protocol = AppProtocol::Opaque;
        }
    }
}

fn of_slice<'a>(slice: &'a SliceObject, port: &SpecPort, place: Place<'_>) -> Vec<Backed<'a>> {
    let ports = slice.ports.iter().flatten().filter(|candidate| is_tcp(candidate.protocol.as_deref()));
    let numbers = ports.filter(|candidate| same_name(candidate.name.as_deref(), port.name.as_deref()));
    // A port without a number stands for all ports, so an endpoint is reached at the dialled number.
    let numbers: Vec<PortNumber> = numbers.map(|candidate| candidate.port.unwrap_or(port.port)).collect();
    let mut backed = Vec::new();
    for object in slice.endpoints.iter().flatten() {
        let Some(address) = object.address else { continue };
        let on_node = place.host_pods.is_some_and(|pods| pods.have(slice, object));
        for number in &numbers {
            let endpoint = Endpoint {
                address: SocketAddr::new(address.0, number.0),
                weight: 1.0,
                condition: object.conditions.unwrap_or_default().condition(),
                hostname: object.hostname.as_deref().map(stable),
                zone: object.zone.clone(),
                node: object.node_name.clone(),
                on_node,
            };
            backed.push(Backed { endpoint, hints: object.hints.as_deref() });
        }
    }
    backed
}

fn of_endpoints(object: &EndpointsObject, port: &SpecPort) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for subset in object.subsets.iter().flatten() {
        let ports = subset.ports.iter().flatten().filter(|candidate| is_tcp(candidate.protocol.as_deref()));
        for number in ports.filter(|candidate| same_name(candidate.name.as_deref(), port.name.as_deref())) {
            let at = |address: &EndpointAddress, condition| Endpoint {
                condition,
                hostname: address.hostname.as_deref().filter(|name| !name.is_empty()).map(stable),
                node: address.node_name.as_deref().map(Arc::from),
                ..Endpoint::at(SocketAddr::new(address.ip.0, number.port.0))
            };
            let ready = subset.addresses.iter().flatten();
            let not_ready = subset.not_ready_addresses.iter().flatten();
            endpoints.extend(ready.map(|address| at(address, Condition::Ready)));
            endpoints.extend(not_ready.map(|address| at(address, Condition::NotReady)));
        }
    }
    endpoints
}

/// A hostname in the form of canonical hosts.
fn stable(hostname: &str) -> Arc<str> {
    hostname.to_ascii_lowercase().into()
}

/// Each pod of a dual-stack Service is in slices of both families, but is one endpoint.
fn of_family(family: Option<Family>, mut backed: Vec<Backed<'_>>) -> Vec<Backed<'_>> {
    let is_of = |it: &Backed<'_>| match family {
        Some(Family::V4) => it.endpoint.address.is_ipv4(),
        Some(Family::V6) => it.endpoint.address.is_ipv6(),
        Some(Family::Other) | None => false,
    };
    if backed.iter().any(|it| it.endpoint.condition == Condition::Ready && is_of(it)) {
        backed.retain(is_of);
    }
    backed
}

/// Kubernetes treats an absent name like an empty one.
fn same_name(one: Option<&str>, other: Option<&str>) -> bool {
    one.unwrap_or_default() == other.unwrap_or_default()
}

/// By address, without duplicates. An endpoint that moves between slices is in both; the better condition wins.
pub(in crate::discovery) fn sorted(mut endpoints: Vec<Endpoint>) -> Arc<[Endpoint]> {
    endpoints.sort_by_key(|endpoint| (endpoint.address, endpoint.condition));
    endpoints.dedup_by_key(|endpoint| endpoint.address);
    endpoints.into()
}
