//! How long to wait before trying again.
//!
//! Deliberately absent: how often. A limit on attempts belongs to whoever tries.

mod backoff;
#[cfg(test)]
mod tests;

pub use backoff::Backoff;
