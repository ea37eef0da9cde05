//! Which of this node's pods are diverted, and why or why not.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Counts, Word};
use crate::control::{self, WithoutListener};
use crate::domain::enrol::{Enrolled, Enrolment, State};
use crate::intercept::Enrol;

/// Whose connections are diverted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct EnrolmentReport {
    /// `none`, `all` (pods of the node), or `pods` (enrolled pods).
    #[serde(default)]
    pub by: Word,
    /// Number of pods in each state, if enrolment is by pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// The pods, if enrolment is by pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<Vec<PodReport>>,
}

/// A pod of this node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodReport {
    /// NAMESPACE/NAME.
    pub pod: String,
    /// Its UID.
    #[serde(default)]
    pub uid: String,
    /// Its addresses.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Its state: `enrolled`, `direct`, `not_found` or `no_room`.
    #[serde(default)]
    pub state: Word,
    /// The reason for that state.
    #[serde(default)]
    pub why: String,
    /// Ports whose connections are not diverted.
    #[serde(default)]
    pub skip_ports: String,
    /// Ports whose connections are forwarded as opaque bytes.
    #[serde(default)]
    pub opaque_ports: String,
    /// Annotations that are ignored, with the reason.
    #[serde(default)]
    pub mistakes: Vec<String>,
    /// Why and for how long weir has not listened in its network namespace, with weir's sockets in the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_listener: Option<WithoutReport>,
}

/// An enrolled pod in which weir does not listen: its connections go direct.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WithoutReport {
    /// The reason in a word, as in the states of network namespaces.
    #[serde(default)]
    pub reason: Word,
    /// The reason in words.
    #[serde(default)]
    pub why: String,
    /// For how many seconds it has been so.
    #[serde(default)]
    pub seconds: u64,
}

impl WithoutReport {
    fn of(it: &WithoutListener) -> Self {
        Self {
            reason: it.state.name().into(),
            why: it.why.to_string(),
            seconds: it.since.elapsed().as_secs(),
        }
    }
}

impl EnrolmentReport {
    /// Reads the current state.
    pub(super) fn read(control: &control::State) -> Self {
        let by = |by: &'static str| Self { by: by.into(), ..Self::default() };
        match (control.programs.enrols(), control.enrolment.load_full()) {
            (None, _) => by("none"),
            (Some(Enrol::All), _) => by("all"),
            (Some(Enrol::Pods), enrolment) => {
                Self::of_pods(&enrolment.unwrap_or_default(), &control.netns.without.load())
            }
        }
    }

    fn of_pods(enrolment: &Enrolment, without: &BTreeMap<Arc<str>, WithoutListener>) -> Self {
        let counts = State::ALL.map(|state| (Word::from(state.name()), enrolment.count(state) as u64));
        let pods = enrolment.pods.iter().map(|(uid, it)| PodReport::new(uid, it, without.get(uid))).collect();
        Self { by: "pods".into(), counts: Some(counts.into_iter().collect()), pods: Some(pods) }
    }
}

impl PodReport {
    fn new(uid: &str, it: &Enrolled, without: Option<&WithoutListener>) -> Self {
        Self {
            pod: format!("{}/{}", it.pod.namespace, it.pod.name),
            uid: uid.to_owned(),
            addresses: it.pod.addresses.iter().map(ToString::to_string).collect(),
            state: it.state.name().into(),
            why: it.decision.why.to_string(),
            skip_ports: it.decision.ports.skip.to_string(),
            opaque_ports: it.decision.ports.opaque.to_string(),
            mistakes: it.decision.mistakes.clone(),
            without_listener: without.map(WithoutReport::of),
        }
    }
}
