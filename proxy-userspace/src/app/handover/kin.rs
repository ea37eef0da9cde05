//! Who is a weir of this node: the only ones to give the listeners to, and to take them from.
//!
//! By the kernel's facts alone ([`crate::transport::attest`]): the user, which is weir's own, and the cgroup.
//!
//! - The same cgroup: a process of the same service or container.
//! - On Kubernetes each weir is a container of another pod. The cgroup is then that of a pod which, as the API server says, is
//!   on this node and in weir's own namespace. Whoever may make pods there can be weir anyway.
//!
//! Everything else is a stranger: it gets no message and no descriptor. User 0 alone says nothing, since containers of the
//! node's network often have it, and the parent cgroup neither, since all pods of one class share it.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use crate::config::Settings;
use crate::domain::pods::NodePods;
use crate::intercept;
use crate::transport::attest::{self, SocketOwner};

/// The namespace weir itself runs in, from the downward API.
const OWN_NAMESPACE: &str = "POD_NAMESPACE";

/// The id of the root cgroup: of everything on a node that does not use version 2.
const ROOT: u64 = 1;

/// What tells a weir of this node.
pub(super) struct Kin {
    own: SocketOwner,
    /// With discovery by an API server: the pods of this node, weir's namespace, and the pods' parent cgroup.
    pods: Option<(watch::Receiver<Arc<NodePods>>, String, PathBuf)>,
}

/// Why somebody is not taken for a weir of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It is none.
    Stranger(String),
    /// It may be one: the API server has not told yet.
    Untold(String),
}

impl Kin {
    /// What weir knows of itself and of the node's pods.
    pub(super) fn new(
        settings: &Settings,
        node_pods: Option<watch::Receiver<Arc<NodePods>>>,
    ) -> Result<Self, String> {
        let own =
            attest::own().map_err(|cause| format!("the kernel does not say weir's own cgroup: {cause}"))?;
        if own.cgroup == ROOT {
            return Err(
                "weir is in the root cgroup, by which it cannot be told from other processes".to_owned()
            );
        }
        let namespace = std::env::var(OWN_NAMESPACE).ok().filter(|name| !name.is_empty());
        let cgroup = || {
            let configured = settings.transparent.as_ref().and_then(|it| it.cgroup.clone());
            configured.map_or_else(intercept::find_cgroup, Ok).ok()
        };
        let pods = node_pods.zip(namespace).and_then(|(pods, namespace)| Some((pods, namespace, cgroup()?)));
        Ok(Self { own, pods })
    }

    /// Whether the process that has the name with `number` is a weir of this node; in another pod, the pod's UID.
    pub(super) fn check(&self, number: u32) -> Result<Option<Box<str>>, Doubt> {
        let owners =
            attest::attesters(number).map_err(|cause| Doubt::Untold(format!("sock_diag: {cause}")))?;
        let mut doubt = Doubt::Stranger("no process says whose it is".to_owned());
        for owner in owners {
            match self.judge(owner) {
                Ok(pod) => return Ok(pod),
                Err(why) => doubt = why,
            }
        }
        Err(doubt)
    }

    fn judge(&self, owner: SocketOwner) -> Result<Option<Box<str>>, Doubt> {
        let SocketOwner { cgroup, user } = owner;
        if user != self.own.user {
            return Err(Doubt::Stranger(format!("it is of user {user}")));
        }
        if cgroup == self.own.cgroup {
            return Ok(None);
        }
        let stranger = || Doubt::Stranger(format!("its cgroup, {cgroup}, is no weir's"));
        let Some((pods, namespace, parent)) = &self.pods else { return Err(stranger()) };
        let uid = intercept::pod_with(parent, cgroup)
            .map_err(|cause| Doubt::Untold(format!("the pods' cgroups cannot be listed: {cause}")))?
            .ok_or_else(stranger)?;
        judge_pod(&pods.borrow(), &uid, namespace).map(|()| Some(uid))
    }

    /// The number of pods of this node that are known changes: waits for that.
    pub(super) fn node_pods(&self) -> Option<watch::Receiver<Arc<NodePods>>> {
        self.pods.as_ref().map(|it| it.0.clone())
    }
}

/// Whether the pod with this UID is one of `namespace`.
fn judge_pod(pods: &NodePods, uid: &str, namespace: &str) -> Result<(), Doubt> {
    match pods.pods.values().find(|it| &*it.cgroup_uid == uid) {
        Some(pod) if &*pod.namespace == namespace => Ok(()),
        Some(pod) => Err(Doubt::Stranger(format!("it is the pod {}/{}", pod.namespace, pod.name))),
        None => Err(Doubt::Untold(format!("the API server has not told of the pod {uid}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::pods::{DivertAnnotations, Pod};

    #[test]
    fn a_pod_is_a_weir_by_its_namespace_as_the_api_server_says_and_by_nothing_else() {
        let pod = |namespace: &str, name: &str, uid: &str| {
            let pod = Pod {
                namespace: namespace.into(),
                name: name.into(),
                host_network: true,
                finished: false,
                cgroup_uid: uid.into(),
                addresses: Vec::new(),
                wishes: DivertAnnotations::default(),
            };
            (Arc::from(uid), Arc::new(pod))
        };
        let pods = [pod("weir", "weir-a", "1"), pod("shop", "weir-a", "2")];
        let pods = NodePods { pods: pods.into(), known: true, ..NodePods::default() };
        assert_eq!(judge_pod(&pods, "1", "weir"), Ok(()));
        assert_eq!(
            judge_pod(&pods, "2", "weir"),
            Err(Doubt::Stranger("it is the pod shop/weir-a".to_owned()))
        );
        assert!(matches!(judge_pod(&pods, "3", "weir"), Err(Doubt::Untold(_))));
    }

    #[test]
    fn another_user_or_cgroup_is_a_stranger() {
        let own = SocketOwner { cgroup: 7, user: 0 };
        let kin = Kin { own, pods: None };
        assert_eq!(kin.judge(own), Ok(None));
        for other in [SocketOwner { user: 1, ..own }, SocketOwner { cgroup: 8, ..own }] {
            assert!(matches!(kin.judge(other), Err(Doubt::Stranger(_))), "{other:?}");
        }
    }
}
