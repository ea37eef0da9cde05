//! Metrics: one weir follows another.

use std::fmt;

use super::NONE;
use crate::control::Handover;
use crate::telemetry::Page;

pub(super) fn write(page: &mut Page<'_>, handover: &Handover) -> fmt::Result {
    let rows = handover.counts().map(|(result, count)| ([("result", result)], count));
    page.counters("weir_handovers", "Listeners passed from one weir of this node to the next", rows)?;
    let before = handover.draining();
    let open = before.as_ref().map_or(0.0, |it| it.open as f64);
    page.gauges(
        "weir_handover_draining_connections",
        "Connections open in earlier weirs of this node, which drain",
        [(NONE, open)],
    )?;
    let seconds = before.map_or(0.0, |it| it.since.elapsed().as_secs_f64());
    page.gauges(
        "weir_handover_draining_seconds",
        "For how long the oldest weir that drains has been doing so; 0 while there is none",
        [(NONE, seconds)],
    )
}
