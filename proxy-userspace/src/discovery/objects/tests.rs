//! Objects in, services out.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::domain::catalog::{AppProtocol, At, Condition, NodePort, Service};

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{error}"))
}

fn hello(ports: Value) -> ServiceObject {
    object(json!({
        "metadata": { "name": "hello" },
        "spec": { "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00::10"], "ports": ports },
    }))
}

fn slice(endpoints: Value, ports: Value) -> SliceObject {
    object(json!({
        "metadata": { "name": "hello-x", "labels": { "kubernetes.io/service-name": "hello", "app": "hello" } },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports,
    }))
}

/// Each port as `name:number` and its endpoints as `address condition`.
fn shown(service: &Service) -> Vec<(String, Vec<String>)> {
    let port = |port: &crate::domain::catalog::ServicePort| {
        let endpoint = |endpoint: &crate::domain::catalog::Endpoint| {
            format!("{} {:?}", endpoint.address, endpoint.condition)
        };
        let name = format!("{}:{}", port.name.as_deref().unwrap_or_default(), port.number);
        (name, port.endpoints.iter().map(endpoint).collect())
    };
    service.ports.iter().map(port).collect()
}

#[test]
fn a_port_has_the_endpoints_of_every_slice_whose_port_has_its_name() {
    let service = hello(json!([{ "name": "http", "port": 80 }, { "name": "admin", "port": 9990 }]));
    let one = slice(
        json!([{ "addresses": ["10.1.0.2", "10.1.9.9"], "zone": "a", "nodeName": "n1" }, { "addresses": [] }]),
        json!([{ "name": "http", "port": 8080 }, { "name": "admin", "port": 9991 }]),
    );
    let two = slice(json!([{ "addresses": ["10.1.0.1"] }]), json!([{ "name": "http", "port": 8080 }]));
    let service = assemble(&service, Backing::Slices(&[&one, &two]), Place::default());
    assert_eq!(service.key.to_string(), "/#/io.l5d.k8s/default/hello");
    assert_eq!(
        service.addresses,
        ["10.96.0.10", "fd00::10"].map(|ip| ip.parse::<std::net::IpAddr>().unwrap())
    );
    assert_eq!(
        shown(&service),
        [
            ("http:80".to_owned(), vec!["10.1.0.1:8080 Ready".to_owned(), "10.1.0.2:8080 Ready".to_owned()]),
            ("admin:9990".to_owned(), vec!["10.1.0.2:9991 Ready".to_owned()]),
        ]
    );
    let endpoint = &service.ports[0].endpoints[1];
    assert_eq!((endpoint.zone.as_deref(), endpoint.node.as_deref()), (Some("a"), Some("n1")));
}

#[test]
fn conditions_follow_the_rules_of_the_api() {
    let condition = |value: Value| object::<Conditions>(value).condition();
    for (value, expected) in [
        (json!({}), Condition::Ready),
        (json!({ "ready": null }), Condition::Ready),
        (json!({ "ready": true, "terminating": true }), Condition::Ready),
        (json!({ "ready": false }), Condition::NotReady),
        (json!({ "ready": false, "serving": true }), Condition::NotReady),
        (json!({ "ready": false, "serving": true, "terminating": true }), Condition::Terminating),
        (json!({ "ready": false, "serving": false, "terminating": true }), Condition::NotReady),
        (json!({ "ready": false, "terminating": true }), Condition::NotReady),
    ] {
        assert_eq!(condition(value.clone()), expected, "{value}");
    }
}

#[test]
fn an_endpoint_in_two_slices_counts_once_in_its_better_condition() {
    let ports = json!([{ "port": 80 }]);
    let leaving =
        slice(json!([{ "addresses": ["10.1.0.1"], "conditions": { "ready": false } }]), ports.clone());
    let arriving = slice(json!([{ "addresses": ["10.1.0.1"], "conditions": { "ready": true } }]), ports);
    let service = hello(json!([{ "port": 80 }]));
    let service = assemble(&service, Backing::Slices(&[&leaving, &arriving]), Place::default());
    assert_eq!(shown(&service), [(":80".to_owned(), vec!["10.1.0.1:80 Ready".to_owned()])]);
}

