//! The clusters outside the catalog, by host and port.

use std::collections::{HashMap, hash_map};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::{Outside, RETRY, UNUSED, title};
use crate::domain::catalog::Endpoint;
use crate::domain::refuse::Exempt;
use crate::proxy::routing::snapshot::PolicySource;
use crate::proxy::upstream::cluster::{Cluster, ClusterPolicy};

/// The table, and what the policies in it are made of.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) entries: HashMap<Key, Entry>,
    /// What the policies of all of them are of, and of those that are to come.
    pub(super) policies: Arc<PolicySource>,
}

/// A host, or an address, and a port.
pub(super) type Key = (Box<str>, u16);

/// A name that is in the table.
pub(super) struct Known {
    pub(super) cluster: Arc<Cluster>,
    /// How long its answer has been past its TTL, for whoever is to ask again.
    pub(super) past: Option<Duration>,
}

/// A cluster of the table.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) cluster: Arc<Cluster>,
    pub(super) valid_until: Option<Instant>,
    used: Instant,
}

impl Outside {
    /// Keeps at most `limit` entries from now on, those that were used last.
    pub fn keep(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        let table = &mut self.table.lock().entries;
        let Some(over) = table.len().checked_sub(limit) else { return };
        let mut used: Vec<_> = table.iter().map(|(key, entry)| (entry.used, key.clone())).collect();
        used.sort_unstable();
        for (_, key) in used.into_iter().take(over) {
            if let Some(gone) = table.remove(&key) {
                gone.cluster.retire();
                self.evicted.up();
            }
        }
    }

    /// Gives every cluster the policy that it has by `policies`, those to come as well.
    pub fn adopt(&self, policies: &PolicySource) {
        let known: Vec<(Key, Arc<Cluster>)> = {
            let mut table = self.table.lock();
            if *table.policies == *policies {
                return;
            }
            table.policies = Arc::new(policies.clone());
            table.entries.iter().map(|(key, entry)| (key.clone(), entry.cluster.clone())).collect()
        };
        // Workers wait for the table, so what takes a while is done without it.
        for ((host, port), cluster) in known {
            take_over(&cluster, policies.outside(&host, port));
        }
    }

    /// Whether weir connects to addresses in `ranges` has changed: what has such addresses is forgotten with its unused
    /// connections, and the other names are asked for again, since addresses of theirs may have been left out.
    pub fn forget(&self, ranges: &[IpNet], now: Instant) {
        self.table.lock().entries.retain(|_, entry| {
            let is_in = |address: IpAddr| ranges.iter().any(|range| range.contains(&address.to_canonical()));
            let stays = !entry.cluster.members().all.iter().any(|it| is_in(it.backend.address.ip()));
            match stays {
                true => entry.valid_until = entry.valid_until.map(|until| until.min(now)),
                false => entry.cluster.retire(),
            }
            stays
        });
    }

    /// Every cluster in the table.
    pub fn clusters(&self) -> Vec<Arc<Cluster>> {
        self.table.lock().entries.values().map(|entry| entry.cluster.clone()).collect()
    }

    /// Drops what nobody has used for long.
    pub fn sweep(&self, now: Instant) {
        self.table.lock().entries.retain(|_, entry| {
            let stays = now.saturating_duration_since(entry.used) < UNUSED;
            if !stays {
                entry.cluster.retire();
            }
            stays
        });
    }

    /// The cluster of a name that is known, unless other addresses are refused for it.
    pub(super) fn known(&self, host: &str, port: u16, exempt: Exempt, now: Instant) -> Option<Known> {
        self.known_by(&(host.into(), port), exempt, now)
    }

    pub(super) fn known_by(&self, key: &Key, exempt: Exempt, now: Instant) -> Option<Known> {
        let mut table = self.table.lock();
        let entry = table.entries.get_mut(key).filter(|entry| entry.cluster.exempt == exempt)?;
        entry.used = now;
        let past = entry.valid_until.map(|until| now.saturating_duration_since(until));
        let past = past.filter(|past| !past.is_zero());
        if past.is_some() {
            // Whoever sees the expiry first asks again; the rest use the old answer meanwhile.
            entry.valid_until = Some(now + RETRY);
        }
        Some(Known { cluster: entry.cluster.clone(), past })
    }

    /// The cluster for `key`, new unless there is one by now; its endpoints are good until then, and it is used now.
    pub(super) fn insert(
        &self,
        key: Key,
        exempt: Exempt,
        endpoints: &Arc<[Endpoint]>,
        (valid_until, now): (Option<Instant>, Instant),
    ) -> Arc<Cluster> {
        let policies = self.table.lock().policies.clone();
        let policy = Arc::new(policies.outside(&key.0, key.1));
        let cluster = Arc::new(Cluster::new(title(&key.0, key.1), exempt, self.workers, policy));
        cluster.apply(endpoints);
        let mut table = self.table.lock();
        if !Arc::ptr_eq(&table.policies, &policies) {
            // They changed just now.
            take_over(&cluster, table.policies.outside(&key.0, key.1));
        }
        let table = &mut table.entries;
        if table.len() >= self.limit.load(Ordering::Relaxed) && !table.contains_key(&key) {
            let oldest = table.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                if let Some(gone) = table.remove(&oldest) {
                    gone.cluster.retire();
                }
                self.evicted.up();
            }
        }
        // Two requests may have looked the name up at once: the first one's cluster stays, if it is the same.
        let new = Entry { cluster, valid_until, used: now };
        let entry = match table.entry(key) {
            hash_map::Entry::Vacant(vacant) => vacant.insert(new),
            hash_map::Entry::Occupied(there) => {
                let there = there.into_mut();
                if there.cluster.exempt != exempt {
                    std::mem::replace(there, new).cluster.retire();
                }
                there
            }
        };
        entry.used = now;
        entry.cluster.clone()
    }
}

/// Gives `cluster` another policy, if it is another.
fn take_over(cluster: &Cluster, policy: ClusterPolicy) {
    if **cluster.policy() != policy {
        cluster.adopt(&Arc::new(policy));
    }
}
