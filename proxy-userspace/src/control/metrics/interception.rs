//! Metrics: the state of interception and the programs' decisions.

use std::fmt;

use super::NONE;
use crate::control::{Reading, State};
use crate::telemetry::Page;

/// Writes nothing if interception is not configured.
pub(super) fn write(page: &mut Page<'_>, state: &State) -> fmt::Result {
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
    let left_out = state.programs.diverted.lock().left_out as f64;
    page.gauges("weir_interception_left_out", "Destinations without room in the table", [(NONE, left_out)])?;
    let rows = counters.iter().map(|(decision, count)| ([("decision", decision)], count));
    page.counters("weir_interception_decisions", "What the eBPF programs decided", rows)
}

fn armed(page: &mut Page<'_>, armed: bool) -> fmt::Result {
    let value = f64::from(u8::from(armed));
    page.gauges("weir_interception_armed", "1 while connections are diverted", [(NONE, value)])
}
