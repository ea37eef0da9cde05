//! Metrics: how many of this node's pods are diverted.

use std::fmt;

use super::NONE;
use crate::domain::enrol::{Enrolment, State};
use crate::telemetry::Page;

pub(super) fn write(page: &mut Page<'_>, enrolment: &Enrolment) -> fmt::Result {
    let pods = State::ALL.map(|state| ([("state", state.name())], enrolment.count(state) as f64));
    page.gauges("weir_enrolment_pods", "This node's pods, by what became of them", pods)?;
    page.gauges(
        "weir_enrolment_mistakes",
        "Pods with annotations that were ignored, on them or their namespace",
        [(NONE, enrolment.mistaken() as f64)],
    )
}
