//! How discovery by an API server is doing, for the admin and for metrics.

use std::fmt;

use serde_json::{Value, json};

use crate::discovery::kubernetes::{Counts, Failure, Health, Resource, State};
use crate::telemetry::Page;

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

/// Writes the metrics.
pub(super) fn metrics(page: &mut Page<'_>, health: &Health) -> fmt::Result {
    let all = || Resource::ALL.into_iter().map(|it| (it, health.status(it), &health.counts[it.index()]));
    let ages = all().map(|(it, status, _)| {
        let age = status.contact.map_or(f64::INFINITY, |at| at.elapsed().as_secs_f64());
        ([("resource", it.name())], age)
    });
    page.gauges("weir_kubernetes_contact_age_seconds", "Since the API server last said anything", ages)?;
    let states = all().flat_map(|(it, status, _)| {
        let row = move |state: State| {
            ([("resource", it.name()), ("state", state.name())], f64::from(u8::from(status.state == state)))
        };
        State::ALL.into_iter().map(row)
    });
    page.gauges("weir_kubernetes_state", "1 for what is being done", states)?;
    let counts =
        |of: fn(&Counts) -> u64| all().map(move |(it, _, counts)| ([("resource", it.name())], of(counts)));
    page.counters("weir_kubernetes_lists", "Lists begun", counts(|it| it.lists.value()))?;
    page.counters("weir_kubernetes_watches", "Watches begun", counts(|it| it.watches.value()))?;
    page.counters("weir_kubernetes_events", "Events of watches", counts(|it| it.events.value()))?;
    page.counters("weir_kubernetes_ignored", "Objects that made no sense", counts(|it| it.ignored.value()))?;
    let failures = all().flat_map(|(it, _, counts)| {
        let row = move |(kind, count): (&'static str, &crate::telemetry::Count)| {
            ([("resource", it.name()), ("kind", kind)], count.value())
        };
        Failure::KINDS.into_iter().zip(&counts.failures).map(row)
    });
    page.counters("weir_kubernetes_failures", "Lists and watches that failed", failures)?;
    let none: [(&str, &str); 0] = [];
    let (name, help) =
        ("weir_kubernetes_endpoint_connects", "Connections made to an endpoint of the API server");
    page.counters(name, help, [(none, health.by_endpoint.value())])?;
    let problems = health.problems().len();
    page.gauges(
        "weir_kubernetes_problems",
        "Objects ignored now, of which 100 are named",
        [(none, problems as f64)],
    )
}
