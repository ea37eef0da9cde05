//! Retries: whether ([`judge`]), how often ([`Tries`]), and how long to wait before a probe ([`Backoff`]).

mod backoff;
mod judge;
#[cfg(test)]
mod tests;
mod tries;

pub use backoff::Backoff;
pub use judge::{Reached, judge};
pub use tries::{Next, Tries};
