//! The clusters outside the catalog, by host and port, in order of last use.
//!
//! Workers share its lock: making room, lowering the limit and dropping unused entries visit only the entries that are
//! removed, and their connections are closed outside the lock.

use std::collections::HashMap;
use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hashlink::LruCache;
use ipnet::IpNet;

use super::{ExternalClusters, RETRY, UNUSED, title};
use crate::domain::catalog::Endpoint;
use crate::domain::shares::Ledger;
use crate::domain::ssrf::Exempt;
use crate::proxy::holders::{Group, Holder, HolderId};
use crate::proxy::routing::snapshot::PolicySource;
use crate::proxy::upstream::Source;
use crate::proxy::upstream::cluster::{Cluster, ClusterPolicy, Stats};

/// The least number of names at which those are forgotten that no cluster has.
const FEW: usize = 64;

/// The table, and the source of the policies in it.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) entries: Entries,
    /// Whose they are.
    pub(super) ledger: Ledger<Group, HolderId>,
    /// The source of the policies of all entries, present and future.
    pub(super) policies: Arc<PolicySource>,
    /// What was counted by clusters that are gone, as long as there is another one of the name: each pod has its own.
    gone: HashMap<Box<str>, Weak<Stats>>,
}

/// The limit is enforced here, not by the cache: it can change. The hasher is SipHash with a random key, since clients
/// choose the names.
pub(super) type Entries = LruCache<Key, Entry, RandomState>;

/// What distinguishes the destinations. One that an operator wrote is not that of a request for the same address: the
/// addresses that are refused for the two differ.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// A host, or an address.
    pub(super) host: Box<str>,
    pub(super) port: u16,
    pub(super) exempt: Exempt,
    /// From where the name was looked up: what DNS says to a pod is not told to another one. An address is the same for all.
    pub(super) from: Source,
}

/// A name that is in the table.
pub(super) struct Known {
    pub(super) cluster: Arc<Cluster>,
    /// How long its answer has been past its TTL; only for the caller that must refresh it.
    pub(super) past: Option<Duration>,
}

/// A cluster of the table.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) cluster: Arc<Cluster>,
    pub(super) valid_until: Option<Instant>,
    used: Instant,
    /// Whose it is: who asked for it first.
    pub(super) holder: Arc<Holder>,
    /// What was counted by those of the same name that are gone.
    gone: Arc<Stats>,
}

impl Entry {
    /// Closes the cluster's unused connections; what it has counted stays.
    pub(super) fn retire(&self) {
        self.gone.absorb(&self.cluster.stats);
        self.cluster.retire();
    }
}

/// A cluster in the table.
pub struct Counted {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Whether it is of a name that was looked up for a pod, in its network namespace.
    pub is_pods: bool,
    /// What was counted by those of the same name that are gone.
    pub gone: Arc<Stats>,
}

impl Table {
    pub(super) fn new(policies: PolicySource) -> Self {
        let entries = LruCache::with_hasher(usize::MAX, RandomState::new());
        Self { entries, ledger: Ledger::new(0), policies: Arc::new(policies), gone: HashMap::new() }
    }

    /// What was counted by clusters of this name that are gone.
    fn gone(&mut self, name: &str) -> Arc<Stats> {
        if let Some(gone) = self.gone.get(name).and_then(Weak::upgrade) {
            return gone;
        }
        if self.gone.len() > 2 * self.entries.len() + FEW {
            self.gone.retain(|_, gone| gone.strong_count() > 0);
        }
        let gone = Arc::<Stats>::default();
        self.gone.insert(name.into(), Arc::downgrade(&gone));
        gone
    }
}

impl ExternalClusters {
    /// Keeps at most `limit` entries from now on, the most recently used ones of each client.
    pub fn keep(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        let next = || {
            let mut table = self.table.lock();
            (table.entries.len() > limit).then(|| table.make_room(None))
        };
        let gone = std::iter::from_fn(next).flatten().map(|gone| gone.retire()).count();
        self.evicted.add(gone as u64);
    }

    /// Gives every cluster its policy from `policies`, future ones as well.
    pub fn adopt(&self, policies: &PolicySource) {
        let known: Vec<(Key, Arc<Cluster>)> = {
            let mut table = self.table.lock();
            if *table.policies == *policies {
                return;
            }
            table.policies = Arc::new(policies.clone());
            table.entries.iter().map(|(key, entry)| (key.clone(), entry.cluster.clone())).collect()
        };
        // Workers wait for the table, so slow work is done outside the lock.
        for (key, cluster) in known {
            take_over(&cluster, policies.outside(&key.host, key.port));
        }
    }

