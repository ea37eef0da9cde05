//! The keeper of the world: from catalogs and settings to what requests see.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use crate::admin::Desk;
use crate::config::Settings;
use crate::domain::balance::Balancer;
use crate::domain::breaker::{Backoff, Policy};
use crate::domain::catalog::{Catalog, Changes};
use crate::domain::name::Rules;
use crate::domain::policy::Calls;
use crate::domain::refuse::Exempt;
use crate::intercept;
use crate::proxy::cluster::Plan;
use crate::proxy::world::{Node, Terms, World};

/// The terms of the world that `settings` describe.
pub(super) fn terms(settings: &Settings, node: Node) -> Terms {
    let backoff = Backoff { min: settings.breaker.backoff.min, max: settings.breaker.backoff.max };
    Terms {
        rules: Rules {
            namespace: settings.names.namespace.as_str().into(),
            port: settings.names.port.as_str().into(),
            cluster_domain: settings.names.cluster_domain.as_str().into(),
        },
        dns: settings.names.dns,
        dtab: settings.dtab.clone(),
        overrides: settings.outgoing.overrides.clone(),
        namers: settings.namers.clone(),
        prefix: settings.outgoing.prefix.clone(),
        identifiers: settings.outgoing.identifiers.clone(),
        policies: settings.policies.clone(),
        limits: settings.limits.clone(),
        plan: Plan {
            balancer: Balancer::default(),
            breaker: Policy { failures: settings.breaker.failures, backoff, ..Policy::default() },
            exempt: Exempt::No,
            calls: Calls::default(),
            dialled: Calls::default(),
            workers: settings.workers,
        },
        node,
    }
}

/// This node, as it is at start.
pub(super) fn node(listeners: Vec<SocketAddr>) -> Node {
    let own = intercept::node_addresses().unwrap_or_else(|error| {
        tracing::warn!("this node's own addresses are not known yet, and so not refused: {error}");
        Vec::new()
    });
    Node { own, listeners }
}

/// Keeps the world up to date with the catalog and the terms, and interception with both.
pub(super) async fn keep(
    desk: Arc<Desk>,
    mut catalogs: watch::Receiver<Arc<Catalog>>,
    mut terms: watch::Receiver<Terms>,
) -> anyhow::Result<()> {
    loop {
        let (catalog, wanted) = (catalogs.borrow_and_update().clone(), terms.borrow_and_update().clone());
        update(&desk, catalog, &wanted);
        tokio::select! {
            changed = catalogs.changed() => changed?,
            changed = terms.changed() => changed?,
        }
    }
}

/// Endpoints alone go to their clusters; anything else makes a new world. Destinations outside the catalog were made
/// with the plan of their time, and are forgotten only with that.
fn update(desk: &Desk, catalog: Arc<Catalog>, terms: &Terms) {
    let (world, now) = (desk.shared.world.load_full(), Instant::now());
    let changes = Changes::between(&desk.catalog.load(), &catalog);
    let same_terms = world.terms == *terms;
    if !(same_terms && world.absorb(&catalog, &changes, now)) {
        desk.shared.world.store(Arc::new(World::build(terms, catalog.clone(), Some(&world), now)));
    }
    if !changes.is_empty() {
        let (added, removed, changed) = (changes.added.len(), changes.removed.len(), changes.changed.len());
        tracing::info!(services = catalog.services.len(), added, removed, changed, "catalog changed");
    }
    desk.catalog.store(catalog.clone());
    super::intercept::divert(desk, &catalog);
}
