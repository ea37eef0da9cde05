//! Counters and gauges: one relaxed atomic each.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A number of things that happened; it only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many of something there are now.
#[derive(Debug, Default)]
pub struct Gauge(AtomicUsize);

impl Gauge {
    /// One more; returns how many there were before.
    pub fn inc(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    /// One less. Every call pairs with an earlier [`Gauge::inc`].
    pub fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// `n` less. Every one pairs with an earlier [`Gauge::inc`].
    pub fn dec_by(&self, n: usize) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// How many there are.
    pub fn value(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
