//! Fair shares of what all clients of a node use together: connections, look-ups, memory.
//!
//! Max-min fair (Bertsekas and Gallager, "Data Networks", §6.5.2), first among namespaces and then among the pods of each:
//! whoever wants less than an equal part gets all that it wants, and what it leaves is divided equally among the others.
//! So nothing stays unused while somebody wants it, and only those above their share have to give something up.
//!
//! [`divide`] computes the shares. [`Ledger`] counts who uses how much, one unit at a time, and says who has to give
//! way to a newcomer; it ends in the same shares, to within one unit.
//!
//! Not here: what a unit is, and how one is taken back.

mod fair;
mod ledger;
#[cfg(test)]
mod tests;

pub use fair::{divide, level};
pub use ledger::{Ledger, Used};
