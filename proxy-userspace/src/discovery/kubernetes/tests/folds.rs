//! Which updates are published, and when.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::Kubernetes;
use crate::discovery::kubernetes::follow::{Name, News};
use crate::discovery::kubernetes::run::{Fold, Outlets, run};
use crate::discovery::kubernetes::{Resource, State};

fn outlets() -> Outlets {
    Outlets::default()
}

fn set(resource: Resource, value: Value) -> News {
    News::Set(Box::new(resource.decode(value).unwrap()))
}

fn service() -> News {
    set(Resource::Services, json!({ "metadata": { "name": "a" }, "spec": { "ports": [{ "port": 80 }] } }))
}

fn slice(name: &str, addresses: &[&str]) -> News {
    let endpoints: Vec<_> = addresses.iter().map(|it| json!({ "addresses": [it] })).collect();
    let metadata = json!({ "name": name, "labels": { "kubernetes.io/service-name": "a" } });
    set(
        Resource::Slices,
        json!({ "metadata": metadata, "endpoints": endpoints, "ports": [{ "port": 8080 }] }),
    )
}

fn name(name: &str) -> Name {
    Name { namespace: "".into(), name: name.into() }
}

fn list(fold: &mut Fold, resource: Resource, news: Vec<News>) {
    fold.take(News::Begin(resource));
    news.into_iter().for_each(|news| fold.take(news));
    fold.take(News::Complete(resource));
}

/// The addresses in the last published catalog.
fn told(outlets: &Outlets) -> Vec<String> {
    let catalog = outlets.catalog.borrow().clone();
    let ports = catalog.services.values().flat_map(|it| &it.ports);
    ports.flat_map(|it| it.endpoints.iter()).map(|it| it.address.ip().to_string()).collect()
}

/// Lists a service with an endpoint at the node's address for the pod `agent`, one for a Node, and one for nobody.
fn list_on_node(fold: &mut Fold) {
    let endpoint = |address: &str, target: Value| json!({ "addresses": [address], "nodeName": "n1", "targetRef": target });
    let endpoints = [
        endpoint("10.0.0.7", json!({ "kind": "Pod", "name": "agent", "namespace": "shop" })),
        endpoint("10.0.0.8", json!({ "kind": "Node", "name": "n1" })),
        endpoint("10.0.0.9", json!(null)),
    ];
    let labels = json!({ "kubernetes.io/service-name": "a" });
    let service =
        json!({ "metadata": { "name": "a", "namespace": "shop" }, "spec": { "ports": [{ "port": 80 }] } });
    let slice = json!({
        "metadata": { "name": "a-1", "namespace": "shop", "labels": labels },
        "endpoints": endpoints, "ports": [{ "port": 8080 }],
    });
    list(fold, Resource::Services, vec![set(Resource::Services, service)]);
    list(fold, Resource::Slices, vec![set(Resource::Slices, slice)]);
}

/// The pod `agent`, in the node's network.
fn agent() -> News {
    let metadata = json!({ "metadata": { "name": "agent", "namespace": "shop", "uid": "1" } });
    let mut pod = metadata;
    pod["spec"] = json!({ "nodeName": "n1", "hostNetwork": true });
    pod["status"] = json!({ "podIP": "10.0.0.7", "podIPs": [{ "ip": "10.0.0.7" }] });
    set(Resource::Pods, pod)
}

/// The endpoints that may have the node's addresses, in the last published catalog.
fn on_node(outlets: &Outlets) -> Vec<String> {
    let catalog = outlets.catalog.borrow().clone();
    let ports = catalog.services.values().flat_map(|it| &it.ports);
    let endpoints = ports.flat_map(|it| it.endpoints.iter()).filter(|it| it.on_node);
    endpoints.map(|it| it.address.ip().to_string()).collect()
}

#[test]
fn until_the_pods_are_known_a_slice_that_names_one_is_believed() {
    for (pods, is_there) in [(vec![agent()], true), (Vec::new(), false)] {
        let outlets = outlets();
        let mut fold = Fold::new("n1", 200, outlets.clone());
        list_on_node(&mut fold);
        fold.publish();
        assert_eq!(on_node(&outlets), ["10.0.0.7"], "no list of pods yet");
        fold.take(News::Begin(Resource::Pods));
        pods.into_iter().for_each(|pod| fold.take(pod));
        fold.publish();
        assert_eq!(on_node(&outlets), ["10.0.0.7"], "within the list");
        fold.take(News::Complete(Resource::Pods));
        fold.publish();
        assert_eq!(on_node(&outlets).len(), usize::from(is_there), "once it is complete");
    }
}

