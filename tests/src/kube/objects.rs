//! Objects as a test wants to write them.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use super::ApiServer;

/// An endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: IpAddr,
    /// `conditions.ready`.
    pub ready: bool,
    /// `conditions.serving`.
    pub serving: bool,
    /// `conditions.terminating`.
    pub terminating: bool,
}

impl Endpoint {
    /// One that is ready.
    pub fn ready(address: IpAddr) -> Self {
        Self { address, ready: true, serving: true, terminating: false }
    }

    /// One that still answers and is about to leave.
    pub fn terminating(address: IpAddr) -> Self {
        Self { address, ready: false, serving: true, terminating: true }
    }

    /// One that is not ready.
    pub fn unready(address: IpAddr) -> Self {
        Self { address, ready: false, serving: false, terminating: false }
    }

    fn json(&self) -> Value {
        let Self { address, ready, serving, terminating } = self;
        json!({
            "addresses": [address.to_string()],
            "conditions": { "ready": ready, "serving": serving, "terminating": terminating },
            "nodeName": "node-1",
        })
    }
}

/// A Service of `default` with a ClusterIP (`None` for a headless one), and ports by name and number.
pub fn service(name: &str, cluster_ip: &str, ports: &[(&str, u16)]) -> Value {
    let ports: Vec<Value> = ports
        .iter()
        .map(
            |(name, number)| json!({ "name": name, "port": number, "targetPort": number, "protocol": "TCP" }),
        )
        .collect();
    json!({
        "kind": "Service",
        "metadata": { "name": name },
        "spec": { "type": "ClusterIP", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip], "ports": ports },
    })
}

/// A slice of a Service of `default`, with one port.
pub fn slice(name: &str, service: &str, port: (&str, u16), endpoints: &[Endpoint]) -> Value {
    let family = if endpoints.first().is_some_and(|it| it.address.is_ipv6()) { "IPv6" } else { "IPv4" };
    json!({
        "kind": "EndpointSlice",
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": service } },
        "addressType": family,
        "endpoints": endpoints.iter().map(Endpoint::json).collect::<Vec<_>>(),
        "ports": [{ "name": port.0, "port": port.1, "protocol": "TCP" }],
    })
}

/// A running Pod of a node.
pub fn pod(namespace: &str, name: &str, node: &str, address: IpAddr) -> Value {
    json!({
        "kind": "Pod",
        "metadata": { "name": name, "namespace": namespace },
        "spec": { "nodeName": node, "containers": [{ "name": "main", "image": "none" }] },
        "status": {
            "phase": "Running", "podIP": address.to_string(), "podIPs": [{ "ip": address.to_string() }],
        },
    })
}

impl ApiServer {
    /// Makes these the endpoints of port `http` of a service of `default`: a slice for each port number among them.
    #[track_caller]
    pub fn serve(&self, service: &str, endpoints: &[SocketAddr]) {
        let ready: Vec<_> = endpoints.iter().map(|it| (*it, Endpoint::ready(it.ip()))).collect();
        self.serve_as(service, &ready);
    }

    /// The same, and what each endpoint's condition is.
    #[track_caller]
    pub fn serve_as(&self, service: &str, endpoints: &[(SocketAddr, Endpoint)]) {
        let mut ports: Vec<u16> = endpoints.iter().map(|(at, _)| at.port()).collect();
        ports.sort_unstable();
        ports.dedup();
        for port in &ports {
            let of_port: Vec<_> =
                endpoints.iter().filter(|(at, _)| at.port() == *port).map(|(_, it)| it.clone()).collect();
            self.put(slice(&format!("{service}-{port}"), service, ("http", *port), &of_port));
        }
        let stays: Vec<String> = ports.iter().map(|port| format!("{service}-{port}")).collect();
        for old in self.objects("endpointslices") {
            let metadata = &old["metadata"];
            let name = metadata["name"].as_str().unwrap_or_default();
            let of_this = metadata["labels"]["kubernetes.io/service-name"] == service;
            if of_this && !stays.iter().any(|it| it == name) {
                self.delete("endpointslices", "default", name);
            }
        }
    }

    /// A synthetic cluster: services `s0`, `s1`, … of `default`, each with a ClusterIP and so many endpoints.
    pub fn fill(&self, services: usize, endpoints: usize) {
        let mut store = self.store();
        for at in 0..services {
            let name = format!("s{at}");
            let ip = format!("10.{}.{}.{}", 100 + at / 65_536, at / 256 % 256, at % 256);
            store.put(service(&name, &ip, &[("http", 80)])).expect("a Service");
            let addresses = (0..endpoints).map(|it| Endpoint::ready(synthetic(at * endpoints + it)));
            let addresses: Vec<_> = addresses.collect();
            store.put(slice(&format!("{name}-abcde"), &name, ("http", 8080), &addresses)).expect("a slice");
        }
        drop(store);
        self.shared.changed();
    }
}

/// The address of one endpoint of [`ApiServer::fill`].
fn synthetic(number: usize) -> IpAddr {
    let bits = 0x0b00_0000 + u32::try_from(number).expect("fewer endpoints than addresses");
    std::net::Ipv4Addr::from_bits(bits).into()
}
