//! What a bound name depends on, and what of that has changed since.
//!
//! A name stays bound as long as every service and address that was asked about when it was bound, those that did not
//! exist included, is what it was then. Each such fact is a number here, so that a route's facts are a few words; that two
//! facts may share one costs a needless binding once in a while, and never a wrong one.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use imbl::OrdMap;
use smallvec::SmallVec;

use crate::domain::catalog::ServiceKey;

/// What may change about a binding: that a service is there and what its ports are, whose an address and port is, or what
/// is known at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fact(u64);

/// The facts that one name was bound by.
pub type Facts = SmallVec<[Fact; 4]>;

/// What a binding rests on.
#[derive(Clone, Debug, Default)]
pub struct Basis {
    /// What it was bound by.
    pub facts: Facts,
    /// What was not known yet and may bind it otherwise.
    pub unknown: Option<String>,
}

/// Which world of those that follow each other; later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(u64);

/// Facts remembered to have changed; with more, every name is bound again once.
const REMEMBERED: usize = 16_384;

/// When which facts changed. Cloning it costs nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    now: Generation,
    /// What was bound before is bound by other rules, or it is not known what changed since.
    since: Generation,
    changed: OrdMap<Fact, Generation>,
}

impl Fact {
    /// What there is of a service.
    pub(super) fn service(key: &ServiceKey) -> Self {
        Self::of(key)
    }

    /// Whose an address and port is.
    pub(super) fn address(address: IpAddr, port: u16) -> Self {
        Self::of(&(address, port))
    }

    /// Whose a port of nodes' addresses is.
    pub(super) fn node_port(port: u16) -> Self {
        Self::of(&("node port", port))
    }

    /// Which addresses are nodes'.
    pub(super) fn nodes() -> Self {
        Self::of(&"nodes")
    }

    /// What is known of the cluster's services as a whole.
    pub(super) fn awaited() -> Self {
        Self::of(&"awaited")
    }

    fn of(what: &impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl Generation {
    /// Its number; later ones are greater.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl History {
    /// The present.
    pub(super) fn now(&self) -> Generation {
        self.now
    }

    /// The next world, before anything in it has changed.
    pub(super) fn next(&self) -> Self {
        Self { now: Generation(self.now.0 + 1), ..self.clone() }
    }

    /// The next world, in which nothing holds of what held before.
    pub(super) fn anew(&self) -> Self {
        let now = Generation(self.now.0 + 1);
        Self { now, since: now, changed: OrdMap::new() }
    }

    /// `fact` changes in this world.
    pub(super) fn change(&mut self, fact: Fact) {
        if self.changed.len() >= REMEMBERED {
            (self.since, self.changed) = (self.now, OrdMap::new());
        }
        self.changed.insert(fact, self.now);
    }

    /// Whether `facts` are what they were in the world of `then`.
    pub(super) fn holds(&self, facts: &[Fact], then: Generation) -> bool {
        then >= self.since
            && facts.iter().all(|fact| self.changed.get(fact).is_none_or(|changed| *changed <= then))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(of: &[u8]) -> Facts {
        of.iter().map(Fact::of).collect()
    }

    #[test]
    fn facts_hold_until_one_of_them_changes() {
        let first = History::default().anew();
        let mut second = first.next();
        second.change(facts(&[1])[0]);
        assert!(first.holds(&facts(&[1, 2]), first.now()));
        assert!(second.holds(&facts(&[2, 3]), first.now()));
        assert!(!second.holds(&facts(&[2, 1]), first.now()));
        assert!(second.next().holds(&facts(&[1]), second.now()), "bound after the change");
        assert!(!second.anew().holds(&facts(&[2]), second.now()));
    }

    #[test]
    fn more_changes_than_are_remembered_let_nothing_hold() {
        let first = History::default().anew();
        let mut second = first.next();
        (0..=REMEMBERED as u64).for_each(|it| second.change(Fact(it)));
        assert!(second.changed.len() <= REMEMBERED);
        assert!(!second.holds(&facts(&[7]), first.now()));
        assert!(second.holds(&facts(&[7]), second.now()));
    }
}
