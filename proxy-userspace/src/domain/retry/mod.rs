//! Trying again: how often ([`Tries`]), and how long to wait before a probe ([`Backoff`]).

mod backoff;
#[cfg(test)]
mod tests;
mod tries;

pub use backoff::Backoff;
pub use tries::{Next, Tries};
