//! The reconciler: builds the snapshot that requests see, from catalogs and settings.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use tokio::sync::watch;

use super::objects::Known;
use crate::config::{Outgoing, Settings};
use crate::control::State;
use crate::discovery::kubernetes::{Dtabs, IngressTables};
use crate::domain::catalog::{Catalog, Changes};
use crate::domain::dtab::Dtab;
use crate::domain::health::breaker::{Backoff, Policy};
use crate::domain::identify::{Identifier, IngressIdentifier};
use crate::domain::name::Rules;
use crate::intercept;
use crate::proxy::listener::ListenerId;
use crate::proxy::routing::snapshot::{Node, PolicySource, RouterConfig, RoutingConfig, Snapshot};
use crate::proxy::upstream::cluster::ClusterPolicy;

/// The snapshot's configuration from `settings`.
pub(super) fn config(settings: &Settings, node: Node, known: &Known) -> RoutingConfig {
    let backoff = Backoff { min: settings.breaker.backoff.min, max: settings.breaker.backoff.max };
    let breaker = Policy { failures: settings.breaker.failures, backoff, ..Policy::default() };
    let all = ClusterPolicy { breaker, ..ClusterPolicy::default() };
    let listener = |at: usize| node.routers.get(at).copied().unwrap_or_default();
    let (first, others) = (&settings.outgoing, settings.all_routers().enumerate().skip(1));
    RoutingConfig {
        rules: Rules {
            namespace: settings.names.namespace.as_str().into(),
            port: settings.names.port.as_str().into(),
            cluster_domain: settings.names.cluster_domain.as_str().into(),
        },
        dns: settings.names.dns.is_some(),
        client_namespace: settings.names.client_namespace,
        cluster_ranges: settings.names.cluster_ranges.clone(),
        dtab: dtab(settings, first, &known.dtabs),
        overrides: first.overrides.clone(),
        contexts: settings.contexts_of(first),
        clients: first.serves(),
        destinations: settings.destinations_of(first),
        diagnostics: first.diagnostics.clone(),
        namers: settings.namers.clone(),
        identifiers: identifiers(first, &known.ingresses),
        prefix: first.prefix.clone(),
        requests: settings.policies_of(first),
        tunnels: first.tunnels.clone(),
        listener: listener(0),
        router: label(first),
        others: others.map(|(at, it)| router(settings, it, listener(at), known)).collect(),
        policies: PolicySource { all, some: settings.policies.clone(), prefix: first.prefix.clone() },
        limits: settings.limits.clone(),
        workers: settings.workers,
        refused: settings.refuse.as_slice().into(),
        node,
    }
}

/// What distinguishes `router`, whose requests come at `listener`.
fn router(settings: &Settings, router: &Outgoing, listener: ListenerId, known: &Known) -> RouterConfig {
    RouterConfig {
        listener,
        router: label(router),
        dtab: dtab(settings, router, &known.dtabs),
        overrides: router.overrides.clone(),
        contexts: settings.contexts_of(router),
        clients: router.serves(),
        destinations: settings.destinations_of(router),
        diagnostics: router.diagnostics.clone(),
        identifiers: identifiers(router, &known.ingresses),
        prefix: router.prefix.clone(),
        requests: settings.policies_of(router),
        tunnels: router.tunnels.clone(),
    }
}

/// The router's dtab, with what is known of the one that is kept in the cluster.
fn dtab(settings: &Settings, router: &Outgoing, dtabs: &Dtabs) -> Arc<Dtab> {
    let written = settings.dtab_of(router);
    let stored = router.interpreter.as_ref().and_then(|it| dtabs.get(it)?.dtab.as_ref());
    stored.map_or_else(|| written.clone(), |stored| Arc::new(written.with_stored(stored)))
}

/// The router's identifiers, with where the rules of Ingresses are.
fn identifiers(router: &Outgoing, tables: &IngressTables) -> Vec<Identifier> {
    let with_rules = |it: &Identifier| match it {
        Identifier::Ingress(ingress) => {
            let table = tables.get(&ingress.source).cloned();
            Identifier::Ingress(IngressIdentifier { source: ingress.source.clone(), table })
        }
        other => other.clone(),
    };
    router.identifiers.iter().map(with_rules).collect()
}