#[test]
fn a_slice_port_without_a_number_is_every_port_and_an_empty_name_is_none() {
    let service = hello(json!([{ "name": "", "port": 5432 }]));
    let all = slice(json!([{ "addresses": ["10.1.0.1"] }]), json!([{ "name": null, "port": null }]));
    let service = assemble(&service, Backing::Slices(&[&all]), Place::default());
    assert_eq!(shown(&service), [(":5432".to_owned(), vec!["10.1.0.1:5432 Ready".to_owned()])]);
    assert_eq!(service.ports[0].name, None);
}

#[test]
fn a_named_target_port_can_be_another_in_each_pod() {
    let service = hello(json!([{ "name": "http", "port": 80 }]));
    let old = slice(json!([{ "addresses": ["10.1.0.1"] }]), json!([{ "name": "http", "port": 8080 }]));
    let new = slice(json!([{ "addresses": ["10.1.0.2"] }]), json!([{ "name": "http", "port": 9090 }]));
    let none = slice(json!([{ "addresses": ["10.1.0.3"] }]), json!([]));
    let service = assemble(&service, Backing::Slices(&[&old, &new, &none]), Place::default());
    let expected = ["10.1.0.1:8080 Ready", "10.1.0.2:9090 Ready"];
    assert_eq!(shown(&service), [("http:80".to_owned(), expected.map(str::to_owned).to_vec())]);
}

#[test]
fn what_an_api_server_writes_null_is_absent() {
    let spec = json!({ "clusterIP": null, "clusterIPs": null, "ports": null, "ipFamilies": null, "externalName": null,
        "sessionAffinity": null, "sessionAffinityConfig": null, "internalTrafficPolicy": null, "type": null });
    let metadata = json!({ "name": "hello", "labels": null, "annotations": null, "creationTimestamp": null });
    let service: ServiceObject = object(json!({ "metadata": metadata, "spec": spec }));
    let endpoint =
        json!({ "addresses": null, "conditions": null, "nodeName": null, "zone": null, "hints": null });
    for slice in [slice(json!(null), json!(null)), slice(json!([endpoint]), json!([]))] {
        assert_eq!(shown(&assemble(&service, Backing::Slices(&[&slice]), Place::default())), []);
    }
    let hints = json!({ "forZones": null, "forNodes": null });
    let hinted = slice(json!([{ "addresses": ["10.1.0.1"], "hints": hints }]), json!([{ "port": 8080 }]));
    let service = hello(json!([{ "port": 80, "name": null, "protocol": null, "appProtocol": null }]));
    let service = assemble(&service, Backing::Slices(&[&hinted]), Place::default());
    assert_eq!(shown(&service), [(":80".to_owned(), vec!["10.1.0.1:8080 Ready".to_owned()])]);
    let _: NodeObject = object(json!({ "metadata": metadata }));
    let _: NamespaceObject = object(json!({ "metadata": metadata }));
}

#[test]
fn only_tcp_ports_are_ports() {
    let service = hello(json!([
        { "name": "dns", "port": 53, "protocol": "UDP" },
        { "name": "dns-tcp", "port": 53, "protocol": "TCP", "appProtocol": "tcp" },
    ]));
    let slice = slice(
        json!([{ "addresses": ["10.1.0.1"] }]),
        json!([{ "name": "dns", "port": 53, "protocol": "UDP" }, { "name": "dns-tcp", "port": 53 }]),
    );
    let service = assemble(&service, Backing::Slices(&[&slice]), Place::default());
    assert_eq!(shown(&service), [("dns-tcp:53".to_owned(), vec!["10.1.0.1:53 Ready".to_owned()])]);
    assert_eq!(service.ports[0].protocol, AppProtocol::Opaque);
}

