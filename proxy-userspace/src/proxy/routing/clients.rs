//! The namespace of a client: a short name in a pod's request means the pod's own namespace (`names.clientNamespace`).
//!
//! A pod is identified by the cgroup of the process that has connected, where the kernel tells that (`pod_clients`); otherwise by
//! the source address of its connection, with which only this pod can have completed a handshake; and by what discovery knows of this node's pods; no header is trusted. A pod that has just started may
//! connect before weir knows its address, so its request waits a little, as for the first list of services. Clients at
//! the node's own addresses (its processes, pods with `hostNetwork`), and clients that are not pods of this node, get
//! `names.namespace`, as without this setting. But while this node's pods are not known at all, or several of them have
//! the client's address, no client is treated in that way: that would send the requests of pods to another namespace's
//! services.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::time::timeout_at;

use super::Router;
use super::resolve::{End, Hold};
use super::snapshot::Snapshot;
use crate::domain::name::Host;
use crate::domain::pods::Clients as Pods;
use crate::proxy::fault::{Fault, Kind};
use crate::telemetry::Counter;

/// How long a client whose wait failed does not wait again.
const REMEMBERED: Duration = Duration::from_mins(1);

/// How many such clients are remembered. Beyond that, they are forgotten and wait again.
const MOST: usize = 1_024;

/// The client of one connection, and its pod's namespace.
#[derive(Debug)]
pub struct ClientPod {
    /// By what it is known.
    who: Who,
    /// Its namespace, once it was needed and known.
    namespace: OnceCell<Arc<str>>,
}

/// By what a client is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    /// Its address, in canonical form.
    Address(IpAddr),
    /// The UID in the name of its cgroup.
    Cgroup(Arc<str>),
    /// The cookie of its network namespace, which tells nothing of a pod.
    Netns(u64),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "the address {address}"),
            Self::Cgroup(uid) => write!(f, "a cgroup with the UID {uid}"),
            Self::Netns(cookie) => write!(f, "the network namespace {cookie}"),
        }
    }
}

impl ClientPod {
    /// The client at this address.
    pub fn at(address: IpAddr) -> Self {
        Self { who: Who::Address(address.to_canonical()), namespace: OnceCell::new() }
    }

    /// The client in the network namespace with this cookie, in a cgroup whose name has this UID. Its address says nothing: it
    /// may have chosen any.
    pub fn of_cgroup(uid: Option<&Arc<str>>, netns: u64) -> Self {
        let who = uid.map_or(Who::Netns(netns), |uid| Who::Cgroup(uid.clone()));
        Self { who, namespace: OnceCell::new() }
    }

    /// Its namespace, as far as `pods` tell.
    fn told<'p>(&self, pods: &'p Pods) -> Option<&'p Arc<str>> {
        match &self.who {
            Who::Address(address) => pods.namespace(*address),
            Who::Cgroup(uid) => pods.of_cgroup(uid).map(|(_, pod)| &pod.namespace),
            Who::Netns(_) => None,
        }
    }

    /// Whether it is certainly no pod of this node.
    fn is_stranger(&self, pods: &Pods) -> bool {
        match &self.who {
            Who::Address(address) => pods.is_stranger(*address),
            Who::Cgroup(_) | Who::Netns(_) => pods.known && self.told(pods).is_none(),
        }
    }
}

/// What is known of clients.
#[derive(Debug, Default)]
pub struct Clients {
    /// The pods of this node.
    pub pods: ArcSwap<Pods>,
    /// Short names that were bound in the default namespace because their client is not a pod of this node.
    pub strangers: Counter,
    /// Clients whose wait failed, and when. Locked only for unknown clients.
    waited_for: Mutex<HashMap<Who, Instant>>,
}

impl Clients {
    /// Whether a wait for the client failed recently.
    fn is_stranger(&self, who: &Who, now: Instant) -> bool {
        let waited_for = self.waited_for.lock();
        waited_for.get(who).is_some_and(|then| now.saturating_duration_since(*then) < REMEMBERED)
    }

    /// Records that the wait for the client failed.
    fn remember(&self, who: &Who, now: Instant) {
        let mut waited_for = self.waited_for.lock();
        if waited_for.len() >= MOST {
            waited_for.retain(|_, then| now.saturating_duration_since(*then) < REMEMBERED);
        }
        if waited_for.len() >= MOST {
            waited_for.clear();
        }
        waited_for.insert(who.clone(), now);
    }
}

