//! Dtabs: the language of routing rules.
//!
//! A dtab (delegation table, finagle's word) is a list of entries `prefix => tree;`. A name that starts with the
//! prefix is replaced by the tree, with the rest of the name appended to each leaf; the last entry is tried first.
//! The tree's leaves are again names, combined by `|` (the first that exists) or `&` (each gets a share of the
//! requests, `0.1 * /a & 0.9 * /b`), or `!` (fail), `~` (no such name), `$` (exists but is empty).
//!
//! The syntax is exactly linkerd's; [`Bounds`] and the rules for weights are the only additions.
//!
//! Not here: the meaning of names. See [`route`](super::route).

mod base;
mod bounds;
mod entry;
mod parse;
mod prefix;
mod print;
mod problem;
mod tree;

#[cfg(test)]
mod tests;

pub use base::BASE;
pub use bounds::Bounds;
pub use entry::{Dentry, Dtab, Origin, Position};
pub use parse::LARGEST_WEIGHT;
pub use prefix::{Element, Prefix};
pub use problem::{DtabError, Problem};
pub use tree::{NameTree, Weighted};
