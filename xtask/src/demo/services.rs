//! The Kubernetes objects of the demo, as a cluster would serve them.

use std::fmt::Write;
use std::net::IpAddr;

use super::scene::{ECHO, HELLO};

/// Two Services with their EndpointSlices.
pub(crate) fn kubernetes(endpoints: &[IpAddr], http: u16, echo: u16) -> String {
    let mut text = String::new();
    for (name, service, port_name, port) in [("hello", HELLO, "http", http), ("echo", ECHO, "echo", echo)] {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "---\n\
             apiVersion: v1\n\
             kind: Service\n\
             metadata: {{ name: {name}, namespace: default }}\n\
             spec:\n\
             \x20 clusterIP: {}\n\
             \x20 clusterIPs: [{}]\n\
             \x20 ports: [{{ name: {port_name}, port: {}, targetPort: {port}, protocol: TCP }}]\n\
             ---\n\
             apiVersion: discovery.k8s.io/v1\n\
             kind: EndpointSlice\n\
             metadata: {{ name: {name}-1, namespace: default, labels: {{ kubernetes.io/service-name: {name} }} }}\n\
             addressType: IPv4\n\
             ports: [{{ name: {port_name}, port: {port}, protocol: TCP }}]\n\
             endpoints:\n",
            service.ip(),
            service.ip(),
            service.port(),
        );
        for endpoint in endpoints {
            let _ = writeln!(text, "- {{ addresses: [{endpoint}], conditions: {{ ready: true }} }}");
        }
    }
    text
}