    /// Called when it has changed whether weir connects to addresses in `ranges`: clusters with such addresses are
    /// removed and their unused connections closed; the other names are looked up again, since some of their addresses
    /// may have been left out.
    pub fn forget(&self, ranges: &[IpNet], now: Instant) {
        self.table.lock().retain(|_, entry| {
            let is_in = |address: IpAddr| ranges.iter().any(|range| range.contains(&address.to_canonical()));
            let stays = !entry.cluster.members().all.iter().any(|it| is_in(it.backend.address.ip()));
            match stays {
                true => entry.valid_until = entry.valid_until.map(|until| until.min(now)),
                false => entry.retire(),
            }
            stays
        });
    }

    /// Forgets what was looked up in the network namespaces of pods that have ended, by their cookies.
    pub fn forget_pods(&self, ended: &[u64]) {
        let is_ended = |from: Source| matches!(from, Source::Pod(cookie) if ended.contains(&cookie));
        self.resolvers.lock().retain(|cookie, _| !ended.contains(cookie));
        self.table.lock().retain(|key, entry| {
            let stays = !is_ended(key.from);
            if !stays {
                entry.retire();
            }
            stays
        });
    }

    /// Every cluster in the table.
    pub fn clusters(&self) -> Vec<Arc<Cluster>> {
        self.table.lock().entries.iter().map(|(_, entry)| entry.cluster.clone()).collect()
    }

    /// Every cluster in the table, with what belongs to its counters.
    pub fn counted(&self) -> Vec<Counted> {
        let counted = |(key, entry): (&Key, &Entry)| Counted {
            cluster: entry.cluster.clone(),
            is_pods: key.from != Source::Node,
            gone: entry.gone.clone(),
        };
        self.table.lock().entries.iter().map(counted).collect()
    }

    /// Drops what has been unused for long. The lock is released between any two.
    pub fn sweep(&self, now: Instant) {
        let next = || {
            let mut table = self.table.lock();
            let oldest = table.entries.iter().next().map(|(_, oldest)| oldest.used);
            let is_due = oldest.is_some_and(|used| now.saturating_duration_since(used) >= UNUSED);
            is_due.then(|| table.remove_oldest()).flatten()
        };
        std::iter::from_fn(next).for_each(|gone| gone.retire());
    }

    /// The cluster of a known name.
    pub(super) fn known(&self, key: &Key, now: Instant) -> Option<Known> {
        let mut table = self.table.lock();
        let entry = table.entries.get_mut(key)?;
        entry.used = now;
        let past = entry.valid_until.map(|until| now.saturating_duration_since(until));
        let past = past.filter(|past| !past.is_zero());
        if past.is_some() {
            // The first caller that sees the expiry refreshes; the others use the old answer meanwhile.
            entry.valid_until = Some(now + RETRY);
        }
        Some(Known { cluster: entry.cluster.clone(), past })
    }

    /// The cluster for `key`, created for `client` unless there is one by now; its endpoints are valid until then, and it is
    /// used now.
    pub(super) fn insert(
        &self,
        key: Key,
        endpoints: &Arc<[Endpoint]>,
        (valid_until, now): (Option<Instant>, Instant),
        client: &Arc<Holder>,
    ) -> Arc<Cluster> {
        let policies = self.table.lock().policies.clone();
        let policy = Arc::new(policies.outside(&key.host, key.port));
        let name = title(&key.host, key.port);
        let cluster = Arc::new(Cluster::new(name, key.exempt, self.workers, policy));
        cluster.apply(endpoints);
        let mut table = self.table.lock();
        if !Arc::ptr_eq(&table.policies, &policies) {
            // The policies have changed just now.
            take_over(&cluster, table.policies.outside(&key.host, key.port));
        }
        let gone = table.gone(&cluster.name);
        // Two requests may have looked the name up at once: the first one's cluster stays.
        if let Some(there) = table.entries.get_mut(&key) {
            there.used = now;
            return there.cluster.clone();
        }
        let is_full = table.entries.len() >= self.limit.load(Ordering::Relaxed);
        let evicted = if is_full { table.make_room(Some(client)) } else { Vec::new() };
        let entry = Entry { cluster: cluster.clone(), valid_until, used: now, holder: client.clone(), gone };
        let replaced = table.insert(key, entry);
        drop(table);
        self.evicted.add(evicted.len() as u64);
        for gone in evicted.into_iter().chain(replaced) {
            gone.retire();
        }
        cluster
    }
}

/// Gives `cluster` this policy, if it differs.
fn take_over(cluster: &Cluster, policy: ClusterPolicy) {
    if **cluster.policy() != policy {
        cluster.adopt(&Arc::new(policy));
    }
}

#[cfg(test)]
mod tests;
