//! Enrolment: combines the pods that discovery reports and the cgroups that kubelet creates into the programs' table.
//!
//! A pod is usually reported before kubelet has created its cgroup. So the cgroups are listed at once when pods change,
//! often while one is missing, and otherwise periodically, because a cgroup can be recreated under the same name. When
//! discovery is lost, the last reported pods stay enrolled.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep;

use crate::config::Settings;
use crate::control;
use crate::domain::enrol::{Enrolment, State, Terms};
use crate::domain::pods::NodePods;
use crate::intercept::{self, Pods};

/// How soon cgroups are listed again while one is missing: a container starts about 100 ms after its pod's cgroup is
/// created, because the pod's network is set up in between.
const SOON: Duration = Duration::from_millis(25);

/// How long frequent listing continues after the last change of pods. If a cgroup takes longer, kubelet has a problem.
const AWAITED: Duration = Duration::from_mins(1);

/// Interval between listings at other times.
const LATER: Duration = Duration::from_secs(1);

/// The namespace weir itself runs in, from the downward API.
const OWN_NAMESPACE: &str = "POD_NAMESPACE";

/// Keeps the programs' table of pods up to date with `node_pods`, as long as weir runs.
pub(super) async fn enrol(
    control: Arc<control::State>,
    mut node_pods: watch::Receiver<Arc<NodePods>>,
) -> anyhow::Result<()> {
    let own = std::env::var(OWN_NAMESPACE).ok().filter(|name| !name.is_empty());
    let mut said = None;
    let mut since = Instant::now();
    loop {
        let told = node_pods.borrow_and_update().clone();
        let settings = control.settings();
        let mut enrolment = decide(&told, &settings, own.as_deref());
        let looked = look(&control, &told, &mut enrolment);
        let awaited = enrolment.count(State::NotFound) > 0 && since.elapsed() < AWAITED;
        match looked {
            Ok(()) => {
                said = None;
                publish(&control, enrolment);
            }
            // Enrolled pods stay enrolled, and the next attempt is soon.
            Err(why) => {
                let why = format!("{why:#}");
                if said.as_ref() != Some(&why) {
                    tracing::error!("pods cannot be enrolled: {why}");
                }
                said = Some(why);
            }
        }
        tokio::select! {
            changed = node_pods.changed() => {
                changed?;
                since = Instant::now();
            }
            () = sleep(if awaited { SOON } else { LATER }) => {}
        }
    }
}

fn decide(told: &NodePods, settings: &Settings, own: Option<&str>) -> Enrolment {
    let exclude = settings.transparent.as_ref().map_or(&[][..], |it| &it.exclude_namespaces);
    Enrolment::decide(told, Terms { exclude, own })
}

/// Finds the pods' cgroups and updates the programs; the result is recorded in `enrolment`.
fn look(control: &control::State, told: &NodePods, enrolment: &mut Enrolment) -> anyhow::Result<()> {
    let Ok(interception) = &mut *control.programs.lock() else { return Ok(()) };
    let cgroups = interception.pod_cgroups()?;
    let mut wanted = BTreeMap::new();
    let mut places = Vec::new();
    for pod in enrolment.pods.values_mut().filter(|pod| pod.decision.why.diverts()) {
        let Some(&cgroup) = cgroups.get(&*pod.pod.cgroup_uid) else {
            continue;
        };
        wanted.insert(cgroup, intercept::diverted(&pod.decision.ports));
        places.push((cgroup, pod));
    }
    let left_out = interception.enrol_pods(&wanted)?;
    interception.original_dsts().owners().tell(owners(told, &cgroups));
    for (cgroup, pod) in places {
        pod.state = if left_out.contains(&cgroup) { State::NoRoom } else { State::Enrolled };
    }
    Ok(())
}

/// The owner of each address. Includes pods that are not diverted, because no other pod has their addresses. Excludes
/// pods in the node's own network and ended pods, whose addresses may already belong to other pods.
fn owners(told: &NodePods, cgroups: &BTreeMap<Box<str>, u64>) -> HashMap<IpAddr, Pods> {
    let mut owners: HashMap<IpAddr, Pods> = HashMap::new();
    for pod in told.pods.values().filter(|pod| !pod.host_network && !pod.finished) {
        let Some(&cgroup) = cgroups.get(&*pod.cgroup_uid) else { continue };
        for address in &pod.addresses {
            owners.entry(address.to_canonical()).or_default().push(cgroup);
        }
    }
    owners
}

/// Publishes the current state for the admin and logs what has changed.
fn publish(control: &control::State, enrolment: Enrolment) {
    let before = control.enrolment.load_full().unwrap_or_default();
    if *before == enrolment && control.enrolment.load().is_some() {
        return;
    }
    for (uid, now) in &enrolment.pods {
        let then = before.pods.get(uid);
        let name = || format!("{}/{}", now.pod.namespace, now.pod.name);
        if then.is_none_or(|then| then.decision.mistakes != now.decision.mistakes) {
            for mistake in &now.decision.mistakes {
                tracing::warn!(pod = name(), "{mistake}");
            }
        }
        if then.is_none_or(|then| then.state != now.state || then.decision.why != now.decision.why) {
            tracing::debug!(pod = name(), state = now.state.name(), why = %now.decision.why, "pod decided");
        }
    }
    let counts = State::ALL.map(|state| enrolment.count(state));
    if counts != State::ALL.map(|state| before.count(state)) {
        let [direct, enrolled, not_found, no_room] = counts;
        tracing::info!(enrolled, direct, not_found, no_room, "enrolled pods changed");
        if no_room > before.count(State::NoRoom) {
            tracing::error!(no_room, "the programs' table of pods is full: the rest goes direct");
        }
    }
    control.enrolment.store(Some(Arc::new(enrolment)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::pods::Pod;

    #[test]
    fn an_address_is_its_pods_for_as_long_as_that_runs() {
        let pod = |name: &str, addresses: &[&str]| Pod {
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
        let pods = [
            pod("both", &["10.1.0.2", "fd01::2"]),
            pod("starts", &[]),
            pod("same", &["10.1.0.2"]),
            pod("no-cgroup", &["10.1.0.3"]),
            Pod { finished: true, ..pod("ended", &["10.1.0.4"]) },
            Pod { host_network: true, ..pod("node", &["10.0.0.7"]) },
        ];
        let pods = pods.map(|pod| (pod.name.clone(), Arc::new(pod))).into_iter().collect();
        let cgroups = [("both", 1), ("starts", 2), ("same", 3), ("ended", 4), ("node", 5)];
        let cgroups = cgroups.map(|(uid, id)| (uid.into(), id)).into_iter().collect();
        let found = owners(&NodePods { pods, ..NodePods::default() }, &cgroups);
        let of = |address: &str| found.get(&address.parse().unwrap()).map(|pods| pods.to_vec());
        assert_eq!(of("10.1.0.2"), Some(vec![1, 3]));
        assert_eq!(of("fd01::2"), Some(vec![1]));
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
