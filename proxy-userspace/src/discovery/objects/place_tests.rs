//! Which endpoints are for a node, table-driven.

use serde_json::{Value, json};

use super::{Backing, Place, ServiceObject, SliceObject, assemble};

const HERE: Place<'static> = Place { node: Some("n1"), zone: Some("a"), host_pods: None };

/// The remaining endpoints, by the last number of their address.
fn left(spec: &Value, slices: &[Value], place: Place<'_>) -> Vec<String> {
    let service: ServiceObject =
        serde_json::from_value(json!({ "metadata": { "name": "hello" }, "spec": spec })).unwrap();
    let slices: Vec<SliceObject> = slices
        .iter()
        .map(|endpoints| {
            serde_json::from_value(json!({
                "metadata": { "name": "x", "labels": { "kubernetes.io/service-name": "hello" } },
                "endpoints": endpoints, "ports": [{ "port": 8080 }],
            }))
            .unwrap()
        })
        .collect();
    let slices: Vec<_> = slices.iter().collect();
    let service = assemble(&service, Backing::Slices(&slices), place);
    service.ports[0].endpoints.iter().map(|it| it.address.ip().to_string()).collect()
}

fn spec() -> Value {
    json!({ "ports": [{ "port": 80 }] })
}

fn hinted(address: &str, ready: bool, zones: &[&str]) -> Value {
    let zones: Vec<_> = zones.iter().map(|name| json!({ "name": name })).collect();
    json!({ "addresses": [address], "conditions": { "ready": ready }, "hints": { "forZones": zones } })
}

#[test]
fn hints_hold_if_every_ready_endpoint_has_them_and_one_is_meant_for_here() {
    let (a, b) = (hinted("10.1.0.1", true, &["a"]), hinted("10.1.0.2", true, &["b"]));
    let both = hinted("10.1.0.3", true, &["b", "a"]);
    let without = json!({ "addresses": ["10.1.0.4"] });
    let unready = json!({ "addresses": ["10.1.0.5"], "conditions": { "ready": false } });
    let zone = |zone| Place { zone, ..HERE };
    for (endpoints, place, expected) in [
        (json!([a, b]), HERE, vec!["10.1.0.1"]),
        (json!([a, b]), zone(Some("b")), vec!["10.1.0.2"]),
        (json!([a, b]), zone(Some("c")), vec!["10.1.0.1", "10.1.0.2"]),
        (json!([a, b]), zone(None), vec!["10.1.0.1", "10.1.0.2"]),
        (json!([a, b, both]), HERE, vec!["10.1.0.1", "10.1.0.3"]),
        (json!([a, b, without]), HERE, vec!["10.1.0.1", "10.1.0.2", "10.1.0.4"]),
        // Endpoints that are not ready do not affect the hints, and stay for when no ready one is left.
        (json!([a, b, unready]), HERE, vec!["10.1.0.1", "10.1.0.5"]),
        (json!([a, hinted("10.1.0.2", true, &[])]), HERE, vec!["10.1.0.1", "10.1.0.2"]),
    ] {
        assert_eq!(left(&spec(), std::slice::from_ref(&endpoints), place), expected, "{endpoints} {place:?}");
    }
}

#[test]
fn hints_for_nodes_go_before_those_for_zones() {
    let endpoint = |address: &str, node: &str| json!({ "addresses": [address], "hints": { "forNodes": [{ "name": node }], "forZones": [{ "name": "a" }] } });
    let endpoints = [json!([endpoint("10.1.0.1", "n1"), endpoint("10.1.0.2", "n2")])];
    assert_eq!(left(&spec(), &endpoints, HERE), ["10.1.0.1"]);
    assert_eq!(left(&spec(), &endpoints, Place { node: Some("n3"), ..HERE }), ["10.1.0.1", "10.1.0.2"]);
}

#[test]
fn a_local_policy_leaves_the_endpoints_of_the_node_whatever_hints_say() {
    let local = json!({ "ports": [{ "port": 80 }], "internalTrafficPolicy": "Local" });
    let endpoints = [json!([
        { "addresses": ["10.1.0.1"], "nodeName": "n1", "hints": { "forZones": [{ "name": "b" }] } },
        { "addresses": ["10.1.0.2"], "nodeName": "n2", "hints": { "forZones": [{ "name": "a" }] } },
        { "addresses": ["10.1.0.3"] },
    ])];
    assert_eq!(left(&local, &endpoints, HERE), ["10.1.0.1"]);
    assert_eq!(left(&local, &endpoints, Place { node: Some("n9"), ..HERE }), Vec::<String>::new());
    let everywhere = ["10.1.0.1", "10.1.0.2", "10.1.0.3"];
    assert_eq!(left(&local, &endpoints, Place::default()), everywhere, "a folder of files is of no node");
    let cluster = json!({ "ports": [{ "port": 80 }], "internalTrafficPolicy": "Cluster" });
    assert_eq!(left(&cluster, &endpoints, HERE), everywhere);
}

#[test]
fn a_pod_with_two_addresses_is_one_endpoint() {
    let (v4, v6) = (json!([{ "addresses": ["10.1.0.1"] }]), json!([{ "addresses": ["fd00::1"] }]));
    let families = |families: Value| json!({ "ports": [{ "port": 80 }], "ipFamilies": families });
    let both = [v4, v6.clone()];
    assert_eq!(left(&families(json!(["IPv4", "IPv6"])), &both, HERE), ["10.1.0.1"]);
    assert_eq!(left(&families(json!(["IPv6", "IPv4"])), &both, HERE), ["fd00::1"]);
    assert_eq!(left(&families(json!(["IPv4", "IPv6"])), &[v6], HERE), ["fd00::1"]);
    // A service with a single family has only that one.
    assert_eq!(left(&families(json!(["IPv4"])), &both, HERE), ["10.1.0.1", "fd00::1"]);
    assert_eq!(left(&spec(), &both, HERE), ["10.1.0.1", "fd00::1"]);
}

#[test]
fn several_slices_make_one_service_and_the_readier_of_duplicates_counts() {
    let slices = [
        json!([{ "addresses": ["10.1.0.2"], "conditions": { "ready": false } }, { "addresses": ["10.1.0.1"] }]),
        json!([{ "addresses": ["10.1.0.2"] }, { "addresses": [] }]),
        json!(null),
    ];
    assert_eq!(left(&spec(), &slices, HERE), ["10.1.0.1", "10.1.0.2"]);
    // `publishNotReadyAddresses`: Kubernetes itself reports them as ready.
    let published =
        [json!([{ "addresses": ["10.1.0.1"], "conditions": { "ready": true, "terminating": true } }])];
    assert_eq!(left(&spec(), &published, HERE), ["10.1.0.1"]);
}
