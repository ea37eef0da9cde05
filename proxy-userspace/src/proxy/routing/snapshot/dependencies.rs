//! What a bound name depends on, and which of that has changed since.
//!
//! A name stays bound as long as every service and address that was asked about when it was bound, including those that
//! did not exist, is unchanged. Each such dependency is a number here, so that a route's dependencies are a few words;
//! a collision of two numbers occasionally causes a needless rebinding, never a wrong binding.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use imbl::OrdMap;
use smallvec::SmallVec;

use crate::domain::catalog::ServiceKey;

/// One thing that a binding may depend on: that a service exists and what its ports are, who owns an address and port,
/// or what is known at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependency(u64);

/// The dependencies of one name.
pub type Dependencies = SmallVec<[Dependency; 4]>;

/// What a binding depends on.
#[derive(Clone, Debug, Default)]
pub struct BoundBy {
    /// Its dependencies.
    pub dependencies: Dependencies,
    /// What was not known yet and may change the binding.
    pub unknown: Option<String>,
}

/// The number of a snapshot in its sequence; later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(u64);

/// Changes that are remembered; beyond that, every name is rebound once.
const REMEMBERED: usize = 16_384;

/// When each dependency changed. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct ChangeLog {
    now: Generation,
    /// Bindings from before this generation are invalid: the rules changed, or the changes are no longer remembered.
    since: Generation,
    changed: OrdMap<Dependency, Generation>,
}

impl Dependency {
    /// A service and its ports.
    pub(super) fn service(key: &ServiceKey) -> Self {
        Self::from_hash(key)
    }

    /// The owner of an address and port.
    pub(super) fn address(address: IpAddr, port: u16) -> Self {
        Self::from_hash(&(address, port))
    }

    /// The owner of a port at nodes' addresses.
    pub(super) fn node_port(port: u16) -> Self {
        Self::from_hash(&("node port", port))
    }

    /// The set of nodes' addresses.
    pub(super) fn nodes() -> Self {
        Self::from_hash(&"nodes")
    }

    /// Whether the cluster's services are known.
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
    /// The present generation.
    pub(super) fn now(&self) -> Generation {
        self.now
    }

    /// The log of the next snapshot, without changes so far.
    pub(super) fn next(&self) -> Self {
        Self { now: Generation(self.now.0 + 1), ..self.clone() }
    }

    /// The log of the next snapshot, in which all earlier bindings are invalid.
    pub(super) fn anew(&self) -> Self {
        let now = Generation(self.now.0 + 1);
        Self { now, since: now, changed: OrdMap::new() }
    }

    /// Records that `dependency` changes in this snapshot.
    pub(super) fn change(&mut self, dependency: Dependency) {
        if self.changed.len() >= REMEMBERED {
            (self.since, self.changed) = (self.now, OrdMap::new());
        }
        self.changed.insert(dependency, self.now);
    }

    /// Whether `dependencies` are unchanged since the snapshot of `then`.
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