fn label(router: &Outgoing) -> Option<Arc<str>> {
    router.is_labelled().then(|| (*router.label).into())
}

/// This node, as it is at start.
pub(super) fn node(listeners: Vec<SocketAddr>, routers: Vec<ListenerId>) -> Node {
    let own = intercept::node_addresses().unwrap_or_else(|error| {
        tracing::warn!("this node's own addresses are not known yet, and so not refused: {error}");
        Vec::new()
    });
    Node { own, listeners, routers }
}

/// Keeps the snapshot up to date with the catalog and the configuration, and interception with both.
pub(super) async fn keep(
    control: Arc<State>,
    mut catalogs: watch::Receiver<Arc<Catalog>>,
    mut config: watch::Receiver<RoutingConfig>,
) -> anyhow::Result<()> {
    let mut change = Change::Anything;
    loop {
        let catalog = catalogs.borrow_and_update().clone();
        let wanted = {
            let wanted = config.borrow_and_update();
            // The settings may have changed together with the catalog.
            if wanted.has_changed() {
                change = Change::Anything;
            }
            wanted.clone()
        };
        update(&control, catalog, &wanted, change);
        change = tokio::select! {
            changed = catalogs.changed() => changed.map(|()| Change::Catalog)?,
            changed = config.changed() => changed.map(|()| Change::Anything)?,
        };
    }
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// The catalog.
    Catalog,
    /// The configuration and this node's addresses too, or it is the start.
    Anything,
}

/// Endpoint changes alone only update their clusters. Services that come or go make a new snapshot from the previous
/// one. A new configuration builds a new snapshot; clusters take over the parts that still apply.
fn update(control: &State, catalog: Arc<Catalog>, config: &RoutingConfig, change: Change) {
    let (snapshot, now) = (control.shared.routing.snapshot.load_full(), Instant::now());
    let before = control.catalogs.in_force();
    let changes = Changes::between(&before, &catalog);
    control.catalogs.replace(catalog.clone());
    let same_terms = change == Change::Catalog || snapshot.config == *config;
    let next = if !same_terms {
        Some(Snapshot::build(config, catalog.clone(), Some(&snapshot)))
    } else if !snapshot.absorb(&catalog, &changes) {
        Some(snapshot.with(catalog.clone(), &changes))
    } else {
        None
    };
    if let Some(next) = &next.map(Arc::new) {
        if !same_terms {
            control.shared.routing.external.adopt(&next.config.policies);
        }
        control.shared.routing.snapshot.store(next.clone());
        control.shared.routing.moved.send_replace(());
        if snapshot.config.refused != next.config.refused {
            // Connections to addresses in these ranges were made under other rules.
            let changed = either_not_both(&snapshot.config.refused, &next.config.refused);
            control.shared.routing.external.forget(&changed, now);
        }
        if change == Change::Catalog {
            super::intercept::divert_changes(control, &before, &catalog, &changes, next);
        }
    } else if change == Change::Catalog {
        super::intercept::refuse_changes(control, &before, &catalog, &changes, &snapshot);
    }
    if change == Change::Anything {
        // The diverted destinations may have been reconfigured, and at start nothing is diverted.
        super::intercept::divert(control, &catalog);
    }
    control.catalogs.took_over(&changes, now.elapsed());
    let (added, removed, changed) = (changes.added.len(), changes.removed.len(), changes.changed.len());
    if added + removed > 0 {
        tracing::info!(services = catalog.services.len(), added, removed, changed, "services came or went");
    } else if changed > 0 {
        tracing::debug!(changed, "services changed");
    }
}

/// Networks that only one of the two has.
fn either_not_both(one: &[IpNet], other: &[IpNet]) -> Vec<IpNet> {
    let missing = |from: &[IpNet], all: &[IpNet]| -> Vec<IpNet> {
        all.iter().filter(|it| !from.contains(it)).copied().collect()
    };
    [missing(one, other), missing(other, one)].concat()
}
