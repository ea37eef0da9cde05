//! Whose the entries of the table are, and which of them make room for others when it is full.
//!
//! Each is charged to who asked for it first. A full table takes from whoever is most above a fair share (`domain/shares`),
//! the newcomer included: who asks for ever new names forgets its own ones. Of one holder's, the least recently used goes first.

use super::table::{Entry, Key, Table};
use crate::proxy::holders::{Holder, HolderId};

/// So many of the least recently used entries are looked at for one of whoever has to give way, each time.
const NEAR: usize = 64;

/// If there is none among these, all are looked through, and so many are taken at once: that costs each newcomer little.
const AT_ONCE: usize = 64;

impl Table {
    /// Adds an entry. Returns the one that it replaces.
    pub(super) fn insert(&mut self, key: Key, entry: Entry) -> Option<Entry> {
        self.ledger.add(&entry.holder.group, entry.holder.id);
        let replaced = self.entries.insert(key, entry);
        self.discharge(replaced)
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Entry> {
        let removed = self.entries.remove(key);
        self.discharge(removed)
    }

    /// Removes the least recently used entry.
    pub(super) fn remove_oldest(&mut self) -> Option<Entry> {
        let (_, oldest) = self.entries.remove_lru()?;
        self.discharge(Some(oldest))
    }

    /// Keeps the entries for which `keep` is true.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Key, &mut Entry) -> bool) {
        let ledger = &mut self.ledger;
        self.entries.retain(|key, entry| {
            let stays = keep(key, entry);
            if !stays {
                ledger.remove(&entry.holder.group, entry.holder.id);
            }
            stays
        });
    }

    /// Removes what makes room for one more entry of `newcomer`, or what is one too many.
    pub(super) fn make_room(&mut self, newcomer: Option<&Holder>) -> Vec<Entry> {
        let has = |it: &Holder| self.ledger.used_by(&it.group, it.id).own;
        let most = || self.ledger.from_most().next().map(|(_, holder, used)| (holder, used.own));
        let (from, surplus) = match newcomer {
            None => (most(), 0),
            Some(own) => match self.ledger.gives_way(&own.group, own.id) {
                Some((group, other)) => {
                    let others = self.ledger.used_by(group, other).own;
                    (Some((other, others)), others.saturating_sub(has(own)) / 2)
                }
                None => (Some((own.id, has(own))).filter(|(_, has)| *has > 0), has(own) / 2),
            },
        };
        let taken = from.map(|(holder, _)| self.take_from(holder, surplus.clamp(1, AT_ONCE)));
        match taken.filter(|taken| !taken.is_empty()) {
            Some(taken) => taken,
            None => self.remove_oldest().into_iter().collect(),
        }
    }

    /// Removes the least recently used entry of `holder`, or so many where they are far from being the oldest of all.
    fn take_from(&mut self, holder: HolderId, at_most: usize) -> Vec<Entry> {
        let its = |all: usize, from: usize, most: usize| -> Vec<Key> {
            let entries = self.entries.iter().take(all).skip(from);
            entries.filter(|(_, it)| it.holder.id == holder).map(|(key, _)| key.clone()).take(most).collect()
        };
        let mut keys = its(NEAR, 0, 1);
        if keys.is_empty() {
            keys = its(usize::MAX, NEAR, at_most);
        }
        keys.iter().filter_map(|key| self.remove(key)).collect()
    }

    fn discharge(&mut self, gone: Option<Entry>) -> Option<Entry> {
        gone.inspect(|entry| self.ledger.remove(&entry.holder.group, entry.holder.id))
    }
}
