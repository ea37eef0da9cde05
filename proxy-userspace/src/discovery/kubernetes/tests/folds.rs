//! News in, and what is told of them when.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::discovery::kubernetes::Resource;
use crate::discovery::kubernetes::follow::News;
use crate::discovery::kubernetes::run::{Fold, Outlets};

fn outlets() -> Outlets {
    Outlets {
        catalog: watch::Sender::new(Arc::default()),
        residents: watch::Sender::new(Arc::default()),
        health: Arc::default(),
    }
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

fn list(fold: &mut Fold, resource: Resource, news: Vec<News>) {
    fold.take(News::Begin(resource));
    news.into_iter().for_each(|news| fold.take(news));
    fold.take(News::Complete(resource));
}

/// The addresses in the catalog that was told last.
fn told(outlets: &Outlets) -> Vec<String> {
    let catalog = outlets.catalog.borrow().clone();
    let ports = catalog.services.values().flat_map(|it| &it.ports);
    ports.flat_map(|it| it.endpoints.iter()).map(|it| it.address.ip().to_string()).collect()
}

#[test]
fn of_a_list_that_breaks_off_nothing_is_told_until_one_is_complete() {
    let outlets = outlets();
    let mut fold = Fold::new("n1", outlets.clone());
    list(&mut fold, Resource::Services, vec![service()]);
    list(&mut fold, Resource::Slices, vec![slice("a-1", &["10.1.0.1"]), slice("a-2", &["10.1.0.2"])]);
    fold.publish();
    assert_eq!(told(&outlets), ["10.1.0.1", "10.1.0.2"]);
    // Meanwhile 10.1.0.2 has moved to a-3, which is on the page that does not come.
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
