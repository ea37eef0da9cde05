//! What Kubernetes says of a service and its endpoints, and what requests meet of it.

mod affinity; // `sessionAffinity: ClientIP`.
mod external; // `ExternalName`.
mod leaving; // Endpoints that leave, terminate or are not ready.
mod node_ports; // `nodePort`.
mod pods; // Pods of a StatefulSet by their names.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// A Service in the default namespace and, unless it has none, a slice of endpoints in these conditions. They all listen at
/// one port, so that they are told apart by their addresses.
fn objects(name: &str, spec: &str, endpoints: &[(SocketAddr, &str)]) -> String {
    let mut yaml =
        format!("apiVersion: v1\nkind: Service\nmetadata: {{ name: {name} }}\nspec: {{ {spec} }}\n");
    let Some((first, _)) = endpoints.first() else { return yaml };
    let _ = writeln!(
        yaml,
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-1\n  \
         labels: {{ kubernetes.io/service-name: {name} }}\naddressType: IPv4\n\
         ports: [{{ name: http, port: {} }}]\nendpoints:",
        first.port()
    );
    for (address, conditions) in endpoints {
        let _ = writeln!(yaml, "- {{ addresses: [{}], conditions: {{ {conditions} }} }}", address.ip());
    }
    yaml
}

/// What most Services here are.
const PLAIN: &str = "ports: [{ name: http, port: 80 }]";

/// Conditions of an endpoint.
const READY: &str = "ready: true";
const NOT_READY: &str = "ready: false";
const TERMINATING: &str = "ready: false, serving: true, terminating: true";

/// Backends on addresses of their own and one port.
fn backends<const N: usize>(names: [&str; N]) -> [e2e::Backend; N] {
    let mut port = None;
    let mut at = 0;
    names.map(|name| {
        at += 1;
        let address = SocketAddr::from(([127, 0, 1, at], port.unwrap_or(0)));
        let backend = e2e::Backend::http().answers(name).on(address).start();
        port = Some(backend.addr().port());
        backend
    })
}
