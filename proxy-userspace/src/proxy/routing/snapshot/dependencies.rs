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
pub struct Dependency(u64);

/// The facts that one name was bound by.
pub type Dependencies = SmallVec<[Dependency; 4]>;

/// What a binding rests on.
#[derive(Clone, Debug, Default)]
pub struct BoundBy {
    /// What it was bound by.
    pub dependencies: Dependencies,
    /// What was not known yet and may bind it otherwise.
    pub unknown: Option<String>,
}

/// Which snapshot of those that follow each other; later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(u64);

/// Facts remembered to have changed; with more, every name is bound again once.
const REMEMBERED: usize = 16_384;

/// When which facts changed. Cloning it costs nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct ChangeLog {
    now: Generation,
    /// What was bound before is bound by other rules, or it is not known what changed since.
    since: Generation,
    changed: OrdMap<Dependency, Generation>,
}

impl Dependency {
    /// What there is of a service.
    pub(super) fn service(key: &ServiceKey) -> Self {
        Self::from_hash(key)
    }

    /// Whose an address and port is.
    pub(super) fn address(address: IpAddr, port: u16) -> Self {
        Self::from_hash(&(address, port))
    }

    /// Whose a port of nodes' addresses is.
    pub(super) fn node_port(port: u16) -> Self {
        Self::from_hash(&("node port", port))
    }

    /// Which addresses are nodes'.
    pub(super) fn nodes() -> Self {
        Self::from_hash(&"nodes")
    }

    /// What is known of the cluster's services as a whole.
    pub(super) fn awaited() -> Self {
        Self::from_hash(&"awaited")
    }

    fn from_hash(what: &impl Hash) -> Self {
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

impl ChangeLog {
    /// The present.
    pub(super) fn now(&self) -> Generation {
        self.now
    }

    /// The next snapshot, before anything in it has changed.
    pub(super) fn next(&self) -> Self {
        Self { now: Generation(self.now.0 + 1), ..self.clone() }
    }

    /// The next snapshot, in which nothing holds of what held before.
    pub(super) fn anew(&self) -> Self {
        let now = Generation(self.now.0 + 1);
        Self { now, since: now, changed: OrdMap::new() }
    }

    /// `dependency` changes in this snapshot.
    pub(super) fn change(&mut self, dependency: Dependency) {
        if self.changed.len() >= REMEMBERED {
            (self.since, self.changed) = (self.now, OrdMap::new());
        }
        self.changed.insert(dependency, self.now);
    }

    /// Whether `dependencies` are what they were in the snapshot of `then`.
    pub(super) fn holds(&self, dependencies: &[Dependency], then: Generation) -> bool {
        then >= self.since
            && dependencies
                .iter()
                .all(|dependency| self.changed.get(dependency).is_none_or(|changed| *changed <= then))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dependencies(of: &[u8]) -> Dependencies {
        of.iter().map(Dependency::from_hash).collect()
    }

    #[test]
    fn facts_hold_until_one_of_them_changes() {
        let first = ChangeLog::default().anew();
        let mut second = first.next();
        second.change(dependencies(&[1])[0]);
        assert!(first.holds(&dependencies(&[1, 2]), first.now()));
        assert!(second.holds(&dependencies(&[2, 3]), first.now()));
        assert!(!second.holds(&dependencies(&[2, 1]), first.now()));
        assert!(second.next().holds(&dependencies(&[1]), second.now()), "bound after the change");
        assert!(!second.anew().holds(&dependencies(&[2]), second.now()));
    }

    #[test]
    fn more_changes_than_are_remembered_let_nothing_hold() {
        let first = ChangeLog::default().anew();
        let mut second = first.next();
        (0..=REMEMBERED as u64).for_each(|it| second.change(Dependency(it)));
        assert!(second.changed.len() <= REMEMBERED);
        assert!(!second.holds(&dependencies(&[7]), first.now()));
        assert!(second.holds(&dependencies(&[7]), second.now()));
    }
}
