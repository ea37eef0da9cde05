//! Who uses how many units of a pool, and who has to give way.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// How many units of a pool each holder uses. A holder belongs to a group. Every operation takes logarithmic time.
#[derive(Clone, Debug)]
pub struct Ledger<G, H> {
    limit: usize,
    used: usize,
    groups: HashMap<G, Group<H>>,
    /// The groups, by how much they use.
    order: BTreeSet<(usize, G)>,
}

#[derive(Clone, Debug)]
struct Group<H> {
    used: usize,
    holders: HashMap<H, usize>,
    /// The holders, by how much they use.
    order: BTreeSet<(usize, H)>,
}

/// What a holder uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Used {
    /// Units of its group.
    pub group: usize,
    /// Its own units.
    pub own: usize,
}

impl<G: Clone + Eq + Hash + Ord, H: Copy + Eq + Hash + Ord> Ledger<G, H> {
    /// A pool of `limit` units, all of them free.
    pub fn new(limit: usize) -> Self {
        Self { limit, used: 0, groups: HashMap::new(), order: BTreeSet::new() }
    }

    /// Changes the limit. What is used stays, even if it is more.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// How many units there are.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many are used.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Whether no unit is free.
    pub fn is_full(&self) -> bool {
        self.used >= self.limit
    }

    /// What a holder uses.
    pub fn used_by(&self, group: &G, holder: H) -> Used {
        let known = self.groups.get(group);
        Used {
            group: known.map_or(0, |it| it.used),
            own: known.and_then(|it| it.holders.get(&holder)).copied().unwrap_or(0),
        }
    }

    /// One more unit for a holder; also when the pool is full, since a caller may take one back a little later.
    pub fn add(&mut self, group: &G, holder: H) {
        let known = self.groups.entry(group.clone()).or_default();
        self.order.remove(&(known.used, group.clone()));
        let own = known.holders.entry(holder).or_default();
        known.order.remove(&(*own, holder));
        *own += 1;
        known.order.insert((*own, holder));
        known.used += 1;
        self.order.insert((known.used, group.clone()));
        self.used += 1;
    }

    /// A holder gives one unit back. Nothing happens if it has none.
    pub fn remove(&mut self, group: &G, holder: H) {
        let Some(known) = self.groups.get_mut(group) else { return };
        let Some(own) = known.holders.get_mut(&holder) else { return };
        known.order.remove(&(*own, holder));
        *own -= 1;
        match *own {
            0 => drop(known.holders.remove(&holder)),
            left => drop(known.order.insert((left, holder))),
        }
        self.order.remove(&(known.used, group.clone()));
        known.used -= 1;
        match known.used {
            0 => drop(self.groups.remove(group)),
            left => drop(self.order.insert((left, group.clone()))),
        }
        self.used -= 1;
    }

    /// The holder that has to give one unit to a newcomer of this one when no unit is free: the one most above its
    /// share, if the newcomer is below its own. `None` if no holder has to.
    ///
    /// A unit moves only if its former owner then still has at least as many as the new owner. So two holders cannot take
    /// the same unit from each other in turn.
    pub fn gives_way(&self, group: &G, holder: H) -> Option<(&G, H)> {
        let own = self.used_by(group, holder);
        let (most, of) = self.order.last()?;
        if of != group && own.group + 1 < *most {
            return Some((of, self.groups.get(of)?.order.last()?.1));
        }
        let (group, known) = self.groups.get_key_value(group)?;
        let (most, other) = *known.order.last()?;
        (other != holder && own.own + 1 < most).then_some((group, other))
    }

    /// Every holder with what it uses: the groups that use the most come first, and in each the holders that do.
    pub fn from_most(&self) -> impl Iterator<Item = (&G, H, Used)> {
        let groups = self.order.iter().rev().filter_map(|(_, group)| Some((group, self.groups.get(group)?)));
        groups.flat_map(|(group, known)| {
            let used = |own| Used { group: known.used, own };
            known.order.iter().rev().map(move |(own, holder)| (group, *holder, used(*own)))
        })
    }
}

impl<H> Default for Group<H> {
    fn default() -> Self {
        Self { used: 0, holders: HashMap::new(), order: BTreeSet::new() }
    }
}
