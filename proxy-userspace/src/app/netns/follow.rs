//! What changes in the network namespaces in which weir listens.

use std::io;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::{Duration, Instant};

use super::Facts;
use super::looks::NoLook;
use super::reconcile::{MOST_ADDRESSES, Reconciler};
use crate::intercept::{self, Enrol, PodOf};

/// How long a round of [`Reconciler::follow`] takes at most, besides its last step: the folder is not looked at meanwhile.
pub(super) const ROUND: Duration = Duration::from_secs(1);

/// How long it is remembered that several pods connect from a namespace. A single process that was moved there (nsenter
/// from another pod) must not keep the pod from being diverted for good.
const SHARED: Duration = Duration::from_secs(60);

impl Reconciler {
    /// Follows what changes in the namespaces: their addresses, whether IPv6 works, and which pods there are.
    pub(super) async fn follow(&mut self) {
        let prefix = self.prepared.sockets.prefix6;
        let end = Instant::now() + ROUND;
        // Where the last round has ended: a slow one must not keep the later ones from their turn.
        let after = self.followed.map_or(Unbounded, Excluded);
        let later = self.joined.range((after, Unbounded));
        let first = self.joined.iter().take(self.joined.len() - later.clone().count());
        for id in later.chain(first).map(|it| *it.0).collect::<Vec<_>>() {
            if Instant::now() >= end {
                break;
            }
            self.followed = Some(id);
            let Some(joined) = self.joined.get_mut(&id) else { continue };
            let pod = joined.pod.clone();
            let now = match self.prepared.looks.run(id, move || pod.open(), move || facts(prefix)).await {
                Ok(now) => now,
                // What were diverted would lead nowhere. What is open stays open.
                Err(NoLook::Failed(cause)) if is_refused(&cause) => {
                    Facts { refused: Some(refusal(&cause).into()), ..joined.facts.clone() }
                }
                Err(_) => continue,
            };
            if now == joined.facts {
                continue;
            }
            if let (Some(why), None) = (&now.refused, &joined.facts.refused) {
                tracing::warn!(netns = &*joined.name, "{why}: its pod's connections go direct");
            }
            let Ok(interception) = &mut *self.control.programs.lock() else { return };
            match interception.tell_pod(joined.pod.cookie(), now.own(), now.diverted()) {
                Ok(()) => {
                    joined.pod.set_own(now.own());
                    joined.facts = now;
                }
                Err(why) => tracing::warn!(netns = &*joined.name, "{why}"),
            }
        }
        self.forget_ended_pods();
    }

    /// A pod's cgroup may be made anew while its network namespace stays: then it is another pod to the programs.
    ///
    /// Where several pods connect, it is learnt again from time to time.
    fn forget_ended_pods(&mut self) {
        let Ok(interception) = &mut *self.control.programs.lock() else { return };
        if self.unshared.elapsed() >= SHARED {
            self.unshared = Instant::now();
            interception.forget_shared();
        }
        if interception.enrols() != Enrol::Pods {
            return;
        }
        let Ok(living) = interception.pod_cgroups() else { return };
        let mut is_new = false;
        for pod in self.joined.values().map(|it| &it.pod) {
            let cgroup = match interception.pod_of(pod.cookie()) {
                PodOf::One(cgroup) => cgroup,
                // It is the pod that it was, until a process of another one connects.
                PodOf::Unknown => continue,
                PodOf::Several => {
                    pod.set_cgroup_uid(None);
                    continue;
                }
            };
            match living.iter().find(|(_, living)| **living == cgroup) {
                Some((uid, _)) => is_new |= pod.set_cgroup_uid(Some(uid)),
                None => interception.forget_pod_of(pod.cookie()),
            }
        }
        if is_new {
            self.control.recharge();
        }
    }
}

/// The facts of the calling thread's network namespace; makes the prefix local there.
pub(super) fn facts(prefix: std::net::Ipv6Addr) -> io::Result<Facts> {
    let v6 = intercept::add_route(prefix).is_ok();
    let is_up = intercept::is_loopback_up()?;
    Ok(Facts { addresses: intercept::addresses(MOST_ADDRESSES)?, is_up, v6, refused: None })
}

/// Whether weir has no right to what it does in a namespace. That may change while it runs, by a security module say.
pub(super) fn is_refused(cause: &io::Error) -> bool {
    cause.kind() == io::ErrorKind::PermissionDenied
}

pub(super) fn refusal(cause: &io::Error) -> String {
    format!("weir may not enter it: {cause}")
}
