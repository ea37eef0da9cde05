//! What is counted of the memory budget.

use std::fmt;

use crate::proxy::memory::{Memory, Refused, Shed};
use crate::proxy::upstream::Connecting;
use crate::telemetry::Page;

pub(super) fn memory(page: &mut Page<'_>, memory: &Memory, connecting: &Connecting) -> fmt::Result {
    let none: [(&str, &str); 0] = [];
    let (used, budget) = memory.used();
    if let Some(budget) = budget {
        page.gauges("weir_memory_budget_bytes", "Memory that may be in use", [(none, budget as f64)])?;
        page.gauges(
            "weir_memory_used_bytes",
            "Memory in use, as it was last measured",
            [(none, used as f64)],
        )?;
    }
    page.counters(
        "weir_idle_connections_crowded_out",
        "Unused connections to endpoints closed since there were too many of them",
        [(none, connecting.crowded_out.value())],
    )?;
    let level = f64::from(memory.level() as u8);
    page.gauges(
        "weir_memory_level",
        "How scarce memory is: 0 not, 1 shed, 2 refuse, 3 full",
        [(none, level)],
    )?;
    let shed = Shed::LABELS.iter().zip(&memory.shed);
    let shed = shed.map(|(kind, count)| ([("kind", *kind)], count.value()));
    page.counters("weir_memory_shed", "What was closed or dropped for lack of memory", shed)?;
    let refused = Refused::LABELS.iter().zip(&memory.refused);
    let refused = refused.map(|(kind, count)| ([("kind", *kind)], count.value()));
    page.counters("weir_memory_refused", "What was refused for lack of memory", refused)
}
