//! Enrolment: whether the connections of a pod of this node are diverted, and why.
//!
//! By default all pods are enrolled, except those in weir's own namespace and in the namespaces of
//! `transparent.excludeNamespaces`. The annotation `weir.dev/divert` on the pod, or else on its namespace, overrides
//! that: `enabled` or `disabled`, or a synonym ([`ENABLED`], [`DISABLED`]), in any case. Pods with a service mesh's sidecar are
//! enrolled only by their own annotation: the sidecar catches what weir would. Pods in the node's own network
//! are never enrolled: their connections cannot be told from those of the node, kubelet, the container runtime, and
//! weir. An invalid annotation is ignored and shown.
//!
//! Not here: the pods' cgroups, and the eBPF map.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::pods::{ANNOTATIONS, DivertAnnotations, NodePods, Pod, Sidecar};
use super::ports::{PortWishes, quoted};

/// `weir.dev/divert`: whether a pod's connections are diverted.
const DIVERT: &str = "divert";

/// Its values that enable it.
const ENABLED: [&str; 4] = ["enabled", "true", "yes", "on"];

/// Its values that disable it.
const DISABLED: [&str; 4] = ["disabled", "false", "no", "off"];

/// The settings for all pods.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Namespaces whose pods are not diverted, unless an annotation enables it.
    pub exclude: &'a [String],
    /// weir's own namespace, if known.
    pub own: Option<&'a str>,
}

/// Whether a pod's connections are diverted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether they are diverted, and why.
    pub why: Why,
    /// The destination ports that are exceptions.
    pub ports: PortWishes,
    /// Annotations that were ignored, and why.
    pub mistakes: Vec<String>,
}

/// Why a pod is diverted or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Diverted: the default.
    Default,
    /// Diverted: enabled by the pod's annotation.
    EnabledOnPod,
    /// Diverted: enabled by the annotation of this namespace, the pod's.
    EnabledOnNamespace(Arc<str>),
    /// Not diverted: disabled by the pod's annotation.
    DisabledOnPod,
    /// Not diverted: disabled by the annotation of this namespace, the pod's.
    DisabledOnNamespace(Arc<str>),
    /// Not diverted: the configuration excludes its namespace, this one.
    Excluded(Arc<str>),
    /// Not diverted: its namespace is weir's own.
    OwnNamespace,
    /// Not diverted: it has the sidecar of this mesh.
    Sidecar(Sidecar),
    /// Never diverted: it uses the node's own network.
    HostNetwork,
    /// Not diverted: it has finished.
    Finished,
}

impl Why {
    /// Whether the pod is diverted.
    pub fn diverts(&self) -> bool {
        match self {
            Self::Default | Self::EnabledOnPod | Self::EnabledOnNamespace(_) => true,
            Self::DisabledOnPod
            | Self::DisabledOnNamespace(_)
            | Self::Excluded(_)
            | Self::OwnNamespace
            | Self::Sidecar(_)
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
            Self::Sidecar(mesh) => write!(f, "{}, which catches its connections", mesh.says()),
            Self::HostNetwork => write!(
                f,
                "it has the node's own network (hostNetwork), where its connections cannot be told from the node's"
            ),
            Self::Finished => write!(f, "it has run to its end"),
        }
    }
}

/// Decides for one pod. `namespace` holds the annotations of its namespace.
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
    let why = match pod.sidecar {
        Some(mesh) if matches!(why, Why::Default | Why::EnabledOnNamespace(_)) => Why::Sidecar(mesh),
        _ => why,
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

/// Reports unknown annotations; only the first few, since an object can have thousands.
fn unknown(wishes: &DivertAnnotations, known: &[&str], whose: &str, mistakes: &mut Vec<String>) {
    for key in wishes.keys().filter(|key| !known.contains(&&***key)).take(4) {
        mistakes.push(format!(
            "{} means nothing on {whose} (known: {}): ignored",
            quoted(&format!("{ANNOTATIONS}{key}")),
            known.join(", ")
        ));
    }
}

/// The state of the decisions for all pods of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enrolment {
    /// By the pod's UID.
    pub pods: BTreeMap<Arc<str>, Enrolled>,
}

/// The state of the decision for one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// The pod.
    pub pod: Arc<Pod>,
    /// The decision.
    pub decision: Decision,
    /// Whether it is applied.
    pub state: State,
}

/// Whether the decision for a pod is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its connections go direct, as decided.
    Direct,
    /// Its connections are diverted: its cgroup is in the eBPF map.
    Enrolled,
    /// To be diverted, but it has no cgroup (yet): it goes direct.
    NotFound,
    /// To be diverted, but the eBPF map is full: it goes direct.
    NoRoom,
}

impl State {
    /// All states.
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
    /// Decides for all pods; the cgroups of those to be diverted are not looked up yet.
    pub fn decide(node_pods: &NodePods, terms: Terms<'_>) -> Self {
        let decided = node_pods.pods.iter().map(|(uid, pod)| {
            let namespace = node_pods.namespaces.get(&pod.namespace);
            let decision = decide(pod, namespace.map(|wishes| &**wishes), terms);
            let state = if decision.why.diverts() { State::NotFound } else { State::Direct };
            (uid.clone(), Enrolled { pod: pod.clone(), decision, state })
        });
        Self { pods: decided.collect() }
    }

    /// The number of pods in that state.
    pub fn count(&self, state: State) -> usize {
        self.pods.values().filter(|pod| pod.state == state).count()
    }

    /// The number of pods with ignored annotations, their own or their namespace's.
    pub fn mistaken(&self) -> usize {
        self.pods.values().filter(|pod| !pod.decision.mistakes.is_empty()).count()
    }
}

#[cfg(test)]
#[path = "enrol_tests.rs"]
mod tests;
