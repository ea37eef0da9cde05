//! Metrics: the state of interception and the programs' decisions.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::NONE;
use crate::control::{NetnsState, Reading, SocketPlace, State};
use crate::proxy::pod_clients::Whose;
use crate::telemetry::Page;
use crate::transport::NetnsStats;

/// Writes nothing if interception is not configured.
pub(super) fn write(page: &mut Page<'_>, state: &State) -> fmt::Result {
    if let Some(place) = state.netns.place.get() {
        // In no pod, and not on the node either, if interception is off.
        let is_on = state.programs.read().is_ok();
        let is_there = |name| name == place.name() && (is_on || !place.in_pods);
        let rows = SocketPlace::NAMES.map(|name| ([("place", name)], f64::from(u8::from(is_there(name)))));
        page.gauges(
            "weir_interception_sockets",
            "1 for where weir's sockets for diverted connections are",
            rows,
        )?;
    }
    match state.programs.read() {
        Ok(reading) => programs(page, state, &reading),
        Err(_) if state.settings().transparent.is_some() => armed(page, false),
        Err(_) => Ok(()),
    }
}

fn programs(page: &mut Page<'_>, state: &State, reading: &Reading) -> fmt::Result {
    let Reading { status, counters } = reading;
    let age = status.heart_age.map_or(f64::INFINITY, |age| age.as_secs_f64());
    armed(page, status.is_armed())?;
    page.gauges(
        "weir_interception_heart_age_seconds",
        "Since a worker was last known to move",
        [(NONE, age)],
    )?;
    let destinations = status.destinations as f64;
    page.gauges(
        "weir_interception_destinations",
        "Entries of the table of destinations",
        [(NONE, destinations)],
    )?;
    let refused = status.refused as f64;
    page.gauges(
        "weir_interception_refused",
        "Diverted addresses and ports that have no endpoint and are refused",
        [(NONE, refused)],
    )?;
    let waiting = status.waiting as f64;
    page.gauges("weir_interception_waiting", "Diverted connections not accepted yet", [(NONE, waiting)])?;
    if let Some(original_dsts) = &state.shared.original_dsts {
        let expired = original_dsts.found().expired.value();
        page.counters(
            "weir_interception_expired",
            "Diverted connections never accepted, forgotten",
            [(NONE, expired)],
        )?;
        let (told, learnt) = original_dsts.owners().known();
        let rows = [("told", told), ("learnt", learnt)].map(|(how, count)| ([("source", how)], count as f64));
        page.gauges("weir_interception_addresses", "Addresses of which it is known whose they are", rows)?;
    }
    if let Some(thread) = state.netns.thread.get() {
        pods(page, state, thread.stats())?;
    }
    direct(page, state)?;
    let left_out = state.programs.diverted.lock().left_out as f64;
    page.gauges("weir_interception_left_out", "Destinations without room in the table", [(NONE, left_out)])?;
    let rows = counters.iter().map(|(decision, count)| ([("decision", decision)], count));
    page.counters("weir_interception_decisions", "What the eBPF programs decided", rows)
}

/// Connections that were opened while nothing diverted them.
fn direct(page: &mut Page<'_>, state: &State) -> fmt::Result {
    let (direct, seen) = (&state.direct, state.direct.seen.load());
    for (name, help, value) in [
        (
            "weir_interception_direct_connections",
            "Connections of enrolled pods that were opened while nothing diverted them",
            seen.connections(),
        ),
        (
            "weir_interception_direct_unseen",
            "Network namespaces whose direct connections could not all be counted",
            seen.unseen,
        ),
        (
            "weir_interception_direct_looked",
            "Network namespaces whose direct connections were counted",
            seen.looked,
        ),
    ] {
        page.gauges(name, help, [(NONE, value as f64)])?;
    }
    for (name, help, value) in [
        (
            "weir_interception_direct_closed",
            "Direct connections that were ended because they were idle",
            &direct.closed,
        ),
        ("weir_interception_direct_looks", "Looks for direct connections", &direct.looks),
        ("weir_interception_direct_look_microseconds", "The time that these took", &direct.took),
    ] {
        page.counters(name, help, [(NONE, value.value())])?;
    }
    Ok(())
}

/// With weir's sockets in the pods.
fn pods(page: &mut Page<'_>, state: &State, stats: &NetnsStats) -> fmt::Result {
    let rows =
        state.netns.counts().into_iter().map(|(state, count)| ([("state", state.name())], count as f64));
    page.gauges(
        "weir_interception_netns",
        "Network namespaces of pods, by how their connections are treated",
        rows,
    )?;
    without(page, state)?;
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    page.counters(
        "weir_netns_entered",
        "Sockets and looks in pods' network namespaces",
        [(NONE, read(&stats.jobs))],
    )?;
    if let Some(pods) = &state.shared.pods {
        let rows = Whose::LABELS.iter().zip(&pods.clients);
        let rows = rows.map(|(whose, count)| ([("whose", *whose)], count.value()));
        let help = "Connections of explicit clients, by whose they are";
        page.counters("weir_explicit_clients", help, rows)?;
    }
    let [listening, left] = state.netns.loopback();
    page.gauges(
        "weir_explicit_netns",
        "Network namespaces with the explicit proxy at their loopback addresses",
        [("listening", listening), ("left", left)].map(|(state, count)| ([("state", state)], count as f64)),
    )?;
    let refused = read(&stats.refused);
    page.counters(
        "weir_netns_refused",
        "Those that were refused because too many waited",
        [(NONE, refused)],
    )?;
    let took = read(&stats.took_ns) / 1_000;
    page.counters("weir_netns_microseconds", "The time in pods' network namespaces", [(NONE, took)])
}

/// Enrolled pods in which weir does not listen.
fn without(page: &mut Page<'_>, state: &State) -> fmt::Result {
    let all = state.netns.without.load();
    let reasons = NetnsState::ALL.into_iter().filter(|it| *it != NetnsState::Listening);
    let rows = reasons.map(|reason| {
        let count = all.values().filter(|it| it.state == reason).count();
        ([("reason", reason.name())], count as f64)
    });
    page.gauges(
        "weir_interception_pods_without_listener",
        "Enrolled pods in which weir does not listen, so that they are not diverted",
        rows,
    )?;
    let longest = all.values().map(|it| it.since.elapsed().as_secs_f64()).fold(0.0, f64::max);
    page.gauges(
        "weir_interception_without_listener_seconds",
        "For how long the first of them has been so",
        [(NONE, longest)],
    )
}

fn armed(page: &mut Page<'_>, armed: bool) -> fmt::Result {
    let value = f64::from(u8::from(armed));
    page.gauges("weir_interception_armed", "1 while connections are diverted", [(NONE, value)])
}
