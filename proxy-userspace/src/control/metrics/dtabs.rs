//! Metrics: the dtabs that are kept in the cluster.

use std::fmt;

use crate::discovery::kubernetes::DtabKeeper;
use crate::telemetry::Page;

pub(super) fn write(page: &mut Page<'_>, keeper: &DtabKeeper) -> fmt::Result {
    let known = keeper.known().borrow().clone();
    let rows = known.iter().map(|(which, stored)| {
        let is_current = stored.dtab.is_some() && stored.problem.is_none() && stored.failure.is_none();
        ([("dtab", which.to_string())], f64::from(u8::from(is_current)))
    });
    page.gauges("weir_dtab_in_force", "1 while the dtab of the cluster as it is now is in force", rows)?;
    let warnings =
        known.iter().map(|(which, stored)| ([("dtab", which.to_string())], stored.warnings.len() as f64));
    page.gauges("weir_dtab_warnings", "What of the dtab of the cluster can never be bound", warnings)?;
    let edits = [("applied", keeper.applied.value()), ("rejected", keeper.rejected.value())];
    let edits = edits.map(|(result, count)| ([("result", result)], count));
    page.counters("weir_dtab_edits", "Edits of dtabs of the cluster", edits)
}
