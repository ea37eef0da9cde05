//! Metrics: the state of discovery by an API server.

use std::fmt;

use super::NONE;
use crate::discovery::kubernetes::{Counts, Failure, Health, Resource, State};
use crate::telemetry::{Counter, Page};

pub(super) fn write(page: &mut Page<'_>, health: &Health) -> fmt::Result {
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
        let row = move |(kind, count): (&'static str, &Counter)| {
            ([("resource", it.name()), ("kind", kind)], count.value())
        };
        Failure::KINDS.into_iter().zip(&counts.failures).map(row)
    });
    page.counters("weir_kubernetes_failures", "Lists and watches that failed", failures)?;
    let (name, help) =
        ("weir_kubernetes_endpoint_connects", "Connections made to an endpoint of the API server");
    page.counters(name, help, [(NONE, health.by_endpoint.value())])?;
    let problems = health.problems().len();
    page.gauges(
        "weir_kubernetes_problems",
        "Objects ignored now, of which 100 are named",
        [(NONE, problems as f64)],
    )
}
