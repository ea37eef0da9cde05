//! Who is diverted: the decision on one pod of this node, with its reason.
//!
//! By default every pod is, except those of the cluster's own namespaces (`transparent.excludeNamespaces`) and of weir's.
//! The annotation `weir.dev/divert` on the pod, or else on its namespace, says otherwise: `enabled` or `disabled`, or another
//! of the words for that ([`ENABLED`], [`DISABLED`]), in any case. Pods in the node's own network are never enrolled: their connections look like those of the node itself, kubelet's and the
//! container runtime's among them, and of weir. An annotation that makes no sense is as good as none, and is shown.
//!
//! Deliberately absent: where a pod's cgroup is, and the programs' table.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::pods::{ANNOTATIONS, DivertAnnotations, NodePods, Pod};
use super::ports::{PortWishes, quoted};

/// `weir.dev/divert`: whether a pod's connections are diverted.
const DIVERT: &str = "divert";

/// Its values that say yes.
const ENABLED: [&str; 4] = ["enabled", "true", "yes", "on"];

/// Its values that say no.
const DISABLED: [&str; 4] = ["disabled", "false", "no", "off"];

/// What is the same for all pods.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Namespaces whose pods are not diverted unless an annotation says so.
    pub exclude: &'a [String],
    /// weir's own namespace, where it is known.
    pub own: Option<&'a str>,
}

/// What is to become of a pod's connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether they are diverted, and why.
    pub why: Why,
    /// The destination ports for which it is otherwise.
    pub ports: PortWishes,
    /// Annotations that were ignored, and why.
    pub mistakes: Vec<String>,
}

/// Why a pod is diverted or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Diverted: nothing says otherwise.
    Default,
    /// Diverted: the pod's annotation says so.
    EnabledOnPod,
    /// Diverted: the annotation of this namespace, the pod's, says so.
    EnabledOnNamespace(Arc<str>),
    /// Not diverted: the pod's annotation says so.
    DisabledOnPod,
    /// Not diverted: the annotation of this namespace, the pod's, says so.
    DisabledOnNamespace(Arc<str>),
    /// Not diverted: its namespace, this one, is excluded by the configuration.
    Excluded(Arc<str>),
    /// Not diverted: its namespace is weir's own.
    OwnNamespace,
    /// Never diverted: it has the node's own network.
    HostNetwork,
    /// Not diverted: it has run to its end.
    Finished,
}

impl Why {
    /// Whether it is a reason to divert.
    pub fn diverts(&self) -> bool {
        match self {
            Self::Default | Self::EnabledOnPod | Self::EnabledOnNamespace(_) => true,
            Self::DisabledOnPod
            | Self::DisabledOnNamespace(_)
            | Self::Excluded(_)
            | Self::OwnNamespace
            | Self::HostNetwork
            | Self::Finished => false,
        }
    }
}

/// As the admin shows it.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "by default"),
            Self::EnabledOnPod => write!(f, "enabled by annotation on the pod"),
            Self::EnabledOnNamespace(name) => write!(f, "enabled by annotation on namespace {name}"),
            Self::DisabledOnPod => write!(f, "disabled by annotation on the pod"),
            Self::DisabledOnNamespace(name) => write!(f, "disabled by annotation on namespace {name}"),
            Self::Excluded(name) => write!(f, "namespace {name} is in transparent.excludeNamespaces"),
            Self::OwnNamespace => write!(f, "it is in weir's own namespace"),
            Self::HostNetwork => write!(
                f,
                "it has the node's own network (hostNetwork), where its connections cannot be told from the node's"
            ),
            Self::Finished => write!(f, "it has run to its end"),
        }
    }
}

