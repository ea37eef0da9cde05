//! A node's address with a Service's `nodePort` is that Service: on this node, and at every other that is known.

use e2e::time::within;
use e2e::weir::builder::Builder;
use e2e::{Answer, Backend, Client, Net, Pod, Weir, folder};
use std::time::Duration;

/// Where the endpoint listens.
const TARGET: u16 = 8080;

/// Another node's addresses. Nobody is there: who answers is the Service.
const OTHER: [&str; 2] = ["10.9.9.9", "fd00:9::9"];

struct Stage {
    // Dropped in this order: who connects first, the network last.
    weir: Weir,
    pod: Pod,
    net: Net,
    _backend: Backend,
}

/// Service `web` with this node port, of which `spec` says more.
fn web(pod: &Pod, port: u16, spec: &str) -> String {
    let yaml = folder::service("web", &["10.96.0.10"]).port("http", 80, TARGET).endpoints(&[pod.v4()]).yaml();
    let yaml = yaml.replace("targetPort: 8080", &format!("targetPort: 8080, nodePort: {port}"));
    yaml.replace("spec:\n", &format!("spec:\n  type: NodePort\n{spec}"))
}

/// A Node with these addresses, and others that are not its own in the cluster.
fn node(name: &str, addresses: &[&str]) -> String {
    let internal = addresses.iter().map(|it| format!("  - {{ type: InternalIP, address: \"{it}\" }}\n"));
    format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{ name: {name} }}\nstatus:\n  addresses:\n{}  \
         - {{ type: Hostname, address: {name} }}\n  - {{ type: ExternalIP, address: 10.9.9.1 }}\n",
        internal.collect::<String>()
    )
}

impl Stage {
    /// `web` at 30080 with what `spec` says, another node, and weir on this one; `None`, and a word why, without root.
    #[track_caller]
    fn set(spec: &str, settings: impl FnOnce(Builder, &Net) -> Builder) -> Option<Self> {
        if !e2e::net::is_root() {
            return None;
        }
        let mut net = Net::new();
        let pod = net.pod("web");
        let backend = Backend::http().answer(Answer::ok("web")).inside(&pod).on(pod.at(TARGET)).start();
        let builder = settings(Weir::new(), &net);
        let builder =
            builder.file("web.yaml", &web(&pod, 30080, spec)).file("node.yaml", &node("other", &OTHER));
        Some(Self { weir: builder.start(), pod, net, _backend: backend })
    }

    #[track_caller]
    fn explicit(spec: &str) -> Option<Self> {
        Self::set(spec, |builder, net| builder.beside(net))
    }

    /// This node's addresses, as they stand in a URL.
    fn own(&self) -> [String; 2] {
        let node = self.net.node();
        [node.v4().to_string(), format!("[{}]", node.v6())]
    }

    /// The other's.
    fn other() -> [String; 2] {
        [OTHER[0].to_owned(), format!("[{}]", OTHER[1])]
    }

    fn status(&self, host: &str, port: u16) -> u16 {
        self.weir.get(&format!("http://{host}:{port}/")).status
    }
}

#[test]
fn every_nodes_address_with_a_node_port_is_that_service() {
    let Some(stage) = Stage::explicit("") else { return };
    for host in stage.own().into_iter().chain(Stage::other()) {
        let url = format!("http://{host}:30080/");
        stage.weir.get(&url).expect_body("web");
        let mut tunnel = stage.weir.client();
        tunnel.send(format!("CONNECT {host}:30080 HTTP/1.1\r\nHost: {host}:30080\r\n\r\n"));
        assert_eq!(tunnel.head().status(), Some(200), "{host}");
        tunnel.get("/").expect_body("web");
        let explained = stage.weir.admin_get(&format!("/api/explain?name={url}&format=text")).text();
        assert!(explained.contains("/svc/web") && explained.contains("10.1.0."), "{explained}");
    }
    let attempts = stage.weir.metric("weir_endpoint_requests_total", &[("service", "/svc/web")]);
    assert_eq!(attempts, 8.0, "not all of them were counted as the Service's");
}

#[test]
fn other_ports_and_other_addresses_are_what_they_were() {
    let Some(stage) = Stage::explicit("") else { return };
    for host in stage.own() {
        assert_eq!((stage.status(&host, 30081), stage.status(&host, 80)), (403, 403), "{host}");
    }
    // No node's address, a cloud's for a node, and this node's loopback.
    for (host, status) in [("10.9.9.8", 502), ("10.9.9.1", 502), ("127.0.0.1", 403), ("localhost", 502)] {
        assert_eq!(stage.status(host, 30080), status, "{host}");
    }
}

#[test]
fn node_ports_and_nodes_come_and_go() {
    let Some(stage) = Stage::explicit("") else { return };
    let ([own, _], [other, _]) = (stage.own(), Stage::other());
    let expect = |what: &str, expected: [(&str, u16, u16); 3]| {
        for (host, port, status) in expected {
            within(Duration::from_secs(5), &format!("{what}: {status} of {host}:{port}"), || {
                stage.status(host, port) == status
            });
        }
    };
    expect("at first", [(&own, 30080, 200), (&other, 30080, 200), (&own, 30090, 403)]);
    stage.weir.folder().replace("web.yaml", &web(&stage.pod, 30090, ""));
    expect("another port", [(&own, 30080, 403), (&other, 30080, 502), (&own, 30090, 200)]);
    stage.weir.folder().replace("node.yaml", &node("other", &["10.9.9.7"]));
    expect("another address", [(&own, 30090, 200), (&other, 30090, 502), ("10.9.9.7", 30090, 200)]);
    stage.weir.folder().remove("node.yaml");
    expect("no other node", [(&own, 30090, 200), (&other, 30090, 502), ("10.9.9.7", 30090, 502)]);
    stage.weir.folder().remove("web.yaml");
    expect("no service", [(&own, 30090, 403), (&own, 30080, 403), (&other, 30090, 502)]);
}

#[test]
fn a_node_port_is_only_where_its_traffic_policies_let_weir_serve_it() {
    for (spec, own, other) in [
        // Behind another node's are its own endpoints only; pods of this node have all of them at this one's.
        ("  externalTrafficPolicy: Local\n", 200, 502),
        // Inside, only this node's endpoints are the Service; a node port is all of them.
        ("  internalTrafficPolicy: Local\n", 403, 502),
    ] {
        let Some(stage) = Stage::explicit(spec) else { return };
        assert_eq!(stage.status(&stage.own()[0], 30080), own, "{spec}");
        assert_eq!(stage.status(OTHER[0], 30080), other, "{spec}");
    }
}

#[test]
fn a_diverted_connection_to_a_nodes_address_and_node_port_is_that_service() {
    let set = Stage::set("", |builder, net| {
        builder.on_node(net).set_in("transparent", "divert", "[10.9.9.0/24, \"fd00:9::/64\"]")
    });
    let Some(mut stage) = set else { return };
    let client = stage.net.pod("client");
    for host in Stage::other() {
        let connection = client.connect(format!("{host}:30080").parse().unwrap()).unwrap();
        Client::over(connection).get("/").expect_body("web");
    }
}
