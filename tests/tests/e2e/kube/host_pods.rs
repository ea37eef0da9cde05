//! Slices that name the node's own addresses: they count only for pods of the node's network.

use std::net::{IpAddr, SocketAddr};

use e2e::kube::{self, ApiServer, Endpoint, service, slice};
use e2e::net::{NODE_V4, NODE_V6, is_root};
use e2e::raw::TcpServer;
use e2e::{Backend, Net, Place, Request, Weir, eventually};
use serde_json::{Value, json};

use super::stage::following;

/// Where something of the node listens that is not for pods.
const PORT: u16 = 8080;

/// A node on which something listens, weir, and the API server's double.
struct Scene {
    weir: Weir,
    server: ApiServer,
    trap: Backend,
    address: IpAddr,
    net: Net,
}

impl Scene {
    fn at(address: &str) -> Self {
        Self::prepared(address, |_| {})
    }

    /// With a server that is `prepared` before weir starts.
    fn prepared(address: &str, prepare: impl FnOnce(&ApiServer)) -> Self {
        let net = Net::new();
        let server = ApiServer::start_in(Place::from(&net.node()));
        prepare(&server);
        let address: IpAddr = address.parse().unwrap();
        let trap = Backend::http()
            .answers("the node")
            .inside(&net.node())
            .on(SocketAddr::new(address, PORT))
            .start();
        let builder = following(&server).set_in("discovery", "files", "{ path: ./services }").beside(&net);
        let builder = builder.set_in("outgoing", "connectPorts", "1-65535");
        let weir = builder.start();
        eventually("its services", || weir.admin_get("/ready").status == 200);
        Self { weir, server, trap, address, net }
    }

    /// Tells of a Service whose slice names the node, and `target`.
    fn name_node(&self, name: &str, namespace: &str, target: &Value) {
        let mut objects = [
            service(name, "None", &[("http", 80)]),
            slice(name, name, ("http", PORT), &[Endpoint::ready(self.address)]),
        ];
        objects[1]["endpoints"][0]["targetRef"] = target.clone();
        for mut object in objects {
            object["metadata"]["namespace"] = json!(namespace);
            self.server.put(object);
        }
    }

    /// Tells of a pod of the node with the node's address.
    fn pod(&self, namespace: &str, name: &str, host_network: bool) {
        let mut pod = kube::pod(namespace, name, "node-1", self.address);
        pod["spec"]["hostNetwork"] = json!(host_network);
        self.server.put(pod);
    }

    fn get(&self, host: &str) -> u16 {
        self.weir.get(&format!("http://{host}/")).status
    }

    fn refused(&self) -> f64 {
        self.weir.metric("weir_refused_total", &[("reason", "no_host_pod")])
    }
}

fn pod(namespace: &str, name: &str) -> Value {
    json!({ "kind": "Pod", "namespace": namespace, "name": name })
}

#[test]
fn a_slice_reaches_the_node_only_by_a_pod_of_the_nodes_network() {
    if !is_root() {
        return;
    }
    for address in [NODE_V4, NODE_V6] {
        let scene = Scene::at(address);
        scene.pod("shop", "agent", true);
        scene.pod("shop", "web", false);
        scene.pod("kube-system", "proxy", true);
        scene.name_node("good", "shop", &pod("shop", "agent"));
        eventually("the pod", || scene.get("good.shop") == 200);
        let before = scene.trap.count();
        for (name, target) in [
            ("nobody", json!(null)),
            ("node", json!({ "kind": "Node", "name": "node-1" })),
            ("unknown", pod("shop", "other")),
            ("own-network", pod("shop", "web")),
            ("of-another", pod("kube-system", "proxy")),
            ("says-another", json!({ "kind": "Pod", "namespace": "shop", "name": "proxy" })),
        ] {
            scene.name_node(name, "shop", &target);
            let host = format!("{name}.shop");
            eventually("the service", || scene.get(&host) == 403);
            let refused = scene.refused();
            let answer = scene.weir.get(&format!("http://{host}/"));
            answer.expect_status(403);
            assert!(answer.l5d_err().contains("targetRef"), "{name}: {}", answer.l5d_err());
            scene.weir.ask(&Request::new("CONNECT", &format!("{host}:80"))).expect_status(403);
            assert_eq!(scene.refused() - refused, 2.0, "{name}");
            let explained = scene.weir.admin_get(&format!("/api/explain?name={host}&format=text")).text();
            assert!(explained.contains("from the node: an address of the proxy's own node"), "{explained}");
        }
        assert_eq!(scene.trap.count(), before, "{address}");
        let explained = scene.weir.admin_get("/api/explain?name=good.shop&format=text").text();
        assert!(!explained.contains("does not connect"), "{explained}");
    }
}

