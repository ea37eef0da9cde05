//! Removes and counts the entries of connections that weir never accepted, once they are too old.
//!
//! The kernel copies a batch of entries per call, so a full table costs some hundred calls instead of 65,536; the
//! number of entries shown is that of the last sweep.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proxy_ebpf::{Address, Original, Tuple};

use super::heartbeat::monotonic_ns;
use super::original_dsts::OriginalDsts;
use super::sys;
use crate::telemetry::Counter;

/// Entries per step.
const BATCH: usize = 512;

/// The statistics of the sweeps.
#[derive(Debug, Default)]
pub struct Found {
    waiting: AtomicUsize,
    /// Entries that were removed because of their age.
    pub expired: Counter,
}

impl Found {
    /// The number of entries left by the last sweep: connections not accepted yet, and those of clients that gave up.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// A walk over all entries, in batches.
pub struct Sweep {
    original_dsts: OriginalDsts,
    age: Duration,
    at: Option<u32>,
    keys: Vec<Tuple>,
    values: Vec<Original>,
    waiting: usize,
}

impl Sweep {
    pub(super) fn new(original_dsts: OriginalDsts, age: Duration) -> Self {
        let none = Address { words: [0; 4] };
        let tuple = Tuple { client: none, node: none, client_port: 0, node_port: 0, sequence: 0 };
        let original =
            Original { address: none, cgroup: 0, pod: 0, netns: 0, at: 0, port: 0, flags: 0, layout: 0 };
        let (keys, values) = (vec![tuple; BATCH], vec![original; BATCH]);
        Self { original_dsts, age, at: None, keys, values, waiting: 0 }
    }

    /// Checks the next batch of entries; returns whether there are more. An entry added meanwhile may be missed.
    ///
    /// # Errors
    ///
    /// The kernel lacks memory for the copies.
    pub fn step(&mut self) -> io::Result<bool> {
        let table = self.original_dsts.table();
        let (count, more) = sys::read_batch(table, &mut self.at, &mut self.keys, &mut self.values)?;
        let now = monotonic_ns();
        let age = u64::try_from(self.age.as_nanos()).unwrap_or(u64::MAX);
        let is_old = |filed: &Original| now.saturating_sub(filed.at) >= age;
        for (tuple, _) in self.keys.iter().zip(&self.values).take(count).filter(|(_, filed)| is_old(filed)) {
            match sys::take(table, tuple) {
                Some(new) if !is_old(&new) => sys::put_back(table, tuple, &new),
                Some(_) => self.original_dsts.found().expired.inc(),
                None => {}
            }
        }
        self.waiting += self.values.iter().take(count).filter(|filed| !is_old(filed)).count();
        if !more {
            self.original_dsts.found().waiting.store(self.waiting, Ordering::Relaxed);
        }
        Ok(more)
    }
}
