//! Objects in, catalogs and pods out.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::discovery::kubernetes::follow::Name;
use crate::discovery::kubernetes::node::Node;
use crate::discovery::kubernetes::shared::Shared;
use crate::discovery::kubernetes::store::Store;
use crate::discovery::objects::{ServiceObject, SliceObject};
use crate::domain::catalog::{Catalog, Changes};

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn service(name: &str) -> ServiceObject {
    object(json!({ "metadata": { "name": name }, "spec": { "ports": [{ "port": 80 }] } }))
}

fn slice(name: &str, service: &str, endpoints: &[&str]) -> SliceObject {
    let endpoints: Vec<_> =
        endpoints.iter().map(|it| json!({ "addresses": [it], "nodeName": "n1", "zone": "a" })).collect();
    object(json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": service } },
        "endpoints": endpoints, "ports": [{ "port": 8080 }],
    }))
}

fn name(name: &str) -> Name {
    Name { namespace: "default".into(), name: name.into() }
}

/// A store and its last catalog.
#[derive(Default)]
struct Told {
    store: Store,
    catalog: Catalog,
}

impl Told {
    /// The services with their endpoints, and how many changed.
    fn now(&mut self) -> (Vec<String>, usize) {
        let next = self.store.catalog(&self.catalog);
        let changes = next.as_ref().map(|next| Changes::between(&self.catalog, next)).unwrap_or_default();
        assert_eq!(next.is_none(), changes.is_empty(), "a catalog without a difference");
        self.catalog = next.unwrap_or_else(|| self.catalog.clone());
        let shown = self.catalog.services.values().map(|it| {
            let endpoints: Vec<_> =
                it.ports[0].endpoints.iter().map(|it| it.address.ip().to_string()).collect();
            format!("{} {}", it.key.name, endpoints.join(","))
        });
        (shown.collect(), changes.added.len() + changes.changed.len() + changes.removed.len())
    }
}

fn shown(services: &[&str], differ: usize) -> (Vec<String>, usize) {
    (services.iter().map(|it| (*it).to_owned()).collect(), differ)
}

#[test]
fn a_service_is_all_its_slices_and_only_what_changes_is_made_anew() {
    let mut told = Told::default();
    told.store.set_slice(slice("a-1", "a", &["10.1.0.1"]));
    assert_eq!(told.now(), shown(&[], 0), "slices of a service that is not there yet");
    told.store.set_service(service("a"));
    told.store.set_service(service("b"));
    assert_eq!(told.now(), shown(&["a 10.1.0.1", "b "], 2));
    let a = told.catalog.services.values().next().unwrap().clone();
    told.store.set_slice(slice("a-1", "a", &["10.1.0.1"]));
    told.store.set_slice(slice("b-1", "b", &["10.1.0.2"]));
    assert_eq!(told.now(), shown(&["a 10.1.0.1", "b 10.1.0.2"], 1));
    assert!(Arc::ptr_eq(&a, told.catalog.services.values().next().unwrap()));
    told.store.set_slice(slice("a-2", "a", &["10.1.0.3"]));
    assert_eq!(told.now(), shown(&["a 10.1.0.1,10.1.0.3", "b 10.1.0.2"], 1));
    told.store.remove_slice(&name("a-1"));
    told.store.remove_slice(&name("a-1"));
    assert_eq!(told.now(), shown(&["a 10.1.0.3", "b 10.1.0.2"], 1));
    told.store.remove_service(&name("a"));
    assert_eq!(told.now(), shown(&["b 10.1.0.2"], 1));
    told.store.set_service(service("a"));
    assert_eq!(told.now(), shown(&["a 10.1.0.3", "b 10.1.0.2"], 1), "its slices were there all the time");
}

#[test]
fn a_slice_that_changes_hands_leaves_the_one_it_was_of() {
    let mut told = Told::default();
    for name in ["a", "b"] {
        told.store.set_service(service(name));
    }
    told.store.set_slice(slice("x", "a", &["10.1.0.1"]));
    assert_eq!(told.now(), shown(&["a 10.1.0.1", "b "], 2));
    told.store.set_slice(slice("x", "b", &["10.1.0.1"]));
    assert_eq!(told.now(), shown(&["a ", "b 10.1.0.1"], 2));
    told.store.set_slice(object(json!({ "metadata": { "name": "x" } })));
    assert_eq!(told.now(), shown(&["a ", "b "], 1));
}

#[test]
fn what_a_new_list_does_not_have_is_gone_and_the_rest_is_as_it_was() {
    let mut told = Told::default();
    for name in ["a", "b", "c"] {
        told.store.set_service(service(name));
        told.store.set_slice(slice(name, name, &["10.1.0.1"]));
    }
    told.now();
    told.store.begin_services();
    told.store.begin_slices();
    told.store.set_service(service("a"));
    told.store.keep_service(&name("b"));
    told.store.set_slice(slice("a", "a", &["10.1.0.1"]));
    told.store.keep_slice(&name("b"));
    told.store.sweep_slices();
    told.store.sweep_services();
    assert_eq!(told.now(), shown(&["a 10.1.0.1", "b 10.1.0.1"], 1));
}

