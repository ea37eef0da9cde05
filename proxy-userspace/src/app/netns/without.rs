//! Enrolled pods whose connections weir cannot take, since it does not listen in their network namespaces; and why.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::folder::MOST_FILES;
use super::reconcile::{Left, Reconciler, name_of};
use crate::control::{NetnsState, WithoutListener};
use crate::domain::enrol::{Enrolment, State};
use crate::intercept::PodOf;

/// A pod that starts has no listener for a moment. Only after this time is it said in the log and in `/ready`.
const STARTS: Duration = Duration::from_secs(10);

/// What the namespaces say: which pods are served, and why others are not.
#[derive(Debug, Default)]
struct Said {
    /// The addresses, and the UIDs in the names of cgroups, of pods that are served.
    addresses: HashSet<IpAddr>,
    uids: HashSet<Box<str>>,
    /// The addresses of those that are not.
    others: HashMap<IpAddr, (NetnsState, Arc<str>)>,
}

impl Reconciler {
    /// Publishes which enrolled pods are without a listener, and since when.
    pub(super) fn publish_without(&mut self) {
        let enrolment = self.control.enrolment.load_full().unwrap_or_default();
        let nowhere = self.nowhere();
        let before = self.control.netns.without.load_full();
        let now = without(&enrolment, &self.said(), &before, &nowhere);
        for (uid, it) in &now {
            let is_late = it.since.elapsed() >= STARTS;
            if is_late && self.told_late.insert(uid.clone()) {
                let state = it.state.name();
                tracing::warn!(
                    pod = &*it.pod,
                    state,
                    why = &*it.why,
                    "an enrolled pod is without weir's listener"
                );
            }
        }
        self.told_late.retain(|uid| now.contains_key(uid));
        let late = now.values().filter(|it| it.since.elapsed() >= STARTS).count();
        self.control.ready.note("netns", self.note(late));
        if *before != now {
            self.control.netns.without.store(Arc::new(now));
        }
    }

    /// Why a pod has no listener of which no namespace says that it is its own.
    fn nowhere(&self) -> (NetnsState, Arc<str>) {
        let folder = self.prepared.folder.display();
        // Its pod is not known.
        let is_dark = |it: &&Left| {
            let states = [NetnsState::Refused, NetnsState::Busy, NetnsState::Failed];
            it.addresses.is_empty() && states.contains(&it.state)
        };
        let dark = self.left.values().find(is_dark).map(|it| (it.state, it.name.clone(), it.why.clone()));
        let unknown = || self.unknown.first_key_value();
        let dark =
            dark.or_else(|| unknown().map(|(path, why)| (NetnsState::Failed, name_of(path), why.clone())));
        match dark {
            Some((state, name, why)) => {
                (state, format!("perhaps {name} in {folder} is its network namespace: {why}").into())
            }
            None => (NetnsState::NoNamespace, format!("no file in {folder} is its network namespace").into()),
        }
    }

