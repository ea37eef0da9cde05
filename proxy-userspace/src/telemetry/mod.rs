//! Floor 1: counting and telling.
//!
//! Whatever is counted on the data path is a plain atomic in the struct that owns it ([`Counter`], [`Gauge`],
//! [`Histogram`]): no label, lock or look-up when a request passes. On a scrape the owners are walked and
//! written out through a [`Page`], so a service that is gone takes its metrics with it, and ten thousand
//! names cost no label set each.
//!
//! Deliberately absent: a global registry, and prometheus-client's own histogram, which is a mutex.

mod count;
mod histogram;
pub mod log;
mod page;

pub use count::{Counter, Gauge};
pub use histogram::{BOUNDS, Histogram};
pub use page::{Page, Scrape, render};
