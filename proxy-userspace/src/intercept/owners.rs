//! Who owns the source address of a diverted connection, and so whose entry about it is believed.
//!
//! The process that calls connect() causes the entry, and a pod can do that under any address: with a socket bound to
//! an address that it does not have (`IP_TRANSPARENT`, `IPV6_FREEBIND`), or in its own network namespace, where it can
//! assign any address. It can even choose the sequence number of the SYN (`TCP_REPAIR`). But it can choose neither its
//! cgroup nor the cookie of its network namespace, which the kernel sets. So an entry is believed only when the pod
//! that caused it owns that address:
//!
//! - according to discovery (`status.podIPs`), by the pod's cgroup; nobody else is believed then;
//! - for this node's own addresses, the node's network namespace;
//! - for others, without Kubernetes and in a pod's first second, the namespace whose entry had the right number first.
//!   It keeps the address while it uses it and its cgroup exists.
//!
//! Deliberately absent: asking the network namespace itself for its addresses. The answer would be under its owner's
//! control.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use smallvec::SmallVec;

/// The cgroups of the pods that have an address: one, or two for a moment while the address passes from one to the
/// other.
pub type Pods = SmallVec<[u64; 1]>;

/// Maximum number of learnt addresses in total and per network namespace. Beyond that, only the SYN's sequence number
/// decides.
const LEARNT: usize = 4_096;
const LEARNT_OF_ONE: usize = 16;

/// After this time without use, a namespace may have lost an address to another.
const UNUSED: Duration = Duration::from_mins(1);

/// The owner of each address. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Owners {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The cookie of the node's own network namespace.
    host: u64,
    node: ArcSwap<Vec<IpAddr>>,
    told: ArcSwap<HashMap<IpAddr, Pods>>,
    /// Locked for a look-up, and only for addresses that discovery does not know.
    learnt: Mutex<HashMap<IpAddr, Learnt>>,
    /// An entry was rejected because of a learnt owner, since this was last read.
    doubted: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Learnt {
    netns: u64,
    /// The cgroup of the process that dialled last.
    cgroup: u64,
    /// The time of that, in nanoseconds of `CLOCK_MONOTONIC`.
    at: u64,
}

/// Who caused an entry, according to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filer {
    /// The cgroup of the process.
    pub cgroup: u64,
    /// The enrolled cgroup above it: a pod's, where pods are enrolled one by one.
    pub pod: u64,
    /// The cookie of its network namespace.
    pub netns: u64,
}

