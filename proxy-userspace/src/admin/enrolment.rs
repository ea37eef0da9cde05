//! Who of this node's pods is diverted, and why or why not.

use std::fmt;

use serde_json::{Value, json};

use super::Desk;
use crate::domain::enrol::{Enrolled, Enrolment, State};
use crate::intercept::Enrol;
use crate::telemetry::Page;

/// The part of `/api/state.json`.
pub(super) fn json(desk: &Desk) -> Value {
    match (desk.enrol(), &*desk.enrolment.load()) {
        (None, _) => json!({ "by": "none" }),
        (Some(Enrol::All), _) => json!({ "by": "all" }),
        (Some(Enrol::Pods), enrolment) => {
            let none = Enrolment::default();
            let enrolment = enrolment.as_deref().unwrap_or(&none);
            let counts = State::ALL.map(|state| (state.name().to_owned(), json!(enrolment.count(state))));
            json!({
                "by": "pods",
                "counts": counts.into_iter().collect::<serde_json::Map<_, _>>(),
                "pods": enrolment.pods.iter().map(|(uid, it)| pod(uid, it)).collect::<Vec<_>>(),
            })
        }
    }
}

fn pod(uid: &str, it: &Enrolled) -> Value {
    json!({
        "pod": format!("{}/{}", it.pod.namespace, it.pod.name),
        "uid": uid,
        "addresses": it.pod.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "state": it.state.name(),
        "why": it.decision.why.to_string(),
        "skipPorts": it.decision.ports.skip.to_string(),
        "opaquePorts": it.decision.ports.opaque.to_string(),
        "mistakes": it.decision.mistakes,
    })
}

/// The metrics.
pub(super) fn metrics(page: &mut Page<'_>, enrolment: &Enrolment) -> fmt::Result {
    let none: [(&str, &str); 0] = [];
    let pods = State::ALL.map(|state| ([("state", state.name())], enrolment.count(state) as f64));
    page.gauges("weir_enrolment_pods", "This node's pods, by what became of them", pods)?;
    page.gauges(
        "weir_enrolment_mistakes",
        "Pods with annotations that were ignored, on them or their namespace",
        [(none, enrolment.mistaken() as f64)],
    )
}
