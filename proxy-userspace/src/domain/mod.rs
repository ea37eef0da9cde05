//! Floor 0: weir's decisions, without I/O.
//!
//! Pure by rule: no tokio, no sockets, no clock, no global randomness. `now` and the random source are arguments, so
//! that a unit test can simulate a whole cluster of endpoints.

pub mod balance;
pub mod catalog;
pub mod dtab;
pub mod enrol;
pub mod health;
pub mod hops;
pub mod identify;
pub mod identity;
pub mod memory;
pub mod name;
pub mod outcome;
pub mod pace;
pub mod pods;
pub mod policy;
pub mod ports;
pub mod retry;
pub mod route;
pub mod shares;
pub mod silence;
pub mod sniff;
pub mod ssrf;
pub mod tunnel;

#[cfg(test)]
mod sim;
