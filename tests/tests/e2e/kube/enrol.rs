//! Whom an API server tells of is diverted, to the services it tells of.

use std::time::{Duration, Instant};

use e2e::client::Client;
use e2e::eventually;
use e2e::kube::{self, ApiServer, Endpoint};
use e2e::{Place, Pod, Weir};
use serde_json::{Value, json};

use crate::transparent::{Stage, TARGET, V4, address};

const UID: &str = "0b7f1c1e-0000-4000-8000-000000000042";

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
            let begun = Instant::now();
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
    server.put(told(&pod, &json!({})));
    eventually("its diversion again", diverted);
    // A server that is gone changes nothing.
    server.down();
    assert!(e2e::time::holds_for(Duration::from_secs(1), diverted));
    server.up();
    server.delete("pods", "default", "caller");
    eventually("its end", || !diverted());
}
