//! Floor 1: metrics and logging.
//!
//! Counts on the data path are plain atomics in the struct that owns them ([`Counter`], [`Gauge`], [`Histogram`]): no
//! label, lock or look-up per request. A scrape walks the owners and writes them through a [`Page`], so a removed
//! service takes its metrics with it, and ten thousand names need no label sets.
//!
//! Not here: a global registry, and prometheus-client's own histogram, which uses a mutex.

mod count;
mod histogram;
pub mod log;
mod page;
mod seldom;

pub use count::{Counter, Gauge};
pub use histogram::{BOUNDS, Histogram};
pub use page::{Page, Scrape, end, write};
pub use seldom::{Seldom, left_out};
