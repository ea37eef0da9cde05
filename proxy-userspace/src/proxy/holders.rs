//! Whose a connection is: the pod, or else the address, that what it uses is charged to (`domain/shares`).
//!
//! A pod is known by its UID: in its own network namespace by the cgroup of the processes that connect there, as the
//! kernel says, otherwise by its address. Clients that are no pod of this node, and pods that weir does not know yet, are
//! in one group together. There each is told by its network namespace or its address; of IPv6, by the /64, since one
//! machine may have all addresses of one.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::domain::health::Caller;
use crate::domain::pods::{Clients, Pod};
use crate::transport::PodNetns;

/// A namespace; `None` for those of no known pod.
pub type Group = Option<Arc<str>>;

/// Distinguishes the holders of one process; none is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HolderId(u64);

impl HolderId {
    /// It as a number.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// What a holder is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HolderKey {
    /// A pod of this node, by its UID.
    Pod(Arc<str>),
    /// A network namespace, by its cookie: that of a pod of which nothing more is known.
    Netns(u64),
    /// An address, or a /64 of IPv6 without its lower half.
    Address(IpAddr),
}

/// A pod or an address that uses part of what all share. A connection keeps it from accept on, so that no request has to
/// look for it.
#[derive(Debug)]
pub struct Holder {
    /// Its number.
    pub id: HolderId,
    /// What it is known by.
    pub key: HolderKey,
    /// Its namespace.
    pub group: Group,
    /// Its identity for endpoints' breakers. It stays the same if the holder comes back after it had no connection.
    pub caller: Caller,
    /// Its name in the state: `shop/cart-0`, `10.1.0.9`, `2001:db8::/64`, `netns 4711`.
    pub name: Box<str>,
}

impl Holder {
    /// Everybody together, where shares make no difference.
    pub fn everybody() -> Arc<Self> {
        let key = HolderKey::Address(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        let caller = Caller::default();
        Arc::new(Self { id: HolderId(u64::MAX), key, group: None, caller, name: "everybody".into() })
    }
}

/// A client of which weir does not know the pod, or not yet.
#[derive(Clone, Debug)]
pub struct Stranger {
    client: IpAddr,
    pod: Option<Arc<PodNetns>>,
}

impl Stranger {
    /// The client of a connection of `holder`, unless that is a pod. `client` and `pod` as for [`Holders::of`].
    pub fn of(holder: &Holder, client: IpAddr, pod: Option<&Arc<PodNetns>>) -> Option<Self> {
        holder.group.is_none().then(|| Self { client, pod: pod.cloned() })
    }
}

/// All holders that have connections.
#[derive(Debug, Default)]
pub struct Holders {
    /// The pods of this node.
    pods: ArcSwap<Clients>,
    known: Mutex<Known>,
    next: AtomicU64,
}

/// The hasher is SipHash with a random key, since clients choose addresses.
#[derive(Debug, Default)]
struct Known {
    holders: HashMap<HolderKey, Weak<Holder>, RandomState>,
    /// At how many the table is searched for those that are gone.
    look: usize,
}

/// The least number of holders at which the table is searched for those that are gone.
const LOOK: usize = 256;

impl Holders {
    /// From now on these are the pods of this node.
    pub fn tell(&self, pods: Arc<Clients>) {
        self.pods.store(pods);
    }

    /// The holder of a connection from `client`, which was accepted in the network namespace of `pod`, or else on the node.
    pub fn of(&self, client: IpAddr, pod: Option<&PodNetns>) -> Arc<Holder> {
        if let Some(known) = self.pod(client, pod) {
            return known;
        }
        match pod {
            Some(pod) => {
                let cookie = pod.cookie();
                self.get(HolderKey::Netns(cookie), || None, || format!("netns {cookie}"))
            }
            None => self.nobody(client),
        }
    }

    /// The holder of a connection from the network namespace of `pod`, which a process of the pod whose cgroup's name has `uid`
    /// has made.
    pub fn of_cgroup(&self, uid: Option<&str>, client: IpAddr, pod: &PodNetns) -> Arc<Holder> {
        let pods = self.pods.load();
        match uid.and_then(|uid| pods.of_cgroup(uid)) {
            Some((uid, pod)) => self.known_pod(uid, pod),
            None => self.of(client, Some(pod)),
        }
    }

    /// The holder of a connection that claims to come from `client`, and whose pod weir could not determine.
    pub fn nobody(&self, client: IpAddr) -> Arc<Holder> {
        let client = client.to_canonical();
        self.get(HolderKey::Address(network(client)), || None, || told(client))
    }

    /// The pod that a stranger is, where it is known by now.
    pub fn known(&self, stranger: &Stranger) -> Option<Arc<Holder>> {
        self.pod(stranger.client, stranger.pod.as_deref())
    }

