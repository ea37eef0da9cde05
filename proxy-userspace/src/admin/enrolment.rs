//! Who of this node's pods is diverted, and why or why not.

use serde_json::{Value, json};

use crate::control;
use crate::domain::enrol::{Enrolled, Enrolment, State};
use crate::intercept::Enrol;

/// The part of `/api/state.json`.
pub(super) fn json(control: &control::State) -> Value {
    match (control.programs.enrols(), &*control.enrolment.load()) {
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
