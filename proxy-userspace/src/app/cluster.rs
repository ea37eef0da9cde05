//! What comes of `discovery.kubernetes`: its services, together with those of the files, and what readiness says of it.

use std::sync::Arc;

use tokio::sync::watch;

use crate::admin::Desk;
use crate::allocator;
use crate::discovery::kubernetes::Health;
use crate::domain::catalog::Catalog;

/// Keeps `catalogs` what `files` and `cluster` make together, as long as weir runs.
pub(super) async fn merge(
    mut files: watch::Receiver<Arc<Catalog>>,
    mut cluster: watch::Receiver<Arc<Catalog>>,
    catalogs: watch::Sender<Arc<Catalog>>,
) -> anyhow::Result<()> {
    let mut first = true;
    loop {
        let merged = merged(&files.borrow_and_update(), &cluster.borrow_and_update());
        let was_empty = catalogs.borrow().services.is_empty();
        catalogs.send_replace(merged);
        if first && was_empty && !cluster.borrow().services.is_empty() {
            // The first lists take many times the room that is kept of them.
            allocator::give_back();
            first = false;
        }
        tokio::select! {
            changed = files.changed() => changed?,
            changed = cluster.changed() => changed?,
        }
    }
}

/// Both catalogs in one. A service that both know is as the files say: an operator wrote them down for this node.
fn merged(files: &Arc<Catalog>, cluster: &Arc<Catalog>) -> Arc<Catalog> {
    if files.services.is_empty() {
        return cluster.clone();
    }
    let mut merged = (**cluster).clone();
    for (key, service) in &files.services {
        merged.services.insert(key.clone(), service.clone());
    }
    Arc::new(merged)
}

/// Keeps readiness told of what is waited for and what is off.
pub(super) async fn tell(desk: Arc<Desk>, health: Arc<Health>) -> anyhow::Result<()> {
    let mut changes = health.changes();
    loop {
        desk.ready.set("kubernetes", health.waits_for().map_or(Ok(()), Err));
        desk.ready.note("kubernetes", health.off());
        changes.changed().await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalog::{Namer, Service, ServiceKey};

    fn catalog(services: &[(&str, bool)]) -> Arc<Catalog> {
        let service = |(name, written): &(&str, bool)| {
            let key = ServiceKey { namer: Namer::K8s, namespace: "default".into(), name: (*name).into() };
            let service = Service {
                key: key.clone(),
                addresses: Vec::new(),
                ports: Vec::new(),
                written: *written,
                external_name: None,
                affinity: None,
            };
            (key, Arc::new(service))
        };
        Arc::new(Catalog { services: services.iter().map(service).collect() })
    }

    #[test]
    fn a_service_that_files_and_cluster_know_is_as_the_files_say() {
        let cluster = catalog(&[("a", false), ("b", false)]);
        let both = merged(&catalog(&[("b", true), ("c", true)]), &cluster);
        let written: Vec<_> = both.services.values().map(|it| (&*it.key.name, it.written)).collect();
        assert_eq!(written, [("a", false), ("b", true), ("c", true)]);
        assert!(Arc::ptr_eq(&merged(&Arc::default(), &cluster), &cluster));
    }
}