impl Owners {
    /// No address has an owner yet, except that the node's network namespace with the cookie `host` owns those in
    /// `node`.
    pub(super) fn new(host: u64, node: Vec<IpAddr>) -> Self {
        let shared = Shared {
            host,
            node: ArcSwap::from_pointee(node),
            told: ArcSwap::default(),
            learnt: Mutex::default(),
            doubted: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Replaces the node's own addresses.
    pub fn tell_node(&self, addresses: &[IpAddr]) {
        if **self.shared.node.load() != addresses {
            self.shared.node.store(Arc::new(addresses.to_vec()));
        }
    }

    /// Replaces the pods' addresses as discovery reports them.
    pub fn tell(&self, pods: HashMap<IpAddr, Pods>) {
        if **self.shared.told.load() == pods {
            return;
        }
        self.shared.learnt.lock().retain(|address, _| !pods.contains_key(address));
        self.shared.told.store(Arc::new(pods));
    }

    /// Whether `filer`, who caused an entry for `address` with the right number at `now`, owns that address.
    pub(super) fn is(&self, address: IpAddr, filer: Filer, now: u64) -> bool {
        let address = address.to_canonical();
        if address.is_loopback() || self.shared.node.load().contains(&address) {
            return filer.netns == self.shared.host;
        }
        match self.shared.told.load().get(&address) {
            Some(pods) => pods.contains(&filer.pod),
            None => self.learn(address, filer, now),
        }
    }

    fn learn(&self, address: IpAddr, filer: Filer, now: u64) -> bool {
        let mut learnt = self.shared.learnt.lock();
        match learnt.get_mut(&address) {
            Some(known) if known.netns == filer.netns => {
                (known.cgroup, known.at) = (filer.cgroup, now);
                true
            }
            Some(_) => {
                self.shared.doubted.store(true, Ordering::Relaxed);
                false
            }
            None => {
                let of_one = || learnt.values().filter(|it| it.netns == filer.netns).count();
                if learnt.len() < LEARNT && of_one() < LEARNT_OF_ONE {
                    learnt.insert(address, Learnt { netns: filer.netns, cgroup: filer.cgroup, at: now });
                }
                true
            }
        }
    }

    /// Whether an entry was rejected because of a learnt owner, since the last call: the address may have passed to
    /// another, and [`Self::forget`] should be called.
    pub fn take_doubt(&self) -> bool {
        self.shared.doubted.swap(false, Ordering::Relaxed)
    }

    /// Forgets learnt namespaces whose process's cgroup is not among the `living`, or that have not used the address
    /// for a minute. `now` is a value of [`super::monotonic_ns`].
    pub fn forget(&self, living: &HashSet<u64>, now: u64) {
        let used = |it: &Learnt| Duration::from_nanos(now.saturating_sub(it.at)) < UNUSED;
        self.shared.learnt.lock().retain(|_, it| living.contains(&it.cgroup) && used(it));
    }

    /// The number of addresses that discovery reported, and of learnt ones.
    pub fn known(&self) -> (usize, usize) {
        (self.shared.told.load().len(), self.shared.learnt.lock().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: u64 = 1;
    const VICTIM: Filer = Filer { cgroup: 21, pod: 20, netns: 2 };
    const OTHER: Filer = Filer { cgroup: 31, pod: 30, netns: 3 };
    const MINUTE: u64 = 60_000_000_000;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn owners() -> Owners {
        Owners::new(HOST, vec![ip("10.0.0.7"), ip("fd00::7")])
    }

    fn told(addresses: &[(&str, u64)]) -> HashMap<IpAddr, Pods> {
        let mut told: HashMap<IpAddr, Pods> = HashMap::new();
        addresses.iter().for_each(|(address, pod)| told.entry(ip(address)).or_default().push(*pod));
        told
    }

    #[test]
    fn an_address_that_is_told_of_is_its_pods_alone_whatever_the_namespace() {
        let owners = owners();
        owners.tell(told(&[("10.1.0.2", VICTIM.pod), ("fd01::2", VICTIM.pod)]));
        for address in ["10.1.0.2", "::ffff:10.1.0.2", "fd01::2"] {
            for _ in 0..2 {
                assert!(!owners.is(ip(address), OTHER, 0), "{address}");
                assert!(owners.is(ip(address), VICTIM, 0), "{address}");
                assert!(!owners.is(ip(address), Filer { netns: VICTIM.netns, ..OTHER }, 0), "{address}");
            }
        }
        // While the address moves, both own it; then only the other one.
        owners.tell(told(&[("10.1.0.2", VICTIM.pod), ("10.1.0.2", OTHER.pod)]));
        assert!(owners.is(ip("10.1.0.2"), VICTIM, 0) && owners.is(ip("10.1.0.2"), OTHER, 0));
        owners.tell(told(&[("10.1.0.2", OTHER.pod)]));
        assert!(!owners.is(ip("10.1.0.2"), VICTIM, 0) && owners.is(ip("10.1.0.2"), OTHER, 0));
        assert_eq!(owners.known(), (1, 0));
    }

    #[test]
    fn the_nodes_own_addresses_are_its_own_namespaces_alone() {
        let owners = owners();
        let host = Filer { cgroup: 5, pod: 4, netns: HOST };
        for address in ["10.0.0.7", "::ffff:10.0.0.7", "fd00::7", "127.0.0.1", "::1"] {
            assert!(owners.is(ip(address), host, 0), "{address}");
            assert!(!owners.is(ip(address), OTHER, 0), "{address}");
        }
        owners.tell_node(&[ip("10.0.0.8")]);
        assert!(!owners.is(ip("10.0.0.8"), OTHER, 0));
        assert!(owners.is(ip("10.0.0.7"), OTHER, 0), "it is not the node's any more");
    }

    #[test]
    fn an_address_that_nobody_told_of_stays_with_who_had_it_first() {
        let owners = owners();
        assert!(owners.is(ip("10.1.0.2"), VICTIM, 0));
        assert!(!owners.take_doubt());
        assert!(!owners.is(ip("10.1.0.2"), OTHER, 0));
        assert!(owners.take_doubt() && !owners.take_doubt());
        // It is alive and uses the address: the doubt changes nothing.
        owners.forget(&HashSet::from([VICTIM.cgroup, OTHER.cgroup]), MINUTE - 1);
        assert!(owners.is(ip("10.1.0.2"), VICTIM, MINUTE));
        owners.forget(&HashSet::from([VICTIM.cgroup, OTHER.cgroup]), 2 * MINUTE - 1);
        assert!(!owners.is(ip("10.1.0.2"), OTHER, 2 * MINUTE - 1));
        // After a minute without use, or the end of its cgroup, another may own it.
        owners.forget(&HashSet::from([VICTIM.cgroup, OTHER.cgroup]), 2 * MINUTE);
        assert!(owners.is(ip("10.1.0.2"), OTHER, 2 * MINUTE));
        owners.forget(&HashSet::from([VICTIM.cgroup]), 2 * MINUTE);
        assert!(owners.is(ip("10.1.0.2"), VICTIM, 2 * MINUTE));
        // Discovery takes precedence.
        owners.tell(told(&[("10.1.0.2", OTHER.pod)]));
        assert!(!owners.is(ip("10.1.0.2"), VICTIM, 2 * MINUTE));
        assert_eq!(owners.known(), (1, 0));
    }

    #[test]
    fn nobody_fills_the_table_of_what_is_learnt_alone_and_all_together_fill_it_once() {
        let owners = owners();
        for host in 0..1_000_u16 {
            assert!(owners.is(IpAddr::from([10, 1, (host >> 8) as u8, host as u8]), OTHER, 0));
        }
        assert_eq!(owners.known(), (0, LEARNT_OF_ONE));
        for netns in 0..2 * LEARNT as u64 {
            let address = IpAddr::from(((0xfdff_u128 << 112) + u128::from(netns)).to_be_bytes());
            assert!(owners.is(address, Filer { netns: 100 + netns, ..VICTIM }, 0));
        }
        assert_eq!(owners.known(), (0, LEARNT));
    }
}
