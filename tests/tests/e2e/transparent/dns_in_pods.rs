//! Names outside that pods ask for explicitly, with weir's sockets in the pods: each is looked up from its pod's own namespace.

use std::net::SocketAddr;

use serde_json::json;

use super::explicit_in_pods::{node, says_who};
use super::loopback_in_pods::until_served;
use super::{Stage, address, pods};
use e2e::kube::{self, ApiServer};
use e2e::net::place::Place;
use e2e::net::{NODE_V4, NODE_V6};
use e2e::raw::TcpServer;
use e2e::{Client, Dns, Pod, Response, Said, Weir, eventually};

/// A node with weir in the pods, and a name server in pod `b` that the node does not reach.
struct Scene {
    dns: Dns,
    _server: TcpServer,
    stage: Stage,
}

fn scene() -> Option<Scene> {
    let mut stage = Stage::set()?;
    let dns = Dns::start(&Place::from(&stage.b), stage.b.v4());
    dns.says("out.test", Said::addresses(&[&stage.a.v4().to_string()], 60));
    stage.b.ip(&format!("route add blackhole {NODE_V4}/32\nroute add blackhole {NODE_V6}/128\n"));
    let names = format!("{{ dns: {{ servers: [\"{}\"], timeout: 2s }} }}", dns.addr());
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&stage.hello()).set("names", &names);
    stage.start(builder);
    stage.until_listening(4);
    let server = says_who(&stage.a, stage.a.at(80));
    Some(Scene { dns, _server: server, stage })
}

/// The answer to a request for a name outside from `pod` to weir.
fn ask(pod: &Pod, to: SocketAddr) -> Response {
    Client::over(pod.connect(to).unwrap()).get("http://out.test/")
}

#[test]
fn a_pods_names_are_looked_up_from_its_own_namespace() {
    let Some(mut scene) = scene() else { return };
    let stage = &mut scene.stage;
    eventually("the proxy in every pod", || {
        stage.weir().metric("weir_explicit_netns", &[("state", "listening")]) == 4.0
    });
    for to in [node(false), node(true), address("127.0.0.1:4140"), address("[::1]:4140")] {
        let answer = ask(&stage.client, to);
        assert_eq!((answer.status, answer.text()), (200, stage.client.v4().to_string()), "{to}");
    }
    assert_eq!(scene.dns.questions("out.test"), 2, "A and AAAA, once");
    // What is too long for a datagram is asked for again by TCP, which the node could not either.
    scene.dns.says("long.test", Said::Truncated(vec![stage.a.v4()], 60));
    let answer = Client::over(stage.client.connect(node(false)).unwrap()).get("http://long.test/");
    assert_eq!((answer.status, answer.text()), (200, stage.client.v4().to_string()));
    // The node itself does not reach the server.
    assert_eq!(ask(&stage.net.node(), node(false)).status, 502);
}

#[test]
fn a_pod_that_may_not_ask_dns_gets_nothing_that_another_one_has_resolved() {
    let Some(mut scene) = scene() else { return };
    let isolated = scene.stage.net.pod("isolated");
    scene.stage.b.ip(&format!("route add blackhole {}/32\n", isolated.v4()));
    scene.stage.until_listening(5);
    let client = &scene.stage.client;
    assert_eq!(ask(client, node(false)).status, 200);
    let asked = scene.dns.questions("out.test");
    for _ in 0..2 {
        let answer = ask(&isolated, node(false));
        assert_eq!(answer.status, 502, "{answer:?}");
        assert_eq!(ask(client, node(false)).status, 200);
    }
    // Its questions have reached the server, whose answers do not reach it; and nobody asked for it.
    assert!(scene.dns.questions("out.test") > asked);
    // An address needs no look-up.
    let url = format!("http://{}/", scene.stage.a.v4());
    let answer = Client::over(isolated.connect(node(false)).unwrap()).get(&url);
    assert_eq!((answer.status, answer.text()), (200, isolated.v4().to_string()));
}

#[test]
fn what_dns_says_to_one_pod_is_not_told_to_another_and_the_page_counts_both() {
    let Some(mut scene) = scene() else { return };
    let other = scene.stage.net.pod("other");
    scene.stage.until_listening(5);
    assert_eq!(ask(&scene.stage.client, node(false)).status, 200);
    // For whoever asks from now on.
    scene.dns.says("out.test", Said::addresses(&[&scene.stage.beyond.v4().to_string()], 60));
    let _server = says_who(&scene.stage.beyond, scene.stage.beyond.at(80));
    assert_eq!(ask(&other, node(false)).text(), other.v4().to_string());
    assert_eq!(ask(&scene.stage.client, node(false)).status, 200);
    assert_eq!(scene.dns.questions("out.test"), 4, "each has asked once");
    let weir = scene.stage.weir();
    let attempts = |weir: &Weir| weir.metric("weir_attempts_total", &[("service", "/svc/out.test")]);
    assert_eq!(attempts(weir), 3.0, "of both pods");
    // A pod that ends takes nothing of the count with it.
    scene.stage.net.end(other);
    scene.stage.until_listening(4);
    assert_eq!(ask(&scene.stage.client, node(false)).status, 200);
    assert_eq!(attempts(scene.stage.weir()), 4.0);
}

#[test]
fn on_kubernetes_a_pod_is_led_anywhere_from_its_own_namespace() {
    let Some(mut stage) = Stage::set() else { return };
    let (pod, _) = pods::pod(&mut stage.net, 1);
    let dns = Dns::start(&Place::from(&stage.b), stage.b.v4());
    dns.says("out.test", Said::addresses(&[&stage.a.v4().to_string()], 60));
    let server = ApiServer::start_in(Place::from(&stage.net.node()));
    let mut told = kube::pod("default", "caller", "node-1", pod.v4());
    told["metadata"]["uid"] = json!(pods::uid(1));
    server.put(told);
    let builder = Weir::new().in_pods(&stage.net).env("POD_NAMESPACE", "weir");
    server.kubeconfig(builder.folder().path());
    let names = format!("{{ dns: {{ servers: [\"{}\"], timeout: 2s }} }}", dns.addr());
    let discovery = "{ kubernetes: { kubeconfig: ./kubeconfig, node: node-1, jitter: 0s } }";
    stage.start(builder.set("discovery", discovery).set("names", &names));
    let _server = says_who(&stage.a, stage.a.at(80));
    until_served(&mut stage, 1);
    for to in [node(false), address("127.0.0.1:4140")] {
        let answer = ask(&pod, to);
        assert_eq!((answer.status, answer.text()), (200, pod.v4().to_string()), "{to}");
    }
}
