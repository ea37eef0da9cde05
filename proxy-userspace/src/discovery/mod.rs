//! Placeholder.
pub mod dns;
