//! Combines the services of `discovery.kubernetes` with those of the files, and sets readiness accordingly.

use std::sync::Arc;

use tokio::sync::watch;

use crate::allocator;
use crate::control::State;
use crate::discovery::kubernetes::Health;
use crate::domain::catalog::Catalog;
use crate::domain::pods::{Clients, NodePods};

/// Receivers for what discovery finds.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) catalogs: watch::Sender<Arc<Catalog>>,
    pub(super) node_pods: watch::Sender<Arc<NodePods>>,
}

/// Keeps `merged` equal to the combination of `files` and a cluster, as long as weir runs.
pub(super) async fn merge(
    files: Told,
    mut services: watch::Receiver<Arc<Catalog>>,
    mut node_pods: watch::Receiver<Arc<NodePods>>,
    merged: Told,
) -> anyhow::Result<()> {
    let mut written = (files.catalogs.subscribe(), files.node_pods.subscribe());
    let mut is_first = true;
    loop {
        let catalog = together(&written.0.borrow_and_update(), &services.borrow_and_update());
        merged.catalogs.send_replace(catalog);
        let pods = all(&written.1.borrow_and_update(), &node_pods.borrow_and_update());
        if **merged.node_pods.borrow() != *pods {
            merged.node_pods.send_replace(pods);
        }
        if is_first && !services.borrow().services.is_empty() {
            // The first lists need many times the memory that is kept of them.
            allocator::give_back();
            is_first = false;
        }
        tokio::select! {
            changed = written.0.changed() => changed?,
            changed = written.1.changed() => changed?,
            changed = services.changed() => changed?,
            changed = node_pods.changed() => changed?,
        }
    }
}

/// The pods and namespaces of both sources. The files win where both know one.
fn all(files: &Arc<NodePods>, cluster: &Arc<NodePods>) -> Arc<NodePods> {
    if files.pods.is_empty() && files.namespaces.is_empty() {
        return cluster.clone();
    }
    let mut all = (**cluster).clone();
    all.pods.extend(files.pods.clone());
    all.namespaces.extend(files.namespaces.clone());
    Arc::new(all)
}

/// Keeps the data plane up to date with which pods clients are, as long as weir runs.
pub(super) async fn clients(
    control: Arc<State>,
    mut node_pods: watch::Receiver<Arc<NodePods>>,
) -> anyhow::Result<()> {
    loop {
        let clients = Arc::new(Clients::new(&node_pods.borrow_and_update()));
        control.shared.holders.tell(clients.clone());
        // Those that were accepted before their pods were known.
        control.recharge();
        control.shared.routing.clients.pods.store(clients);
        control.shared.routing.moved.send_replace(());
        node_pods.changed().await?;
    }
}

/// Merges both catalogs. Whatever the files say, the cluster's services are awaited until they are known. For a service
/// in both, the files win: an operator wrote them for this node.
pub(super) fn together(files: &Arc<Catalog>, cluster: &Arc<Catalog>) -> Arc<Catalog> {
    if files.services.is_empty() && files.nodes.is_empty() {
        return cluster.clone();
    }
    let mut merged = (**cluster).clone();
    if merged.nodes.is_empty() {
        merged.nodes = files.nodes.clone();
    } else if !files.nodes.is_subset(&merged.nodes) {
        merged.nodes = Arc::new(&*merged.nodes | &*files.nodes);
    }
    for (key, service) in &files.services {
        merged.services.insert(key.clone(), service.clone());
    }
    Arc::new(merged)
}

/// Keeps readiness up to date with what is awaited and what is disabled.
pub(super) async fn tell(control: Arc<State>, health: Arc<Health>) -> anyhow::Result<()> {
    let mut changes = health.changes();
    loop {
        control.ready.set("kubernetes", health.waits_for().map_or(Ok(()), Err));
        control.ready.note("kubernetes", health.off());
        changes.changed().await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalog::{Awaited, Namer, Service, ServiceKey};

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
        Arc::new(Catalog { services: services.iter().map(service).collect(), ..Catalog::default() })
    }

    #[test]
    fn a_service_that_files_and_cluster_know_is_as_the_files_say() {
        let cluster = catalog(&[("a", false), ("b", false)]);
        let both = together(&catalog(&[("b", true), ("c", true)]), &cluster);
        let written: Vec<_> = both.services.values().map(|it| (&*it.key.name, it.written)).collect();
        assert_eq!(written, [("a", false), ("b", true), ("c", true)]);
        assert!(Arc::ptr_eq(&together(&Arc::default(), &cluster), &cluster));
    }

    #[test]
    fn services_of_the_files_do_not_make_the_clusters_known() {
        let waits = Awaited { why: "why".into(), brief: "why".into(), is_failing: false };
        let awaited = Arc::new(Catalog { awaited: Some(waits.clone()), ..Catalog::default() });
        for files in [catalog(&[]), catalog(&[("a", true)])] {
            let both = together(&files, &awaited);
            assert_eq!(
                (both.services.len(), both.awaited.clone()),
                (files.services.len(), Some(waits.clone()))
            );
            assert_eq!(together(&files, &catalog(&[])).awaited, None);
        }
    }
}
