//! How discovery by an API server is doing, for `/api/state.json`.

use serde_json::{Value, json};

use crate::discovery::kubernetes::{Failure, Health, Resource};

/// For `/api/state.json`; null where nothing is discovered so.
pub(super) fn json(health: Option<&Health>) -> Value {
    let Some(health) = health else { return Value::Null };
    let resource = |resource: Resource| {
        let (status, counts) = (health.status(resource), &health.counts[resource.index()]);
        let failures = Failure::KINDS.iter().zip(&counts.failures).filter(|(_, count)| count.value() > 0);
        let told = json!({
            "state": status.state.name(),
            "known": status.known,
            "contactAgeSeconds": status.contact.map(|at| at.elapsed().as_secs_f64()),
            "failure": status.failure.map(|failure| failure.to_string()),
            "lists": counts.lists.value(),
            "watches": counts.watches.value(),
            "events": counts.events.value(),
            "ignored": counts.ignored.value(),
            "failures": failures.map(|(kind, count)| ((*kind).to_owned(), json!(count.value()))).collect::<serde_json::Map<_, _>>(),
        });
        (resource.name().to_owned(), told)
    };
    json!({
        "waitsFor": health.waits_for(),
        "off": health.off(),
        "resources": Resource::ALL.into_iter().map(resource).collect::<serde_json::Map<_, _>>(),
        "problems": health.problems(),
    })
}
