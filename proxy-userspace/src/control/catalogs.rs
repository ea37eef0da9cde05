//! The catalog in force, and statistics about catalog changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::domain::catalog::{Catalog, Changes};
use crate::telemetry::{Counter, Histogram};

/// The catalog in force, and its change counters.
pub struct Catalogs {
    in_force: ArcSwap<Catalog>,
    /// Whether a catalog has been applied that lacks nothing awaited.
    complete: AtomicBool,
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
        let complete = AtomicBool::new(false);
        Self { in_force, complete, changes: Default::default(), duration: Histogram::default() }
    }

    /// The catalog in force.
    pub fn in_force(&self) -> Arc<Catalog> {
        self.in_force.load_full()
    }

    /// Whether all sources' services are known, and requests and the programs use them.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }

    /// Puts `catalog` in force.
    pub fn replace(&self, catalog: Arc<Catalog>) {
        self.in_force.store(catalog);
    }

    /// Records an applied catalog: its changes and how long applying took.
    pub fn took_over(&self, changes: &Changes, took: Duration) {
        self.complete.store(self.in_force.load().awaited.is_none(), Ordering::Relaxed);
        let Changes { added, removed, changed, awaited: _, nodes: _ } = changes;
        for (count, keys) in self.changes.iter().zip([added, removed, changed]) {
            count.add(keys.len() as u64);
        }
        if !changes.is_empty() {
            self.duration.observe(took);
        }
    }
}
