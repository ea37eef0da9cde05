//! Connections of pods in whose network namespaces weir has sockets: what they had dialled, and whose they are.
//!
//! A client that connects to weir itself claims by its address to be in some network namespace. An address proves nothing: a
//! pod may add another one's. So the kernel is asked (sock_diag(7), in the namespace) for the socket at the other end of the
//! very connection, and for the cgroup in which that was made. The client is the pod of the namespace only if the cgroup is
//! that pod's. This is done once for each connection, in its own task, and nothing of it is kept for another one.
//!
//! What is not known may only not be known yet: a pod may have started just now. So a client that is not found is looked for
//! once more, after the control plane has looked at the namespaces, their addresses and the pods' cgroups again.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::fault::{Fault, Kind};
use crate::intercept::{Callers, Numbers, PodCgroup, PodIds};
use crate::telemetry::Counter;
use crate::transport::{PodNetns, SockDiag};

/// How long a client may be looked for.
const LIMIT: Duration = Duration::from_secs(3);

/// What weir knows of this node's pods.
#[derive(Debug)]
pub struct PodClients {
    /// What diverted connections had dialled.
    pub numbers: Numbers,
    /// Whom the pods' programs see behind connections that weir makes to them.
    pub callers: Option<Callers>,
    ids: PodIds,
    /// The network namespaces in which weir listens, by the addresses that they have. Any pod may have any address.
    at: ArcSwap<HashMap<IpAddr, Vec<Arc<PodNetns>>>>,
    /// The pods of cgroups.
    cgroups: ArcSwap<HashMap<u64, PodCgroup>>,
    /// Why the kernel does not tell whose a connection is, if it does not.
    unable: Option<String>,
    /// When the last whole look began.
    looked: watch::Sender<Option<Instant>>,
    wanted: Notify,
    /// Clients of explicit listeners, by whose they are: [`Whose::LABELS`].
    pub clients: [Counter; Whose::LABELS.len()],
}

/// Whose an explicit connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// A process's of the node, or of a pod in the node's network.
    Node = 0,
    /// A pod's of this node.
    Pod = 1,
    /// None of them: a pod's of another node, or of one in whose namespace weir does not listen.
    Other = 2,
    /// It could not be told.
    Unknown = 3,
}

impl Whose {
    /// The labels in metrics, in order.
    pub const LABELS: [&'static str; 4] = ["node", "pod", "other", "unknown"];
}

/// The pod that a connection is of.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its network namespace.
    pub netns: Arc<PodNetns>,
    /// The UID in the name of the cgroup of the very process that has connected, if that has one.
    pub uid: Option<Arc<str>>,
}

/// Why a client is no pod.
#[derive(Debug)]
enum No {
    /// weir listens in no network namespace with its address.
    Address,
    /// None with its address has such a connection.
    Connection,
    /// Its process is in no pod's cgroup, or in another one's.
    Cgroup,
    /// Several pods have its address and such a connection.
    Several,
    /// Processes of several pods connect from its network namespace.
    Shared,
    /// The kernel's error.
    Failed(io::Error),
}

impl PodClients {
    /// Nothing is known yet.
    pub fn new(numbers: Numbers, ids: PodIds, callers: Callers) -> Self {
        let unable = SockDiag::probe()
            .err()
            .map(|cause| format!("the kernel does not tell whose a connection is: {cause}"));
        Self { callers: Some(callers), ..Self::with(numbers, ids, unable) }
    }

    fn with(numbers: Numbers, ids: PodIds, unable: Option<String>) -> Self {
        let looked = watch::Sender::new(None);
        Self {
            numbers,
            callers: None,
            ids,
            at: ArcSwap::default(),
            cgroups: ArcSwap::default(),
            unable,
            looked,
            wanted: Notify::new(),
            clients: Default::default(),
        }
    }

    /// Why it cannot be told whose any connection is; `None` where it can.
    pub fn unable(&self) -> Option<&str> {
        self.unable.as_deref()
    }

    /// Ends everything of the pod in this network namespace. What a connection that is looked at now notes of it is forgotten.
    pub fn end(&self, netns: &PodNetns) {
        netns.end();
        self.ids.forget(netns.cookie());
    }

    /// The handle by which it is told which pod a cgroup is of.
    pub fn ids(&self) -> &PodIds {
        &self.ids
    }

    /// From now on weir listens in these network namespaces, which have these addresses.
    pub fn tell(&self, pods: impl Iterator<Item = (IpAddr, Arc<PodNetns>)>) {
        let mut at = HashMap::<IpAddr, Vec<_>>::new();
        for (address, pod) in pods {
            at.entry(address).or_default().push(pod);
        }
        self.at.store(Arc::new(at));
    }

    /// These are the pods of cgroups; a whole look ends with it, which began then.
    pub fn tell_cgroups(&self, cgroups: HashMap<u64, PodCgroup>, begun: Instant) {
        self.cgroups.store(Arc::new(cgroups));
        self.looked.send_replace(Some(begun));
    }

    /// The network namespaces in which weir listens.
    pub fn all(&self) -> Vec<Arc<PodNetns>> {
        let at = self.at.load();
        let mut all: Vec<_> = at.values().flatten().cloned().collect();
        all.sort_unstable_by_key(|it| it.cookie());
        all.dedup_by_key(|it| it.cookie());
        all
    }