#[test]
fn who_may_not_list_pods_has_no_endpoint_on_the_node() {
    let outlets = outlets();
    let mut fold = Fold::new("n1", 200, outlets.clone());
    list_on_node(&mut fold);
    fold.take(News::Denied(Resource::Pods));
    fold.publish();
    assert!(on_node(&outlets).is_empty());
    list(&mut fold, Resource::Pods, vec![agent()]);
    fold.publish();
    assert_eq!(on_node(&outlets), ["10.0.0.7"], "allowed since");
}

#[test]
fn the_next_fold_begins_with_the_pods_of_the_last() {
    for (last, believed) in [(vec![agent()], true), (Vec::new(), false)] {
        let outlets = outlets();
        let mut fold = Fold::new("n1", 200, outlets.clone());
        list(&mut fold, Resource::Namespaces, Vec::new());
        list(&mut fold, Resource::Pods, last);
        fold.publish();
        let mut fold = Fold::new("n1", 200, outlets.clone());
        list_on_node(&mut fold);
        fold.publish();
        assert_eq!(on_node(&outlets).len(), usize::from(believed));
        // Nor is it lost with the right to list them.
        fold.take(News::Denied(Resource::Pods));
        fold.publish();
        assert_eq!(on_node(&outlets).len(), usize::from(believed));
        list(&mut fold, Resource::Pods, Vec::new());
        fold.publish();
        assert!(on_node(&outlets).is_empty(), "it is gone");
    }
}

#[test]
fn of_a_list_that_breaks_off_nothing_is_told_until_one_is_complete() {
    let outlets = outlets();
    let mut fold = Fold::new("n1", 200, outlets.clone());
    list(&mut fold, Resource::Services, vec![service()]);
    list(&mut fold, Resource::Slices, vec![slice("a-1", &["10.1.0.1"]), slice("a-2", &["10.1.0.2"])]);
    fold.publish();
    assert_eq!(told(&outlets), ["10.1.0.1", "10.1.0.2"]);
    // Meanwhile 10.1.0.2 has moved to a-3, which is on the page that does not arrive.
    fold.take(News::Begin(Resource::Slices));
    fold.take(slice("a-2", &[]));
    fold.publish();
    assert_eq!(told(&outlets), ["10.1.0.1", "10.1.0.2"]);
    fold.take(service());
    fold.publish();
    assert_eq!(told(&outlets), ["10.1.0.1", "10.1.0.2"], "whatever else changes");
    let whole = vec![slice("a-1", &["10.1.0.1"]), slice("a-2", &[]), slice("a-3", &["10.1.0.2"])];
    list(&mut fold, Resource::Slices, whole);
    fold.publish();
    assert_eq!(told(&outlets), ["10.1.0.1", "10.1.0.2"]);
    fold.take(slice("a-3", &["10.1.0.3"]));
    fold.publish();
    assert_eq!(told(&outlets), ["10.1.0.1", "10.1.0.3"]);
}

#[test]
fn nothing_is_waited_for_only_once_the_catalog_was_told() {
    let outlets = outlets();
    let mut fold = Fold::new("n1", 200, outlets.clone());
    let mut changes = outlets.health.changes();
    list(&mut fold, Resource::Services, vec![service()]);
    list(&mut fold, Resource::Slices, vec![slice("a-1", &["10.1.0.1"])]);
    for resource in [Resource::Services, Resource::Slices] {
        outlets.health.well(resource, State::Watching);
    }
    assert_eq!(told(&outlets), Vec::<String>::new());
    assert_eq!(
        outlets.health.waits_for().as_deref(),
        Some("waiting for services; waiting for endpointslices"),
        "before the catalog is there"
    );
    changes.mark_unchanged();
    fold.publish();
    assert_eq!(told(&outlets), ["10.1.0.1"]);
    assert_eq!(outlets.health.waits_for(), None);
    assert!(changes.has_changed().unwrap(), "readiness is told");
}

