//! Whom an API server tells of is diverted, to the services it tells of.

use std::time::Duration;

use e2e::client::Client;
use e2e::eventually;
use e2e::kube::{self, ApiServer, Endpoint};
use e2e::{Clock, Place, Pod, Weir};
use serde_json::{Value, json};

use crate::transparent::{Stage, TARGET, V4, address, answered};

const UID: &str = "0b7f1c1e-0000-4000-8000-000000000042";
const NEIGHBOUR: &str = "0b7f1c1e-0000-4000-8000-000000000043";

/// The pod as the API server tells of it.
fn told(pod: &Pod, annotations: &Value) -> Value {
    let mut told = kube::pod("default", "caller", "node-1", pod.v4());
    told["metadata"]["uid"] = json!(UID);
    told["metadata"]["annotations"] = annotations.clone();
    told
}

#[test]
fn a_pod_is_diverted_within_100_ms_of_its_event_and_its_annotation_and_end_undo_that() {
    let Some(mut stage) = Stage::set() else { return };
    let pod = stage.net.pod(&format!("burstable/pod{UID}"));
    let server = ApiServer::start_in(Place::from(&stage.net.node()));
    server.put(kube::service("hello", "10.96.0.10", &[("http", 80)]));
    let endpoints = [stage.a.v4(), stage.b.v4()].map(Endpoint::ready);
    server.put(kube::slice("hello-1", "hello", ("http", TARGET), &endpoints));
    let builder = Weir::new().on_node(&stage.net).env("POD_NAMESPACE", "weir");
    server.kubeconfig(builder.folder().path());
    // What `transparent.enrol` says by itself where an API server tells of pods.
    let discovery = "{ kubernetes: { kubeconfig: ./kubeconfig, node: node-1, jitter: 0s } }";
    stage.start(builder.set("discovery", discovery));
    let (_backends, _direct) = (stage.backends(), stage.direct());
    let answered = || Client::over(pod.connect(address(V4)).unwrap()).get("/").text();
    eventually("the service's address", || {
        stage.weir().state()["services"].as_array().is_some_and(|it| !it.is_empty())
    });
    assert_eq!(answered(), "direct", "nobody told of the pod");

    let diverted = || answered() != "direct";
    let mut took: Vec<Duration> = (0..5)
        .map(|_| {
            server.put(told(&pod, &json!({})));
            let begun = Clock::start();
            eventually("its diversion", diverted);
            let took = begun.elapsed();
            server.put(told(&pod, &json!({ "weir.dev/divert": "disabled" })));
            eventually("the end of it by annotation", || !diverted());
            took
        })
        .collect();
    took.sort_unstable();
    assert!(took[2] < Duration::from_millis(100), "{took:?}");

    server.put(told(&pod, &json!({ "weir.dev/skip-ports": "80" })));
    eventually("its enrolment", || {
        stage.weir().metric("weir_enrolment_pods", &[("state", "enrolled")]) == 1.0
    });
    assert_eq!(answered(), "direct", "the port is skipped");
    let admin = stage.weir().admin().to_string();
    let status = ["status", "--admin", &admin, "--pod", "default/caller"];
    let shown = Weir::new().beside(&stage.net).run(&status).stdout;
    assert!(shown.starts_with("node node-1: weir "), "{shown}");
    assert!(shown.contains(&format!("\npod default/caller ({}): enrolled, ", pod.v4())), "{shown}");
    server.put(told(&pod, &json!({})));
    eventually("its diversion again", diverted);
    // A server that is gone changes nothing.
    server.down();
    assert!(e2e::time::holds_for(Duration::from_secs(1), diverted));
    server.up();
    server.delete("pods", "default", "caller");
    eventually("its end", || !diverted());
}

#[test]
fn a_connection_is_served_only_to_the_pod_that_the_api_server_gives_its_address() {
    let Some(mut stage) = Stage::set() else { return };
    let pod = stage.net.pod(&format!("burstable/pod{UID}"));
    let neighbour = stage.net.pod(&format!("burstable/pod{NEIGHBOUR}"));
    let server = ApiServer::start_in(Place::from(&stage.net.node()));
    server.put(kube::service("hello", "10.96.0.10", &[("http", 80)]));
    server.put(kube::slice("hello-1", "hello", ("http", TARGET), &[Endpoint::ready(stage.a.v4())]));
    let builder = Weir::new().on_node(&stage.net).env("POD_NAMESPACE", "weir");
    server.kubeconfig(builder.folder().path());
    let discovery = "{ kubernetes: { kubeconfig: ./kubeconfig, node: node-1, jitter: 0s } }";
    stage.start(builder.set("discovery", discovery));
    let (_backends, _direct) = (stage.backends(), stage.direct());
    let tell = |uid: &str, name: &str, addresses: Value| {
        let mut told = kube::pod("default", name, "node-1", pod.v4());
        told["metadata"]["uid"] = json!(uid);
        told["status"]["podIPs"] = addresses;
        server.put(told);
    };
    let known =
        |weir: &Weir, count: f64| weir.metric("weir_interception_addresses", &[("source", "told")]) == count;
    // As a pod starts: it has a cgroup and connects, and its address is told of later.
    tell(UID, "caller", json!([]));
    eventually("its diversion before its address is known", || answered(&pod) == "a");
    tell(UID, "caller", json!([{ "ip": pod.v4() }, { "ip": pod.v6() }]));
    tell(NEIGHBOUR, "neighbour", json!([{ "ip": neighbour.v4() }]));
    eventually("three addresses", || known(stage.weir(), 3.0));
    assert_eq!([&pod, &neighbour].map(answered), ["a", "a"]);
    // Were it the neighbour that had filed them, these would be its entries.
    tell(NEIGHBOUR, "neighbour", json!([{ "ip": pod.v4() }]));
    tell(UID, "caller", json!([]));
    eventually("one address", || known(stage.weir(), 1.0));
    assert_eq!(answered(&pod), "", "closed without a word");
    assert_eq!(stage.weir().turned_away("transparent", "foreign_original"), 1.0);
    // Nobody's address by what is told: it goes on being served.
    assert_eq!(answered(&neighbour), "a");
}