    /// What `/ready` says in its detail.
    fn note(&self, late: usize) -> Option<String> {
        let folder = self.prepared.folder.display();
        let is_empty = self.joined.is_empty() && self.left.is_empty();
        let notes = [
            (self.is_blind, format!("{folder} cannot be listed, so weir does not listen in pods that come")),
            (
                is_empty && !self.is_blind,
                format!("no network namespace is in {folder}, so no pod is diverted"),
            ),
            (
                late > 0,
                format!(
                    "weir does not listen in {late} enrolled pods, so these are not diverted: see `weir status`"
                ),
            ),
            (
                self.has_more,
                format!("{folder} has more than {MOST_FILES} files: those beyond are not looked at"),
            ),
        ];
        let all: Vec<_> = notes.into_iter().filter(|(is_so, _)| *is_so).map(|(_, note)| note).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    fn said(&self) -> Said {
        let mut said = Said::default();
        let programs = self.control.programs.lock();
        for it in self.joined.values() {
            let is_shared = programs.as_ref().is_ok_and(|all| all.pod_of(it.pod.cookie()) == PodOf::Several);
            let shared = "processes of several pods connect from its network namespace";
            let not_served = match is_shared {
                true => Some((NetnsState::Shared, shared.into())),
                false => it.facts.direct(),
            };
            match not_served {
                Some(why) => {
                    said.others.extend(it.facts.addresses.iter().map(|at| (*at, why.clone())));
                }
                None => {
                    said.addresses.extend(&it.facts.addresses);
                    said.uids.extend(it.pod.cgroup_uid().map(|uid| (*uid).clone()));
                }
            }
        }
        for it in self.left.values() {
            said.others.extend(it.addresses.iter().map(|at| (*at, (it.state, it.why.clone()))));
        }
        said
    }
}

fn without(
    enrolment: &Enrolment,
    said: &Said,
    before: &BTreeMap<Arc<str>, WithoutListener>,
    nowhere: &(NetnsState, Arc<str>),
) -> BTreeMap<Arc<str>, WithoutListener> {
    let mut found = BTreeMap::new();
    let enrolled = enrolment.pods.iter().filter(|(_, it)| it.state == State::Enrolled);
    for (uid, it) in enrolled {
        let mut addresses = it.pod.addresses.iter().map(IpAddr::to_canonical);
        let other_kernel = it.pod.other_kernel().map(other_kernel);
        // The namespace of a virtual machine has the pod's addresses, but only a connection tells that its kernel is this one.
        let is_served = said.uids.contains(&*it.pod.cgroup_uid)
            || other_kernel.is_none() && addresses.clone().any(|at| said.addresses.contains(&at));
        // One without an address has no network yet.
        if is_served || it.pod.addresses.is_empty() {
            continue;
        }
        let why = other_kernel.or_else(|| addresses.find_map(|at| said.others.get(&at).cloned()));
        let (state, why) = why.unwrap_or_else(|| nowhere.clone());
        let since = before.get(uid).map_or_else(Instant::now, |it| it.since);
        let pod = format!("{}/{}", it.pod.namespace, it.pod.name).into();
        found.insert(uid.clone(), WithoutListener { pod, since, state, why });
    }
    found
}

fn other_kernel(class: &Arc<str>) -> (NetnsState, Arc<str>) {
    let why = format!(
        "by its runtime class {class} it has a kernel of its own, and this one does not see its connections"
    );
    (NetnsState::OtherKernel, why.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::enrol::{Decision, Enrolled, Why};
    use crate::domain::pods::Pod;

    fn pod(name: &str, state: State, addresses: &[&str]) -> (Arc<str>, Enrolled) {
        let pod = Pod {
            namespace: "shop".into(),
            name: name.into(),
            host_network: false,
            finished: false,
            cgroup_uid: name.into(),
            addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
            wishes: Default::default(),
            sidecar: None,
            runtime_class: None,
        };
        let decision = Decision { why: Why::Default, ports: Default::default(), mistakes: Vec::new() };
        (name.into(), Enrolled { pod: Arc::new(pod), decision, state })
    }

    #[test]
    fn a_pod_on_a_kernel_of_its_own_is_not_taken_for_served_until_it_connects() {
        for (class, is_one) in [
            (None, false),
            (Some("nvidia"), false),
            (Some("gvisor"), true),
            (Some("kata-qemu"), true),
            (Some("kata-mshv-vm-isolation"), true),
            (Some("runsc"), true),
        ] {
            let (uid, mut it) = pod("one", State::Enrolled, &["10.1.0.1"]);
            let told = Pod { runtime_class: class.map(Into::into), ..(*it.pod).clone() };
            it.pod = Arc::new(told);
            let enrolment = Enrolment { pods: [(uid, it)].into() };
            let nowhere = (NetnsState::NoNamespace, Arc::from("no file"));
            let state = |said: &Said| {
                let found = without(&enrolment, said, &BTreeMap::new(), &nowhere);
                found.into_values().next().map(|it| it.state)
            };
            let joined = Said { addresses: ["10.1.0.1".parse().unwrap()].into(), ..Said::default() };
            assert_eq!(state(&joined), is_one.then_some(NetnsState::OtherKernel), "{class:?}");
            let alone = if is_one { NetnsState::OtherKernel } else { NetnsState::NoNamespace };
            assert_eq!(state(&Said::default()), Some(alone), "{class:?}");
            let connects = Said { uids: ["one".into()].into(), ..joined };
            assert_eq!(state(&connects), None, "{class:?}");
        }
    }

    #[test]
    fn an_enrolled_pod_without_a_listener_has_a_reason_and_a_time() {
        let pods = [
            pod("served", State::Enrolled, &["10.1.0.1"]),
            pod("by-its-cgroup", State::Enrolled, &["10.1.0.2"]),
            pod("taken", State::Enrolled, &["fd00::3", "::ffff:10.1.0.3"]),
            pod("nowhere", State::Enrolled, &["10.1.0.4"]),
            pod("starts", State::Enrolled, &[]),
            pod("direct", State::Direct, &["10.1.0.5"]),
            pod("without-cgroup", State::NotFound, &["10.1.0.6"]),
        ];
        let enrolment = Enrolment { pods: pods.into_iter().collect() };
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let taken = (NetnsState::PortTaken, Arc::from("port 4136 is taken there"));
        let said = Said {
            addresses: [at("10.1.0.1")].into(),
            uids: ["by-its-cgroup".into()].into(),
            others: [(at("10.1.0.3"), taken)].into(),
        };
        let nowhere = (NetnsState::NoNamespace, Arc::from("no file"));
        let first = without(&enrolment, &said, &BTreeMap::new(), &nowhere);
        let states: Vec<_> = first.iter().map(|(uid, it)| (&**uid, it.state, &*it.why)).collect();
        assert_eq!(
            states,
            [
                ("nowhere", NetnsState::NoNamespace, "no file"),
                ("taken", NetnsState::PortTaken, "port 4136 is taken there"),
            ]
        );
        // For how long it has been so is kept.
        let later = without(&enrolment, &said, &first, &nowhere);
        assert_eq!(later, first);
    }
}
