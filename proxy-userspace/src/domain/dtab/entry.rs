//! A dtab and its entries.

use std::fmt;

use super::{NameTree, Prefix};
use crate::domain::name::Path;

/// A delegation table: its entries, weakest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dtab {
    /// The entries as they were written; the last one is tried first.
    pub entries: Vec<Dentry>,
}

/// One entry: names that start with `prefix` become `tree`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dentry {
    /// Which names it is for.
    pub prefix: Prefix,
    /// What they become; the rest of the name is appended to each leaf.
    pub tree: NameTree<Path>,
    /// Who wrote it.
    pub origin: Origin,
    /// Where it stands in what they wrote.
    pub at: Position,
}

/// Which dtab an entry comes from, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The base dtab, weir's or its replacement.
    Base,
    /// `dtab` in the configuration.
    Configured,
    /// The `l5d-ctx-dtab` header: an override that an earlier hop was given.
    Context,
    /// The `l5d-dtab` header: an override for this request.
    Request,
}

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

impl Dtab {
    /// Adds the entries of `stronger` after those here, so that they are tried before them.
    pub fn append(&mut self, stronger: Self) {
        self.entries.extend(stronger.entries);
    }

    /// Whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "base dtab",
            Self::Configured => "configured dtab",
            Self::Context => "l5d-ctx-dtab",
            Self::Request => "l5d-dtab",
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}
