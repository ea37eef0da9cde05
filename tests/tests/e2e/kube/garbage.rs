//! Objects that make no sense, among others that do.

use super::stage::{Stage, address, addresses, following};
use e2e::kube::{Act, ApiServer, Endpoint, service, slice};
use e2e::time::holds_for;
use e2e::{Backend, eventually};
use serde_json::{Value, json};

/// Services that weir ignores, and why each.
fn senseless_services() -> Vec<(&'static str, Value)> {
    let with = |spec: Value| json!({ "kind": "Service", "spec": spec });
    let ports = |port: Value| with(json!({ "clusterIP": "10.96.3.1", "ports": [port] }));
    vec![
        ("port-zero", ports(json!({ "port": 0 }))),
        ("port-too-large", ports(json!({ "port": 70_000 }))),
        ("port-below-zero", ports(json!({ "port": -1 }))),
        ("port-in-words", ports(json!({ "port": "eighty" }))),
        ("port-none", ports(json!({ "name": "http" }))),
        ("ports-text", with(json!({ "clusterIP": "10.96.3.1", "ports": "80" }))),
        ("address-fruit", with(json!({ "clusterIP": "banana", "clusterIPs": ["banana"] }))),
        ("address-anything", with(json!({ "clusterIP": "0.0.0.0" }))),
        ("without-spec", json!({ "kind": "Service" })),
        ("spec-null", json!({ "kind": "Service", "spec": null })),
        ("labels-number", json!({ "kind": "Service", "metadata": { "labels": 7 }, "spec": {} })),
    ]
}

/// Slices of service `hello` that weir ignores.
fn senseless_slices() -> Vec<(&'static str, Value)> {
    let with = |endpoints: Value, ports: Value| json!({ "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": endpoints, "ports": ports });
    let (good, http) = (json!([{ "addresses": ["10.1.0.199"] }]), json!([{ "name": "http", "port": 8080 }]));
    let at = |address: &str| json!([{ "addresses": [address] }]);
    vec![
        ("slice-port-zero", with(good.clone(), json!([{ "name": "http", "port": 0 }]))),
        ("slice-port-large", with(good.clone(), json!([{ "name": "http", "port": 65_536 }]))),
        ("slice-ports-text", with(good, json!("8080"))),
        ("slice-names", with(at("db.example.com"), http.clone())),
        ("slice-unspecified", with(at("::"), http.clone())),
        ("slice-multicast", with(at("224.0.0.1"), http.clone())),
        ("slice-number", with(json!([{ "addresses": 7 }]), http.clone())),
        ("slice-endpoints-text", with(json!("10.1.0.199"), http.clone())),
        (
            "slice-conditions",
            with(json!([{ "addresses": ["10.1.0.199"], "conditions": { "ready": "yes" } }]), http),
        ),
    ]
}

/// Slices of service `hello` in which nothing is wrong, and nothing is to be had.
fn empty_slices() -> Vec<(&'static str, Value)> {
    let with = |object: Value| {
        let mut slice = json!({ "kind": "EndpointSlice", "addressType": "IPv4" });
        slice.as_object_mut().unwrap().extend(object.as_object().unwrap().clone());
        slice
    };
    let http = json!([{ "name": "http", "port": 8080 }]);
    vec![
        ("nothing", with(json!({}))),
        ("nulls", with(json!({ "endpoints": null, "ports": null }))),
        ("no-addresses", with(json!({ "endpoints": [{ "addresses": [] }, {}], "ports": http }))),
        ("no-ports", with(json!({ "endpoints": [{ "addresses": ["10.1.0.199"] }], "ports": [] }))),
        (
            "other-port",
            with(
                json!({ "endpoints": [{ "addresses": ["10.1.0.199"] }], "ports": [{ "name": "x", "port": 1 }] }),
            ),
        ),
        (
            "udp",
            with(json!({ "endpoints": [{ "addresses": ["10.1.0.199"] }],
            "ports": [{ "name": "http", "port": 8080, "protocol": "UDP" }] })),
        ),
    ]
}