    fn pod(&self, client: IpAddr, pod: Option<&PodNetns>) -> Option<Arc<Holder>> {
        let pods = self.pods.load();
        let (uid, pod) = match pod {
            // By its address it could claim to be another one.
            Some(pod) => pod.cgroup_uid().and_then(|uid| pods.of_cgroup(&uid)),
            None => pods.pod(client),
        }?;
        Some(self.known_pod(uid, pod))
    }

    fn known_pod(&self, uid: &Arc<str>, pod: &Pod) -> Arc<Holder> {
        let name = || format!("{}/{}", pod.namespace, pod.name);
        self.get(HolderKey::Pod(uid.clone()), || Some(pod.namespace.clone()), name)
    }

    fn get(
        &self,
        key: HolderKey,
        group: impl FnOnce() -> Group,
        name: impl FnOnce() -> String,
    ) -> Arc<Holder> {
        let mut known = self.known.lock();
        if let Some(there) = known.holders.get(&key).and_then(Weak::upgrade) {
            return there;
        }
        if known.holders.len() >= known.look.max(LOOK) {
            known.holders.retain(|_, holder| holder.strong_count() > 0);
            known.look = 2 * known.holders.len();
        }
        let id = HolderId(self.next.fetch_add(1, Ordering::Relaxed));
        let caller = match key {
            HolderKey::Address(_) => Caller::default(),
            HolderKey::Pod(_) | HolderKey::Netns(_) => Caller(known.holders.hasher().hash_one(&key)),
        };
        let (group, name) = (group(), name().into());
        let holder = Arc::new(Holder { id, key: key.clone(), group, caller, name });
        known.holders.insert(key, Arc::downgrade(&holder));
        holder
    }
}

/// The address that stands for all those that one machine may have.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

fn told(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(_) => format!("{}/64", network(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::pods::NodePods;

    fn holders(pods: &[(&str, &str, &str)]) -> Holders {
        let pod = |(uid, namespace, address): &(&str, &str, &str)| {
            let pod = Pod {
                namespace: (*namespace).into(),
                name: (*uid).into(),
                host_network: false,
                finished: false,
                cgroup_uid: (*uid).into(),
                addresses: vec![address.parse().unwrap()],
                wishes: Default::default(),
                sidecar: None,
                runtime_class: None,
            };
            ((*uid).into(), Arc::new(pod))
        };
        let pods = NodePods { pods: pods.iter().map(pod).collect(), known: true, ..NodePods::default() };
        let holders = Holders::default();
        holders.tell(Arc::new(Clients::new(&pods)));
        holders
    }

    #[test]
    fn a_connection_is_its_pods_or_else_its_addresss() {
        let holders =
            holders(&[("u1", "shop", "10.1.0.1"), ("u2", "shop", "10.1.0.2"), ("u3", "dev", "10.1.0.2")]);
        for (client, name, group) in [
            ("10.1.0.1", "shop/u1", Some("shop")),
            ("::ffff:10.1.0.1", "shop/u1", Some("shop")),
            ("10.1.0.2", "10.1.0.2", None),
            ("10.1.0.9", "10.1.0.9", None),
            ("2001:db8::1:2:3:4", "2001:db8::/64", None),
        ] {
            let holder = holders.of(client.parse().unwrap(), None);
            assert_eq!((&*holder.name, holder.group.as_deref()), (name, group), "{client}");
        }
    }

    #[test]
    fn the_same_client_is_the_same_holder_as_long_as_it_holds_something() {
        let holders = Holders::default();
        let at = |client: &str| holders.of(client.parse().unwrap(), None);
        let first = at("2001:db8::1");
        assert!(Arc::ptr_eq(&first, &at("2001:db8::ffff")), "one machine");
        assert!(!Arc::ptr_eq(&first, &at("2001:db8:0:1::1")));
        let id = first.id;
        drop(first);
        assert!(id < at("2001:db8::1").id);
    }

    #[test]
    fn what_breakers_know_of_a_pod_stays_while_it_holds_nothing() {
        let holders = holders(&[("u1", "shop", "10.1.0.1"), ("u2", "shop", "10.1.0.2")]);
        let at = |client: &str| holders.of(client.parse().unwrap(), None).caller;
        let first = at("10.1.0.1");
        assert_eq!(first, at("10.1.0.1"));
        assert_ne!(first, at("10.1.0.2"));
        assert_eq!((at("10.9.0.1"), at("10.9.0.2")), (Caller::default(), Caller::default()), "no pods");
    }

    #[test]
    fn those_that_hold_nothing_any_more_are_forgotten() {
        let holders = Holders::default();
        let kept = holders.of([10, 0, 0, 1].into(), None);
        (0..10_000_u32).for_each(|number| drop(holders.of(number.to_be_bytes().into(), None)));
        assert!(holders.known.lock().holders.len() <= LOOK + 1);
        assert!(Arc::ptr_eq(&kept, &holders.of([10, 0, 0, 1].into(), None)));
    }
}