#[test]
fn endpoints_objects_say_which_addresses_are_not_ready() {
    let endpoints: EndpointsObject = object(json!({
        "metadata": { "name": "hello" },
        "subsets": [
            { "addresses": [{ "ip": "10.1.0.2", "nodeName": "n1" }], "notReadyAddresses": [{ "ip": "10.1.0.1" }],
              "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }] },
            { "addresses": [{ "ip": "10.1.0.3" }], "ports": [{ "name": "http", "port": 8081 }] },
            { "addresses": [{ "ip": "10.1.0.4" }], "ports": [{ "name": "other", "port": 1 }] },
        ],
    }));
    let service = hello(json!([{ "name": "http", "port": 80 }]));
    let service = assemble(&service, Backing::Endpoints(&endpoints), Place::default());
    let expected = ["10.1.0.1:8080 NotReady", "10.1.0.2:8080 Ready", "10.1.0.3:8081 Ready"];
    assert_eq!(shown(&service), [("http:80".to_owned(), expected.map(str::to_owned).to_vec())]);
}

#[test]
fn a_headless_service_has_no_address() {
    let service: ServiceObject = object(json!({
        "metadata": { "name": "db", "namespace": "shop" },
        "spec": { "clusterIP": "None", "clusterIPs": ["None"], "ports": [{ "port": 5432 }] },
    }));
    assert_eq!(service.addresses(), Vec::<std::net::IpAddr>::new());
    assert_eq!(
        assemble(&service, Backing::Slices(&[]), Place::default()).key.to_string(),
        "/#/io.l5d.k8s/shop/db"
    );
}

#[test]
fn an_external_name_is_another_name_and_nothing_backs_it() {
    let service: ServiceObject = object(json!({
        "metadata": { "name": "db" },
        "spec": { "type": "ExternalName", "externalName": "DB.example.com", "clusterIP": "",
                  "ports": [{ "name": "pg", "port": 5432 }] },
    }));
    let slice = slice(json!([{ "addresses": ["10.1.0.1"] }]), json!([{ "name": "pg", "port": 5432 }]));
    let assembled = assemble(&service, Backing::Slices(&[&slice]), Place::default());
    assert_eq!(assembled.external_name.as_deref(), Some("db.example.com"));
    assert_eq!(shown(&assembled), [("pg:5432".to_owned(), vec![])]);
    let hello = assemble(&hello(json!([{ "port": 80 }])), Backing::Slices(&[]), Place::default());
    assert_eq!((hello.external_name, hello.affinity), (None, None));
}

#[test]
fn a_client_keeps_its_endpoint_for_three_hours_unless_the_service_says_for_how_long() {
    let affinity = |spec: Value| {
        let service: ServiceObject = object(json!({ "metadata": { "name": "a" }, "spec": spec }));
        service.affinity().map(|it| it.as_secs())
    };
    assert_eq!(affinity(json!({ "sessionAffinity": "None" })), None);
    assert_eq!(affinity(json!({ "sessionAffinity": "ClientIP" })), Some(10_800));
    let config = json!({ "clientIP": { "timeoutSeconds": 60 } });
    assert_eq!(
        affinity(json!({ "sessionAffinity": "ClientIP", "sessionAffinityConfig": config.clone() })),
        Some(60)
    );
    assert_eq!(affinity(json!({ "sessionAffinityConfig": config })), None);
}

#[test]
fn absurd_values_are_no_objects() {
    let ports: [Value; 5] = [json!(0), json!(65_536), json!(-1), json!("80"), json!(null)];
    for port in ports {
        let value = json!({ "metadata": { "name": "a" }, "spec": { "ports": [{ "port": port }] } });
        assert!(serde_json::from_value::<ServiceObject>(value.clone()).is_err(), "{value}");
    }
    for address in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "10.0.0", "db.example.com", ""] {
        let value = json!({ "metadata": { "name": "a" }, "endpoints": [{ "addresses": [address] }] });
        assert!(serde_json::from_value::<SliceObject>(value.clone()).is_err(), "{value}");
        let value = json!({ "metadata": { "name": "a" }, "subsets": [{ "addresses": [{ "ip": address }] }] });
        assert!(serde_json::from_value::<EndpointsObject>(value.clone()).is_err(), "{value}");
    }
    let value = json!({ "metadata": { "name": "a" }, "spec": { "clusterIP": "10.96" } });
    assert!(serde_json::from_value::<ServiceObject>(value).is_err());
}