#[test]
fn of_a_cluster_without_a_service_nothing_is_waited_for() {
    let outlets = outlets();
    let mut fold = Fold::new("n1", 200, outlets.clone());
    list(&mut fold, Resource::Services, Vec::new());
    list(&mut fold, Resource::Slices, Vec::new());
    assert!(fold.is_due());
    assert!(outlets.catalog.borrow().awaited.is_some());
    fold.publish();
    assert_eq!(outlets.health.waits_for(), None);
    assert_eq!(outlets.catalog.borrow().awaited, None);
    list(&mut fold, Resource::Pods, Vec::new());
    assert!(outlets.health.status(Resource::Pods).known, "a node without pods is known at once");
}

#[test]
fn no_pod_is_told_of_before_its_namespace_can_say_otherwise() {
    let pod =
        || set(Resource::Pods, json!({ "metadata": { "name": "web-0", "namespace": "shop", "uid": "1" } }));
    let shop = json!({ "metadata": { "name": "shop", "annotations": { "weir.dev/divert": "disabled" } } });
    for namespaces in [Some(set(Resource::Namespaces, shop)), None] {
        let outlets = outlets();
        let mut fold = Fold::new("n1", 200, outlets.clone());
        list(&mut fold, Resource::Pods, vec![pod()]);
        fold.publish();
        assert!(outlets.node_pods.borrow().pods.is_empty());
        assert!(!outlets.health.status(Resource::Pods).known, "what is not told is not known");
        let expected = namespaces.is_some();
        match namespaces {
            Some(shop) => list(&mut fold, Resource::Namespaces, vec![shop]),
            None => fold.take(News::Denied(Resource::Namespaces)),
        }
        assert!(fold.is_due());
        fold.publish();
        let node_pods = outlets.node_pods.borrow().clone();
        assert_eq!((node_pods.pods.len(), node_pods.namespaces.contains_key("shop")), (1, expected));
        assert!(outlets.health.status(Resource::Pods).known);
    }
}

#[test]
fn a_name_that_no_node_has_is_said_until_one_has_it() {
    let outlets = outlets();
    let mut fold = Fold::new("n1", 200, outlets.clone());
    let node = || set(Resource::Node, json!({ "metadata": { "name": "n1" } }));
    let mut changes = outlets.health.changes();
    list(&mut fold, Resource::Node, Vec::new());
    let off = outlets.health.off().unwrap();
    assert!(off.starts_with("no node is called \"n1\", so no pod is enrolled"), "{off}");
    assert!(changes.has_changed().unwrap(), "readiness is told");
    fold.take(node());
    assert_eq!(outlets.health.off(), None);
    list(&mut fold, Resource::Node, vec![node()]);
    assert_eq!(outlets.health.off(), None);
    changes.mark_unchanged();
    list(&mut fold, Resource::Node, vec![News::Senseless(Resource::Node, name("n1"))]);
    assert_eq!(outlets.health.off(), None, "it is there, if not understood");
}

#[tokio::test]
async fn without_a_name_of_the_node_no_pods_are_asked_for_and_it_is_said() {
    let outlets = outlets();
    let settings = Arc::new(Kubernetes {
        kubeconfig: Some("/nonexistent/kubeconfig".into()),
        jitter: Duration::ZERO,
        ..Kubernetes::default()
    });
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(run(settings, "".into(), outlets.clone(), shutdown.clone()));
    let all = async {
        // By then all followers have failed: there is no kubeconfig.
        let mut changes = outlets.health.changes();
        let failed = |it: Resource| outlets.health.status(it).failure.is_some();
        while ![Resource::Services, Resource::Slices, Resource::Namespaces].into_iter().all(failed) {
            changes.changed().await.unwrap();
        }
    };
    timeout(Duration::from_secs(10), all).await.unwrap();
    let off = outlets.health.off().unwrap();
    assert!(off.starts_with("this node's name is not known, "), "{off}");
    let mut catalogs = outlets.catalog.subscribe();
    let waits_for = outlets.health.waits_for();
    let says_why = catalogs.wait_for(|it| it.awaited.as_ref().map(|it| &*it.why) == waits_for.as_deref());
    let catalog = timeout(Duration::from_secs(10), says_why).await.unwrap().unwrap().clone();
    let why = &*catalog.awaited.as_ref().unwrap().why;
    assert!(catalog.awaited.as_ref().unwrap().is_failing);
    assert!(why.starts_with("waiting for services: no way to the API server is configured: "), "{why}");
    for resource in [Resource::Pods, Resource::Node] {
        assert_eq!(outlets.health.counts[resource.index()].lists.value(), 0, "{resource}");
    }
    shutdown.cancel();
    running.await.unwrap().unwrap();
}