fn put(server: &ApiServer, objects: Vec<(&'static str, Value)>) {
    for (name, mut object) in objects {
        object["metadata"]["name"] = json!(name);
        if object["kind"] == "EndpointSlice" {
            object["metadata"]["labels"] = json!({ "kubernetes.io/service-name": "hello" });
        }
        server.put(object);
    }
}

/// Service `hello` with endpoint 0, and 100 kB of annotations wherever they can be.
fn put_good(server: &ApiServer) {
    let annotations =
        json!({ "example.com/all-there-is": "x".repeat(100_000), "weir.dev/unknown": "\u{0}\u{7f}ß" });
    let mut objects = [
        service("hello", "10.96.0.10", &[("http", 80)]),
        slice("hello-good", "hello", ("http", 8080), &[Endpoint::ready(address(0).ip())]),
    ];
    for object in &mut objects {
        object["metadata"]["annotations"] = annotations.clone();
        server.put(object.clone());
    }
}

fn put_all(server: &ApiServer) {
    put_good(server);
    put(server, senseless_services());
    put(server, senseless_slices());
    put(server, empty_slices());
}

/// The good are there, and nothing else; the bad are each named with a reason.
#[track_caller]
fn expect_sense(stage: &Stage, backend: &Backend) {
    eventually("the service", || stage.weir.get("http://hello/").status == 200);
    let senseless = || senseless_services().into_iter().chain(senseless_slices()).map(|(name, _)| name);
    let problems = || stage.weir.state()["kubernetes"]["problems"].clone();
    eventually("the reasons", || problems().as_array().map(Vec::len) == Some(senseless().count()));
    let told = problems();
    for name in senseless() {
        let reason = told.as_array().unwrap().iter().filter_map(Value::as_str).find(|it| it.contains(name));
        let reason = reason.unwrap_or_else(|| panic!("{name} is not among {told:#}"));
        let (_, why) = reason.split_once(&format!("default/{name}: ")).expect(reason);
        assert!(why.len() > 10, "{reason:?} says nothing");
        stage.weir.expect_log(&format!("default/{name}"));
    }
    assert_eq!(stage.weir.metric("weir_kubernetes_problems", &[]), senseless().count() as f64);
    assert_eq!(stage.weir.metric("weir_catalog_services", &[]), 1.0);
    let state = stage.weir.state();
    let endpoints = &state["services"][0]["clusters"][0]["endpoints"];
    assert_eq!(endpoints.as_array().map(Vec::len), Some(1), "{endpoints:#}");
    let before = backend.count();
    for _ in 0..20 {
        stage.weir.get("http://hello/").expect_body("0");
    }
    assert_eq!(backend.count(), before + 20);
}

#[test]
fn absurd_objects_in_a_list_are_named_and_the_good_ones_work() {
    let Some(stage) = Stage::prepared(1, put_all, |builder| builder) else { return };
    let (backend, _) = stage.backend(0);
    expect_sense(&stage, &backend);
}

#[test]
fn absurd_objects_in_a_watch_are_named_and_the_good_ones_work() {
    let Some(stage) = Stage::with(1) else { return };
    eventually("readiness", || stage.weir.admin_get("/ready").status == 200);
    let (backend, _) = stage.backend(0);
    put_all(&stage.server);
    expect_sense(&stage, &backend);
    assert_eq!(stage.server.count("list", "services"), 1, "an object is no reason to list all again");
    for (name, _) in senseless_services() {
        stage.server.delete("services", "default", name);
    }
    for (name, _) in senseless_slices() {
        stage.server.delete("endpointslices", "default", name);
    }
    eventually("the end of the problems", || stage.weir.metric("weir_kubernetes_problems", &[]) == 0.0);
    stage.weir.get("http://hello/").expect_body("0");
}

/// serde_json refuses all of what is nested 128 deep. A server passes such an object on: in `managedFields`, for example, it may
/// have what its writer likes.
#[test]
fn an_object_as_deep_as_one_likes_is_read_and_ends_no_watch() {
    let server = ApiServer::start();
    server.put(service("hello", "10.96.0.10", &[("http", 80)]));
    let weir = following(&server).start();
    let knows = |count: f64| {
        eventually("the services", || weir.metric("weir_catalog_services", &[]) == count);
        assert_eq!(weir.metric("weir_kubernetes_problems", &[]), 0.0);
    };
    knows(1.0);
    for name in ["one", "two"] {
        let mut object = service(name, "None", &[("http", 80)]);
        object["metadata"]["deep"] = (0..1_000).fold(json!(1), |deep, _| json!({ "a": [deep] }));
        server.put(object);
    }
    knows(3.0);
    assert_eq!(server.count("list", "services"), 1, "an object is no reason to list all again");
    server.act(Act::Gone);
    eventually("another list", || server.count("list", "services") > 1 && server.has_told(&["services"]));
    knows(3.0);
}

#[test]
fn an_object_that_stops_making_sense_stays_what_it_was_until_it_does_or_is_gone() {
    let Some(stage) = Stage::prepared(2, put_good, |builder| builder) else { return };
    let _backends = [0, 1].map(|it| stage.backend(it));
    eventually("the service", || stage.weir.get("http://hello/").status == 200);
    let good =
        |number| slice("hello-good", "hello", ("http", 8080), &[Endpoint::ready(address(number).ip())]);
    let mut bad = good(1);
    bad["ports"][0]["port"] = json!(0);
    stage.server.put(bad);
    eventually("the problem", || stage.weir.metric("weir_kubernetes_problems", &[]) == 1.0);
    let stays = || stage.weir.get("http://hello/").text() == "0";
    assert!(holds_for(std::time::Duration::from_millis(300), stays));
    stage.server.put(good(1));
    eventually("what it says now", || stage.weir.get("http://hello/").text() == "1");
    assert_eq!(stage.weir.metric("weir_kubernetes_problems", &[]), 0.0);
    stage.server.serve("hello", &addresses(&[0]));
    eventually("the next", || stage.weir.get("http://hello/").text() == "0");
}