#[test]
fn a_slice_loses_the_node_with_its_pod_and_gets_it_back() {
    if !is_root() {
        return;
    }
    let scene = Scene::at(NODE_V4);
    scene.name_node("web", "shop", &pod("shop", "agent"));
    eventually("the service, without its pod", || scene.get("web.shop") == 403);
    for _ in 0..2 {
        scene.pod("shop", "agent", true);
        eventually("its pod", || scene.get("web.shop") == 200);
        scene.server.delete("pods", "shop", "agent");
        // A connection that was kept is not used either.
        eventually("its pod's end", || scene.get("web.shop") == 403);
    }
}

#[test]
fn the_api_server_and_what_an_operator_wrote_may_be_on_the_node() {
    if !is_root() {
        return;
    }
    let scene = Scene::at(NODE_V4);
    scene.name_node("kubernetes", "default", &json!(null));
    eventually("the API server's service", || scene.get("kubernetes") == 200);
    // Another slice of its Service is not its own.
    let mut second = slice("other", "kubernetes", ("http", PORT + 1), &[Endpoint::ready(scene.address)]);
    second["metadata"]["namespace"] = json!("default");
    let trap = TcpServer::greets(
        Place::from(&scene.net.node()).listen(SocketAddr::new(scene.address, PORT + 1)).unwrap(),
        "caught",
    );
    scene.server.put(second);
    eventually("the second slice", || {
        scene.weir.admin_get("/api/explain?name=kubernetes&format=text").text().contains("does not connect")
    });
    let refused = scene.refused();
    let statuses: Vec<u16> = (0..20).map(|_| scene.get("kubernetes")).collect();
    assert!(statuses.iter().all(|it| *it == 200), "{statuses:?}");
    assert!(scene.refused() > refused, "it was chosen");
    assert_eq!(trap.accepted(), 0);
    scene.weir.folder().service("written", &[SocketAddr::new(scene.address, PORT)]);
    eventually("what was written down", || scene.get("written") == 200);
}

/// As those of the `kubelet` Service that the Prometheus operator writes: a Node is no pod.
#[test]
fn an_endpoint_that_weir_does_not_connect_to_costs_its_service_no_request() {
    if !is_root() {
        return;
    }
    let mut scene = Scene::at(NODE_V4);
    let pod = scene.net.pod("others");
    let other = Backend::http().answers("another").inside(&pod).on(SocketAddr::new(pod.v4(), PORT)).start();
    scene.name_node("kubelet", "shop", &json!({ "kind": "Node", "name": "node-1" }));
    eventually("the service", || scene.get("kubelet.shop") == 403);
    let mut second = slice("second", "kubelet", ("http", PORT), &[Endpoint::ready(pod.v4())]);
    second["metadata"]["namespace"] = json!("shop");
    scene.server.put(second);
    eventually("the other endpoint", || scene.get("kubelet.shop") == 200);
    for number in 0..50 {
        let answer = scene.weir.get("http://kubelet.shop/");
        answer.expect_status(200);
        assert_eq!(answer.text(), "another", "{number}");
        let tunnel = scene.weir.ask(&Request::new("CONNECT", "kubelet.shop:80"));
        tunnel.expect_status(200);
    }
    assert!(scene.refused() > 2.0, "it was chosen");
    assert_eq!(scene.trap.count(), 0);
    // What failed is told, not what was left out.
    drop(other);
    for _ in 0..20 {
        assert_eq!(scene.get("kubelet.shop"), 502);
    }
    scene.server.delete("endpointslices", "shop", "second");
    eventually("only the node's", || scene.get("kubelet.shop") == 403);
}

#[test]
fn endpoints_on_the_node_serve_while_the_pods_are_not_known_yet() {
    if !is_root() {
        return;
    }
    let scene = Scene::prepared(NODE_V4, |server| {
        server.faults(|faults| {
            faults.hung.insert("pods".to_owned());
        });
    });
    for (name, target) in
        [("web", pod("shop", "agent")), ("node", json!({ "kind": "Node", "name": "node-1" }))]
    {
        scene.name_node(name, "shop", &target);
    }
    eventually("the service", || scene.get("web.shop") == 200);
    eventually("the other service", || scene.get("node.shop") == 403);
    assert_eq!(scene.get("web.shop"), 200);
    // Then it turns out that there is no such pod.
    scene.server.heal();
    eventually("the pods", || scene.get("web.shop") == 403);
}
