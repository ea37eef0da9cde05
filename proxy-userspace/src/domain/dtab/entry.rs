//! A dtab and its entries.

use std::fmt;

use super::{NameTree, Prefix};
use crate::domain::name::Path;

/// A delegation table: its entries, lowest precedence first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dtab {
    /// The entries in source order; the last one is tried first.
    pub entries: Vec<Dentry>,
}

/// One entry: names that start with `prefix` become `tree`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dentry {
    /// The names it applies to.
    pub prefix: Prefix,
    /// The replacement; the rest of the name is appended to each leaf.
    pub tree: NameTree<Path>,
    /// Where the entry comes from.
    pub origin: Origin,
    /// Its position in that source.
    pub at: Position,
}

/// The source of an entry, lowest precedence first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The base dtab, weir's or its replacement.
    Base,
    /// An object of the cluster (`outgoing.interpreter`).
    Stored,
    /// `dtab` in the configuration.
    Configured,
    /// The `l5d-ctx-dtab` header: an override passed on by an earlier hop.
    Context,
    /// The `l5d-dtab` header: an override for this request.
    Request,
}

/// A position in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

impl Dtab {
    /// Appends the entries of `stronger`, so that they are tried before the existing ones.
    pub fn append(&mut self, stronger: Self) {
        self.entries.extend(stronger.entries);
    }

    /// This dtab with `stored`, entries of an object of the cluster: after those of the base dtab, before the others.
    pub fn with_stored(&self, stored: &Self) -> Self {
        let at = self.entries.iter().position(|entry| entry.origin > Origin::Stored);
        let (base, own) = self.entries.split_at(at.unwrap_or(self.entries.len()));
        Self { entries: [base, &stored.entries, own].concat() }
    }

    /// Whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Origin {
    /// Whether an operator wrote it, and not the sender of a request.
    pub fn is_operators(self) -> bool {
        matches!(self, Self::Base | Self::Stored | Self::Configured)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "base dtab",
            Self::Stored => "dtab of the cluster",
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
