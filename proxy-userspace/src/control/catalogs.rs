//! The catalog in force, and statistics about catalog changes.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::domain::catalog::{Catalog, Changes};
use crate::telemetry::{Counter, Histogram};

/// The catalog in force, and its change counters.
pub struct Catalogs {
    in_force: ArcSwap<Catalog>,
    /// Services added, removed and changed.
    pub(super) changes: [Counter; Self::CHANGES.len()],
    /// Time from receiving a catalog until requests and the programs use it.
    pub(super) duration: Histogram,
}

impl Catalogs {
    /// The label values of changes, in order.
    pub(super) const CHANGES: [&'static str; 3] = ["added", "removed", "changed"];

    pub(super) fn new(at_start: Arc<Catalog>) -> Self {
        let in_force = ArcSwap::new(at_start);
        Self { in_force, changes: Default::default(), duration: Histogram::default() }
    }

    /// The catalog in force.
    pub fn in_force(&self) -> Arc<Catalog> {
        self.in_force.load_full()
    }

    /// Puts `catalog` in force.
    pub fn replace(&self, catalog: Arc<Catalog>) {
        self.in_force.store(catalog);
    }

    /// Records an applied catalog: its changes and how long applying took.
    pub fn took_over(&self, changes: &Changes, took: Duration) {
        let Changes { added, removed, changed, awaited: _, nodes: _ } = changes;
        for (count, keys) in self.changes.iter().zip([added, removed, changed]) {
            count.add(keys.len() as u64);
        }
        if !changes.is_empty() {
            self.duration.observe(took);
        }
    }
}
