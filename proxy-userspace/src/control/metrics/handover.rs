//! Metrics: one weir follows another.

use std::fmt;
use std::sync::atomic::Ordering;

use super::NONE;
use crate::control::Handover;
use crate::telemetry::Page;

pub(super) fn write(page: &mut Page<'_>, handover: &Handover) -> fmt::Result {
    let rows = handover.counts().map(|(result, count)| ([("result", result)], count));
    page.counters("weir_handovers", "Listeners passed from one weir of this node to the next", rows)?;
    let is_offered = f64::from(u8::from(handover.is_offered.load(Ordering::Relaxed)));
    page.gauges(
        "weir_handover_offered",
        "1 while the next weir of this node can take the listeners over",
        [(NONE, is_offered)],
    )?;
    let before = handover.draining();
    let open = before.as_ref().map_or(0.0, |it| it.open as f64);
    page.gauges(
        "weir_handover_draining_connections",
        "Connections open in earlier weirs of this node, which drain",
        [(NONE, open)],
    )?;
    let weirs = before.as_ref().map_or(0.0, |it| it.weirs as f64);
    page.gauges("weir_handover_draining_weirs", "Earlier weirs of this node, which drain", [(NONE, weirs)])?;
    let seconds = before.map_or(0.0, |it| it.since.elapsed().as_secs_f64());
    page.gauges(
        "weir_handover_draining_seconds",
        "For how long the oldest weir that drains has been doing so; 0 while there is none",
        [(NONE, seconds)],
    )
}
