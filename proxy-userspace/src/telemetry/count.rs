//! Counters and gauges: one relaxed atomic each.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The number of events; it never decreases.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The current count.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The current number of something.
#[derive(Debug, Default)]
pub struct Gauge(AtomicUsize);

/// One unit of a [`Gauge`].
#[derive(Debug)]
pub struct HeldGauge<'a>(&'a Gauge);

impl Drop for HeldGauge<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Gauge {
    /// Adds one; returns the previous value.
    pub fn inc(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds one as long as the guard lives: also where a task is dropped before its end.
    pub fn held(&self) -> HeldGauge<'_> {
        self.inc();
        HeldGauge(self)
    }

    /// Subtracts one. Every call pairs with an earlier [`Gauge::inc`].
    pub fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Subtracts `n`. Each one pairs with an earlier [`Gauge::inc`].
    pub fn dec_by(&self, n: usize) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// The current value.
    pub fn value(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