impl Router {
    /// The canonical host that `client` means by `authority`. Waits for the client to be known where the host depends
    /// on it.
    ///
    /// # Errors
    ///
    /// [`Kind::BadHost`]; [`Kind::ClientUnknown`] where it depends on the client's pod, and the pod is not known.
    pub async fn host<'a>(
        &self,
        client: &ClientPod,
        snapshot: &Snapshot,
        authority: &'a str,
    ) -> Result<Host<'a>, Fault> {
        if is_relative(snapshot, authority) && self.namespace(client, snapshot).is_none() {
            // Boxed: a connection needs it at most once.
            Box::pin(self.await_namespace(client, snapshot)).await;
        }
        self.host_now(client, snapshot, authority)
    }

    /// As [`Self::host`], by what is known now.
    ///
    /// # Errors
    ///
    /// As [`Self::host`].
    pub fn host_now<'a>(
        &self,
        client: &ClientPod,
        snapshot: &Snapshot,
        authority: &'a str,
    ) -> Result<Host<'a>, Fault> {
        let rules = &snapshot.config.rules;
        let host = rules.canonical(authority)?;
        if !is_relative(snapshot, authority) {
            return Ok(host);
        }
        if let Some(namespace) = self.namespace(client, snapshot) {
            return Ok(rules.of_namespace(host, namespace));
        }
        let clients = &self.routing.clients;
        if client.is_stranger(&clients.pods.load()) {
            clients.strangers.inc();
            return Ok(host);
        }
        let why =
            "a short name means its client's namespace (names.clientNamespace), which weir does not know yet";
        Err(Fault::new(Kind::ClientUnknown, format!("{}: {why}", host.label())))
    }

    /// The note of an explanation about the namespace that `authority` means, where that depends on `client`.
    pub fn whose(&self, client: &ClientPod, snapshot: &Snapshot, authority: &str) -> Option<String> {
        is_relative(snapshot, authority).then(|| match self.namespace(client, snapshot) {
            Some(namespace) => said(namespace),
            None => {
                let (who, namespace) = (&client.who, &snapshot.config.rules.namespace);
                format!("{}: no pod of this node has {who}", said(namespace))
            }
        })
    }

    /// Stores the client's namespace, if it becomes known in time.
    async fn await_namespace(&self, client: &ClientPod, snapshot: &Snapshot) {
        let (clients, limits) = (&self.routing.clients, &snapshot.config.limits);
        let now = Instant::now();
        let most = limits.first_list.min(limits.response);
        let mut moved = self.routing.moved.subscribe();
        if clients.is_stranger(&client.who, now) || self.namespace(client, snapshot).is_some() {
            return;
        }
        let mut hold = Hold::begin(&self.routing.holds);
        loop {
            let known = clients.pods.load().known;
            // The first list arrives soon after the start, or possibly much later.
            let until = if known { now } else { self.routing.epoch } + most;
            if timeout_at(until.into(), moved.changed()).await.is_err() {
                if client.is_stranger(&clients.pods.load()) {
                    clients.remember(&client.who, Instant::now());
                }
                return hold.ends(End::Late);
            }
            if self.namespace(client, snapshot).is_some() {
                return hold.ends(End::Known);
            }
        }
    }

    /// The namespace of `client`, if it is known now.
    fn namespace<'s>(&self, client: &'s ClientPod, snapshot: &Snapshot) -> Option<&'s Arc<str>> {
        if let Some(namespace) = client.namespace.get() {
            return Some(namespace);
        }
        let own = &snapshot.config.node.own;
        let is_node = || match client.who {
            Who::Address(address) => {
                address.is_loopback() || own.iter().any(|own| own.to_canonical() == address)
            }
            Who::Cgroup(_) | Who::Netns(_) => false,
        };
        let of_pod = client.told(&self.routing.clients.pods.load()).cloned();
        let namespace = of_pod.or_else(|| is_node().then(|| Arc::from(&*snapshot.config.rules.namespace)))?;
        Some(client.namespace.get_or_init(|| namespace))
    }
}

/// The note of an explanation about a short name that means `namespace`.
pub(super) fn said(namespace: &str) -> String {
    format!(
        "a name without a namespace means that of its client's pod (names.clientNamespace): here {namespace}"
    )
}

/// Whether the meaning of `authority` depends on its client's namespace.
pub(super) fn is_relative(snapshot: &Snapshot, authority: &str) -> bool {
    snapshot.config.client_namespace && snapshot.config.rules.is_short(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_remembered_for_a_while_and_never_more_than_so_many() {
        let (clients, now) = (Clients::default(), Instant::now());
        let at = |number: usize| Who::Address((number as u128).to_be_bytes().into());
        clients.remember(&at(0), now);
        assert!(clients.is_stranger(&at(0), now + REMEMBERED - Duration::from_millis(1)));
        assert!(!clients.is_stranger(&at(0), now + REMEMBERED) && !clients.is_stranger(&at(1), now));
        (0..3 * MOST).for_each(|number| clients.remember(&at(number), now));
        assert!(clients.waited_for.lock().len() <= MOST && clients.is_stranger(&at(3 * MOST - 1), now));
        // Expired entries make room for the others.
        let later = now + REMEMBERED;
        (0..MOST).for_each(|number| clients.remember(&at(number), later));
        assert!((0..MOST).all(|number| clients.is_stranger(&at(number), later)));
    }
}
