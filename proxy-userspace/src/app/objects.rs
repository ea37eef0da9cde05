//! Objects of the cluster that routers follow, dtabs and Ingresses: which are wanted, and putting them into force.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::reconciler;
use crate::config::{Interpreter, Settings};
use crate::control::State;
use crate::discovery::kubernetes::{Cluster, Dtabs, Health, IngressTables, Resource, Stored};
use crate::domain::identify::Identifier;
use crate::proxy::routing::snapshot::RoutingConfig;

/// Most mistakes that `/ready` shows.
const SHOWN: usize = 3;

/// What is known of them.
#[derive(Default)]
pub(super) struct Known {
    pub(super) dtabs: Dtabs,
    pub(super) ingresses: IngressTables,
}

impl Known {
    /// What is known of those that are wanted, once the server has answered for each, or after `limit`.
    pub(super) async fn within(cluster: &Cluster, limit: Duration) -> Self {
        let (dtabs, ingresses) = (cluster.dtabs(), cluster.ingresses());
        tokio::join!(dtabs.known_within(limit), ingresses.known_within(limit));
        // An edit of a dtab may have come while Ingresses were waited for.
        Self { dtabs: dtabs.known().borrow().clone(), ingresses: ingresses.known().borrow().clone() }
    }

    /// Whether the same dtabs and tables are known, so that the same configuration is made of them.
    fn is_same(&self, other: &Self) -> bool {
        let dtab = |(one, other): ((&Interpreter, &Stored), (&Interpreter, &Stored))| {
            one.0 == other.0
                && match (&one.1.dtab, &other.1.dtab) {
                    (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                    (one, other) => one.is_none() && other.is_none(),
                }
        };
        let (dtabs, tables) = (&other.dtabs, &other.ingresses);
        self.dtabs.len() == dtabs.len()
            && self.dtabs.iter().zip(dtabs).all(dtab)
            && self.ingresses.len() == tables.len()
            && self.ingresses.iter().zip(tables).all(|(one, it)| one.0 == it.0 && Arc::ptr_eq(one.1, it.1))
    }
}

/// Follows what any of `settings` name from now on.
pub(super) fn want(cluster: &Cluster, settings: &[&Settings]) {
    let routers = settings.iter().flat_map(|settings| settings.all_routers());
    cluster.dtabs().want(settings.iter().flat_map(|settings| dtabs(settings)).collect());
    // Of several, these are about to change.
    if let [in_force] = settings {
        cluster.dtabs().judge_by(in_force);
    }
    let source = |it: &Identifier| match it {
        Identifier::Ingress(ingress) => Some(ingress.source.clone()),
        _ => None,
    };
    cluster.ingresses().want(routers.flat_map(|router| &router.identifiers).filter_map(source).collect());
}

/// The dtabs of the cluster that `settings` name, each with the labels of the routers that read it, if they have any.
fn dtabs(settings: &Settings) -> BTreeMap<Interpreter, String> {
    let mut wanted: BTreeMap<_, String> = BTreeMap::new();
    for router in settings.all_routers() {
        let Some(interpreter) = &router.interpreter else { continue };
        let labels = wanted.entry(interpreter.clone()).or_default();
        if router.is_labelled() {
            labels.push_str(if labels.is_empty() { "" } else { ", " });
            labels.push_str(&router.label);
        }
    }
    wanted
}

/// Puts each change of an object into force, and says what is wrong with them, as long as weir runs.
pub(super) async fn keep(
    control: Arc<State>,
    cluster: Arc<Cluster>,
    config: watch::Sender<RoutingConfig>,
) -> anyhow::Result<()> {
    let health = cluster.health();
    let (mut dtabs, mut ingresses) = (cluster.dtabs().known(), cluster.ingresses().known());
    let mut healths = health.changes();
    // Of what the configuration was made.
    let mut made: Option<(Arc<Settings>, Known)> = None;
    loop {
        let dtabs_now = dtabs.borrow_and_update().clone();
        let now = Known { dtabs: dtabs_now, ingresses: ingresses.borrow_and_update().clone() };
        control.ready.set("interpreter", missing(&now.dtabs).map_or(Ok(()), Err));
        control.ready.note("interpreter", noted(&now.dtabs));
        control.ready.set("ingress", unknown(&now.ingresses, &health).map_or(Ok(()), Err));
        control.ready.note("ingress", not_in_force(&now.ingresses, &health));
        // Warnings, failures, and the rules of Ingresses are no part of it.
        let settings = control.settings();
        if made.as_ref().is_none_or(|(by, of)| !Arc::ptr_eq(by, &settings) || !of.is_same(&now)) {
            config.send_if_modified(|config| {
                let next = reconciler::config(&settings, config.node.clone(), &now);
                let differs = *config != next;
                *config = next;
                differs
            });
            made = Some((settings, now));
        }
        tokio::select! {
            changed = dtabs.changed() => changed?,
            changed = ingresses.changed() => changed?,
            changed = healths.changed() => changed?,
        }
    }
}

/// Which dtabs are not there, and why; their routers bind by what the configuration says alone.
fn missing(known: &Dtabs) -> Option<String> {
    said(known.iter().filter(|(_, stored)| stored.dtab.is_none()))
}

/// What is wrong with dtabs that are in force.
fn noted(known: &Dtabs) -> Option<String> {
    let notes: Vec<_> = stale(known).into_iter().chain(known.iter().filter_map(warned)).collect();
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// What of a dtab that is in force can never be bound.
fn warned((which, stored): (&Interpreter, &Stored)) -> Option<String> {
    let first = stored.warnings.first()?;
    Some(match stored.warnings.len() {
        1 => format!("{which}: a warning: {first}"),
        count => format!("{which}: {count} warnings, the first: {first}"),
    })
}

/// Which dtabs are older than their objects, or cannot be followed now.
fn stale(known: &Dtabs) -> Option<String> {
    let is_stale = |stored: &Stored| stored.problem.is_some() || stored.failure.is_some();
    said(known.iter().filter(|(_, stored)| stored.dtab.is_some() && is_stale(stored)))
}

fn said<'a>(known: impl Iterator<Item = (&'a Interpreter, &'a Stored)>) -> Option<String> {
    let why = |stored: &'a Stored| stored.problem.as_deref().or(stored.failure.as_deref());
    let each: Vec<_> =
        known.map(|(which, stored)| format!("{which}: {}", why(stored).unwrap_or("not read yet"))).collect();
    (!each.is_empty()).then(|| each.join("; "))
}

/// Why Ingresses are not known; requests that need them are answered 503.
fn unknown(known: &IngressTables, health: &Health) -> Option<String> {
    known.values().any(|table| table.rules().is_none()).then(|| {
        match health.status(Resource::Ingresses).failure {
            Some(failure) => format!("the Ingresses are not known: {failure}"),
            None => "the Ingresses are not listed yet".to_owned(),
        }
    })
}

/// What of the Ingresses as they are now is not in force.
fn not_in_force(known: &IngressTables, health: &Health) -> Option<String> {
    let rules: Option<Vec<_>> = known.values().map(|table| table.rules()).collect();
    let rules = rules.filter(|rules| !rules.is_empty())?;
    let failure = health.status(Resource::Ingresses).failure;
    let failure = failure.map(|failure| format!("what is known of Ingresses stays in force: {failure}"));
    let mut wrong = health.problems_of(Resource::Ingresses);
    wrong.extend(rules.iter().flat_map(|rules| rules.left_out().reasons.iter().cloned()));
    let more = wrong.len().saturating_sub(SHOWN);
    wrong.truncate(SHOWN);
    let more = (more > 0).then(|| format!("and {more} more"));
    let parts: Vec<_> = failure.into_iter().chain(wrong).chain(more).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DtabStore;
    use crate::domain::dtab::Dtab;
    use crate::domain::identify::ingress::{IngressSource, IngressTable};

    #[test]
    fn only_another_dtab_or_table_makes_another_configuration() {
        let which = Interpreter { store: DtabStore::Dtab, namespace: "l5d".into(), name: "web".into() };
        let source =
            IngressSource { namespace: None, class: "linkerd".into(), ignore_default_backends: false };
        let (dtab, table) = (Arc::new(Dtab::default()), Arc::new(IngressTable::default()));
        let known = |dtab: Option<&Arc<Dtab>>, table: &Arc<IngressTable>, warning: &str| {
            let mut stored = Stored::default();
            (stored.dtab, stored.warnings) = (dtab.cloned(), [warning.to_owned()].into());
            stored.failure = (!warning.is_empty()).then(|| warning.to_owned());
            Known {
                dtabs: [(which.clone(), stored)].into(),
                ingresses: [(source.clone(), table.clone())].into(),
            }
        };
        let before = known(Some(&dtab), &table, "");
        for (now, is_same) in [
            (known(Some(&dtab), &table, ""), true),
            (known(Some(&dtab), &table, "a dead end"), true),
            (known(None, &table, ""), false),
            (known(Some(&Arc::new(Dtab::default())), &table, ""), false),
            (known(Some(&dtab), &Arc::default(), ""), false),
            (Known::default(), false),
        ] {
            assert_eq!(before.is_same(&now), is_same);
            assert_eq!(now.is_same(&before), is_same);
        }
    }
}
