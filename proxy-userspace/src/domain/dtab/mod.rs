//! Dtabs: the language in which routing is written.
//!
//! A dtab (delegation table, finagle's word) is a list of entries `prefix => tree;`. A name that starts with the
//! prefix becomes the tree, with the rest of the name appended to each leaf; the entry written last is tried first.
//! The tree's leaves are names again, joined by `|` (the first that exists), by `&` (a share of the requests each,
//! `0.1 * /a & 0.9 * /b`), or `!` (fail), `~` (no such name), `$` (exists but is empty).
//!
//! The language is linkerd's, letter for letter; [`Bounds`] and the rules for weights are the only additions.
//!
//! Deliberately absent: what names mean. That is [`route`](super::route).

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
