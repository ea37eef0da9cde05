//! Dtabs of the cluster: which are wanted, and putting them into force.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::reconciler;
use crate::config::{Interpreter, Settings};
use crate::control::State;
use crate::discovery::kubernetes::{DtabKeeper, Dtabs, Stored};
use crate::proxy::routing::snapshot::RoutingConfig;

/// The dtabs of the cluster that `settings` name, each with the labels of the routers that read it, if they have any.
pub(super) fn wanted(settings: &Settings) -> BTreeMap<Interpreter, String> {
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

/// Puts each change of a dtab of the cluster into force, and says what is wrong with them, as long as weir runs.
pub(super) async fn keep(
    control: Arc<State>,
    keeper: Arc<DtabKeeper>,
    config: watch::Sender<RoutingConfig>,
) -> anyhow::Result<()> {
    let mut known = keeper.known();
    loop {
        let now = known.borrow_and_update().clone();
        control.ready.set("interpreter", missing(&now).map_or(Ok(()), Err));
        control.ready.note("interpreter", stale(&now));
        config.send_if_modified(|config| {
            let next = reconciler::config(&control.settings(), config.node.clone(), &now);
            let differs = *config != next;
            *config = next;
            differs
        });
        known.changed().await?;
    }
}

/// Which dtabs are not there, and why; their routers bind by what the configuration says alone.
fn missing(known: &Dtabs) -> Option<String> {
    said(known.iter().filter(|(_, stored)| stored.dtab.is_none()))
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