#[test]
fn a_services_annotations_say_which_of_its_ports_are_skipped_or_opaque() {
    let ports = json!([{ "name": "a", "port": 80, "appProtocol": "http" }, { "name": "b", "port": 9005 },
                       { "name": "c", "port": 443 }]);
    let with = |annotations: Value| -> ServiceObject {
        object(json!({ "metadata": { "name": "hello", "annotations": annotations },
                       "spec": { "clusterIP": "10.96.0.10", "ports": ports } }))
    };
    let protocols = |service: &ServiceObject| -> Vec<AppProtocol> {
        assemble(service, Backing::Slices(&[]), Place::default())
            .ports
            .iter()
            .map(|port| port.protocol)
            .collect()
    };
    let service = with(json!({ "weir.dev/skip-ports": "9000-9010,443", "weir.dev/opaque-ports": "80,443" }));
    assert_eq!(protocols(&service), [AppProtocol::Opaque, AppProtocol::Direct, AppProtocol::Direct]);
    assert_eq!(service.port_wishes().1, Vec::<String>::new());
    // YAML reads it as a number without quotes.
    let service = with(json!({ "weir.dev/skip-ports": 443, "weir.dev/opaque-ports": 80 }));
    assert_eq!(protocols(&service), [AppProtocol::Opaque, AppProtocol::Sniff, AppProtocol::Direct]);
    let service = with(json!({ "weir.dev/skip-ports": "https,443", "other": "x" }));
    assert_eq!(protocols(&service), [AppProtocol::Http1, AppProtocol::Sniff, AppProtocol::Direct]);
    assert!(service.port_wishes().1[0].starts_with("weir.dev/skip-ports: `https` is neither"));
    let service = with(json!({ "weir.dev/opaque-ports": "8".repeat(100_000) }));
    assert_eq!(protocols(&service), [AppProtocol::Http1, AppProtocol::Sniff, AppProtocol::Sniff]);
    assert_eq!(
        service.port_wishes().1,
        ["weir.dev/opaque-ports: 100000 bytes are too long for a list of ports: ignored"]
    );
}

#[test]
fn a_node_port_is_where_the_services_traffic_policies_let_every_endpoint_serve_it() {
    let cases = [
        (json!({}), json!({ "nodePort": 30080 }), Some(At::Every)),
        (json!({ "externalTrafficPolicy": "Cluster" }), json!({ "nodePort": 30080 }), Some(At::Every)),
        (json!({ "externalTrafficPolicy": "Local" }), json!({ "nodePort": 30080 }), Some(At::Own)),
        (json!({ "internalTrafficPolicy": "Local" }), json!({ "nodePort": 30080 }), None),
        (json!({}), json!({ "nodePort": 0 }), None),
        (json!({}), json!({ "nodePort": null }), None),
        (json!({}), json!({}), None),
        (json!({}), json!({ "nodePort": 30080, "protocol": "UDP" }), None),
    ];
    for (spec, port, expected) in cases {
        let mut service = json!({ "metadata": { "name": "hello" }, "spec": spec });
        service["spec"]["ports"] =
            json!([{ "name": "udp", "port": 53, "protocol": "UDP", "nodePort": 30053 }, port]);
        service["spec"]["ports"][1]["port"] = json!(80);
        let service = assemble(&object(service.clone()), Backing::Slices(&[]), Place::default());
        let found = service.ports.first().and_then(|it| it.node_port);
        assert_eq!(found, expected.map(|at| NodePort { number: 30080, at }), "{spec} {port}");
    }
}