/// Decides on one pod. `namespace` is what its namespace is annotated with.
pub fn decide(pod: &Pod, namespace: Option<&DivertAnnotations>, terms: Terms<'_>) -> Decision {
    let mut mistakes = Vec::new();
    let on_pod = divert(&pod.wishes, "the pod", &mut mistakes);
    let on_namespace = namespace.and_then(|wishes| divert(wishes, "the namespace", &mut mistakes));
    let text = |key| pod.wishes.get(key).map(|text| &**text);
    let (ports, wrong) = PortWishes::read(text(PortWishes::SKIP), text(PortWishes::OPAQUE));
    mistakes.extend(wrong);
    unknown(&pod.wishes, &[DIVERT, PortWishes::SKIP, PortWishes::OPAQUE], "the pod", &mut mistakes);
    if let Some(wishes) = namespace {
        unknown(wishes, &[DIVERT], "the namespace", &mut mistakes);
    }
    let why = match (on_pod, on_namespace) {
        _ if pod.finished => Why::Finished,
        _ if pod.host_network => Why::HostNetwork,
        (Some(Divert::Enabled), _) => Why::EnabledOnPod,
        (Some(Divert::Disabled), _) => Why::DisabledOnPod,
        (None, Some(Divert::Enabled)) => Why::EnabledOnNamespace(pod.namespace.clone()),
        (None, Some(Divert::Disabled)) => Why::DisabledOnNamespace(pod.namespace.clone()),
        (None, None) if terms.own == Some(&*pod.namespace) => Why::OwnNamespace,
        (None, None) if terms.exclude.iter().any(|name| **name == *pod.namespace) => {
            Why::Excluded(pod.namespace.clone())
        }
        (None, None) => Why::Default,
    };
    Decision { why, ports, mistakes }
}

#[derive(Clone, Copy)]
enum Divert {
    Enabled,
    Disabled,
}

fn divert(wishes: &DivertAnnotations, whose: &str, mistakes: &mut Vec<String>) -> Option<Divert> {
    let value = wishes.get(DIVERT)?.trim();
    let is_one_of = |words: [&str; 4]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
    if is_one_of(ENABLED) {
        return Some(Divert::Enabled);
    }
    if is_one_of(DISABLED) {
        return Some(Divert::Disabled);
    }
    mistakes.push(format!(
        "{ANNOTATIONS}{DIVERT} on {whose} is {}, neither of {} nor of {}: ignored",
        quoted(value),
        ENABLED.join(", "),
        DISABLED.join(", ")
    ));
    None
}

/// Names the annotations that mean nothing there; the first few, for an object can have thousands.
fn unknown(wishes: &DivertAnnotations, known: &[&str], whose: &str, mistakes: &mut Vec<String>) {
    for key in wishes.keys().filter(|key| !known.contains(&&***key)).take(4) {
        mistakes.push(format!(
            "{} means nothing on {whose} (known: {}): ignored",
            quoted(&format!("{ANNOTATIONS}{key}")),
            known.join(", ")
        ));
    }
}

/// What became of the decisions on all pods of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enrolment {
    /// By the pod's UID.
    pub pods: BTreeMap<Arc<str>, Enrolled>,
}

/// What became of the decision on one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// The pod.
    pub pod: Arc<Pod>,
    /// The decision.
    pub decision: Decision,
    /// How far it is carried out.
    pub state: State,
}

/// How far the decision on a pod is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its connections go direct, as decided.
    Direct,
    /// Its connections are diverted: its cgroup is in the programs' table.
    Enrolled,
    /// It should be diverted, and has no cgroup (yet): it goes direct.
    NotFound,
    /// It should be diverted, and the programs' table is full: it goes direct.
    NoRoom,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Direct, Self::Enrolled, Self::NotFound, Self::NoRoom];

    /// Its name in metrics and in the admin.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Enrolled => "enrolled",
            Self::NotFound => "not_found",
            Self::NoRoom => "no_room",
        }
    }
}

impl Enrolment {
    /// The decisions on all pods; those to be diverted are yet to be found.
    pub fn decide(node_pods: &NodePods, terms: Terms<'_>) -> Self {
        let decided = node_pods.pods.iter().map(|(uid, pod)| {
            let namespace = node_pods.namespaces.get(&pod.namespace);
            let decision = decide(pod, namespace.map(|wishes| &**wishes), terms);
            let state = if decision.why.diverts() { State::NotFound } else { State::Direct };
            (uid.clone(), Enrolled { pod: pod.clone(), decision, state })
        });
        Self { pods: decided.collect() }
    }

    /// How many pods are in that state.
    pub fn count(&self, state: State) -> usize {
        self.pods.values().filter(|pod| pod.state == state).count()
    }

    /// How many pods, or their namespaces, have annotations that were ignored.
    pub fn mistaken(&self) -> usize {
        self.pods.values().filter(|pod| !pod.decision.mistakes.is_empty()).count()
    }
}

#[cfg(test)]
#[path = "enrol_tests.rs"]
mod tests;