#[test]
fn a_store_that_begins_anew_leaves_nothing_of_another_and_changes_nothing_that_is_the_same() {
    let mut old = Told::default();
    for name in ["a", "b"] {
        old.store.set_service(service(name));
    }
    old.now();
    let mut new = Told { store: Store::default(), catalog: old.catalog.clone() };
    new.store.set_service(service("b"));
    new.store.prune(&mut new.catalog);
    assert_eq!(new.now(), shown(&["b "], 0));
}

#[test]
fn the_zone_of_the_node_decides_by_hints() {
    let mut told = Told::default();
    told.store.set_service(service("a"));
    let hinted = |address: &str, zone: &str| json!({ "addresses": [address], "hints": { "forZones": [{ "name": zone }] } });
    told.store.set_slice(object(json!({
        "metadata": { "name": "a-1", "labels": { "kubernetes.io/service-name": "a" } },
        "endpoints": [hinted("10.1.0.1", "a"), hinted("10.1.0.2", "b")], "ports": [{ "port": 8080 }],
    })));
    assert_eq!(told.now(), shown(&["a 10.1.0.1,10.1.0.2"], 1));
    told.store.set_zone(Some("b"));
    assert_eq!(told.now(), shown(&["a 10.1.0.2"], 1));
    told.store.set_zone(Some("b"));
    assert!(!told.store.is_marked());
}

fn pod(name: &str, uid: &str, annotation: &str) -> crate::discovery::objects::PodObject {
    object(
        json!({ "metadata": { "name": name, "uid": uid, "annotations": { "weir.dev/divert": annotation } } }),
    )
}

#[test]
fn residents_are_the_pods_that_are_and_the_namespaces_that_ask_for_something() {
    let mut node = Node::default();
    let uids = |node: &mut Node| node.take().pods.keys().map(ToString::to_string).collect::<Vec<_>>();
    node.set_pod(&pod("web-0", "1", "enabled"));
    node.set_pod(&pod("web-1", "2", "enabled"));
    assert!(node.has_changed());
    assert_eq!(uids(&mut node), ["1", "2"]);
    node.set_pod(&pod("web-0", "1", "enabled"));
    assert!(!node.has_changed(), "the same once more");
    node.set_pod(&pod("web-0", "3", "enabled"));
    assert_eq!(uids(&mut node), ["2", "3"], "another of the same name, the end of the first unheard");
    node.begin_pods();
    node.set_pod(&pod("web-0", "3", "disabled"));
    node.sweep_pods();
    assert_eq!(uids(&mut node), ["3"]);
    node.remove_pod(&name("web-0"));
    assert_eq!(uids(&mut node), Vec::<String>::new());

    let namespace = |wish: Value| object(json!({ "metadata": { "name": "shop", "annotations": wish } }));
    node.set_namespace(namespace(json!({ "other.dev/x": "y" })));
    assert!(!node.has_changed());
    node.set_namespace(namespace(json!({ "weir.dev/divert": "disabled" })));
    assert_eq!(node.take().namespaces.len(), 1);
    node.begin_namespaces();
    node.sweep_namespaces();
    assert!(node.has_changed() && node.take().namespaces.is_empty());
}

#[test]
fn endpoints_share_what_they_have_in_common() {
    let endpoint = |n: u32| {
        json!({ "addresses": [format!("10.1.0.{n}")], "nodeName": "n1", "zone": "a",
                "hints": { "forZones": [{ "name": "a" }] } })
    };
    let slice = |range: std::ops::Range<u32>| -> SliceObject {
        object(json!({ "metadata": { "name": "x" }, "endpoints": range.map(endpoint).collect::<Vec<_>>() }))
    };
    let (mut one, mut other, mut shared) = (slice(0..50), slice(50..100), Shared::default());
    shared.slice(&mut one);
    shared.slice(&mut other);
    assert_eq!(shared.len(), 3, "a node, a zone, and hints");
    let first = one.endpoints.as_ref().unwrap()[0].clone();
    for slice in [&one, &other] {
        let endpoints = slice.endpoints.as_ref().unwrap();
        assert_eq!(endpoints.capacity(), 50);
        for endpoint in endpoints {
            let same = |one: &Option<Arc<str>>, other: &Option<Arc<str>>| {
                Arc::ptr_eq(one.as_ref().unwrap(), other.as_ref().unwrap())
            };
            assert!(same(&endpoint.node_name, &first.node_name) && same(&endpoint.zone, &first.zone));
            assert!(Arc::ptr_eq(endpoint.hints.as_ref().unwrap(), first.hints.as_ref().unwrap()));
        }
    }
}

#[test]
fn nodes_that_come_and_go_leave_nothing_without_a_new_list() {
    let mut told = Told::default();
    told.store.set_service(service("a"));
    for n in 0..10_000 {
        let node = format!("n{n}");
        told.store.set_slice(object(json!({
            "metadata": { "name": "a-1", "labels": { "kubernetes.io/service-name": "a" } },
            "endpoints": [{ "addresses": ["10.1.0.1"], "nodeName": node }], "ports": [{ "port": 8080 }],
        })));
        told.now();
    }
    assert!(told.store.shared().len() < 2000, "{}", told.store.shared().len());
}