    /// Waits until a client is not found.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// The pod whose connection from `client` was accepted at `own` on the node. `owner` is the UID, as in its cgroup's name,
    /// of the pod that has the address as far as the cluster knows: where the kernel does not decide alone. With `is_patient`, one
    /// whose address no known network namespace has is looked for once more, as it may have come just now.
    ///
    /// # Errors
    ///
    /// [`Kind::ForeignClient`] if it is no pod's in whose namespace weir listens; [`Kind::ClientUnknown`] if that cannot be told.
    pub async fn pod(
        &self,
        client: SocketAddr,
        own: SocketAddr,
        owner: Option<&str>,
        is_patient: bool,
    ) -> Result<Found, Fault> {
        let address = client.ip().to_canonical();
        let found = self.insist(is_patient, async || {
            let at = self.at.load_full();
            self.among(at.get(&address).map_or(&[], Vec::as_slice), client, own, owner).await
        });
        self.told(client, found.await)
    }

    /// Whether the connection from `client` that was accepted at `own` in the network namespace of `pod` is that pod's: others
    /// may enter the namespace, as `kubectl port-forward` does.
    ///
    /// # Errors
    ///
    /// As [`Self::pod`].
    pub async fn is_of(
        &self,
        pod: &Arc<PodNetns>,
        client: SocketAddr,
        own: SocketAddr,
    ) -> Result<Found, Fault> {
        let found = self.insist(true, async || self.check(pod, client, own).await);
        self.told(client, found.await)
    }

    /// The result of `look`; where that is negative, its result after the next look of the control plane.
    async fn insist<T>(
        &self,
        is_patient: bool,
        look: impl AsyncFn() -> Result<T, No>,
    ) -> Option<Result<T, No>> {
        if let Some(why) = &self.unable {
            return Some(Err(No::Failed(io::Error::new(io::ErrorKind::Unsupported, why.as_str()))));
        }
        let asked = Instant::now();
        let twice = async {
            let first = look().await;
            let mut looked = self.looked.subscribe();
            let is_final = matches!(first, Err(No::Address)) && !is_patient && looked.borrow().is_some();
            if first.is_ok() || is_final {
                return first;
            }
            self.wanted.notify_one();
            let _ = looked.wait_for(|begun| begun.is_some_and(|begun| begun >= asked)).await;
            look().await
        };
        timeout(LIMIT, twice).await.ok()
    }

    /// The one of `pods` whose the connection is.
    async fn among(
        &self,
        pods: &[Arc<PodNetns>],
        client: SocketAddr,
        own: SocketAddr,
        owner: Option<&str>,
    ) -> Result<Found, No> {
        let (mut found, mut why) = (Vec::new(), No::Address);
        for pod in pods {
            match self.check(pod, client, own).await {
                Ok(it) => found.push(it),
                Err(no) => why = no,
            }
        }
        // With the addresses of another pod and of the node, a pod can have a connection between the same two ends.
        if found.len() > 1 {
            found.retain(|it| owner.is_some() && it.uid.as_deref() == owner);
            why = No::Several;
        }
        match (found.pop(), found.is_empty()) {
            (Some(it), true) => Ok(it),
            _ => Err(why),
        }
    }

    /// The pod in this network namespace, if the connection is its.
    async fn check(&self, pod: &Arc<PodNetns>, client: SocketAddr, own: SocketAddr) -> Result<Found, No> {
        let cgroup = pod.cgroup_of(client, own).await.map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => No::Connection,
            _ => No::Failed(cause),
        })?;
        let its = cgroup.and_then(|cgroup| self.cgroups.load().get(&cgroup).cloned()).ok_or(No::Cgroup)?;
        let is_alone = self.ids.is_alone(pod.cookie(), its.pod);
        // Otherwise whoever ends it forgets what was noted, see `end`.
        if pod.has_ended() {
            self.ids.forget(pod.cookie());
            return Err(No::Connection);
        }
        is_alone.then(|| Found { netns: pod.clone(), uid: its.uid }).ok_or(No::Shared)
    }

    fn told<T>(&self, client: SocketAddr, found: Option<Result<T, No>>) -> Result<T, Fault> {
        let client = client.ip().to_canonical();
        let other = |why: &str| Err((Whose::Other, format!("{client} {why}")));
        let told = match found {
            Some(Ok(found)) => Ok(found),
            Some(Err(No::Address)) => {
                other("is no address of this node, or of a pod of it in whose network namespace weir listens")
            }
            Some(Err(No::Connection)) => {
                other("has no such connection in the network namespace that has the address")
            }
            Some(Err(No::Cgroup)) => other("is a process that is not in the pod's cgroup"),
            Some(Err(No::Shared)) => {
                other("is in a network namespace from which processes of several pods connect")
            }
            Some(Err(No::Several)) => other("is an address of several pods"),
            Some(Err(No::Failed(cause))) => {
                Err((Whose::Unknown, format!("{client}: the kernel does not say whose it is: {cause}")))
            }
            None => Err((Whose::Unknown, format!("{client}: it could not be told whose it is in {LIMIT:?}"))),
        };
        let whose = told.as_ref().err().map_or(Whose::Pod, |no| no.0);
        self.clients[whose as usize].inc();
        told.map_err(|(whose, why)| {
            let kind = if whose == Whose::Other { Kind::ForeignClient } else { Kind::ClientUnknown };
            Fault::new(kind, why)
        })
    }
}

#[cfg(test)]
mod tests;
