//! Why a delegation came to no end. Unlike a name that does not exist, this is a mistake in a dtab.

use std::fmt;

use crate::domain::name::Path;

/// Names of a growing chain that are shown: the first ones, which are short and show what is added.
const SHOWN: usize = 6;

/// Names after the last one of a circle that do not hide it.
const LEADING_OUT: usize = 8;

/// Why a delegation was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A name leads back to itself.
    Cycle {
        /// The names in order; the last leads to the first.
        names: Vec<Path>,
        /// How many names were looked up one after the other.
        depth: usize,
    },
    /// A name leads to ever new names.
    Endless {
        /// The first names in order.
        names: Vec<Path>,
        /// How many names were looked up one after the other.
        depth: usize,
    },
    /// Parentheses, alternatives and names lie too deep inside one another.
    Nesting {
        /// The limit.
        limit: usize,
        /// A circle in the dtab, where that is the cause; the last name leads to the first.
        cycle: Vec<Path>,
    },
    /// Alternatives of alternatives: there are too many ways.
    Work {
        /// The limit, in steps.
        limit: usize,
        /// A circle in the dtab, where that is the cause; the last name leads to the first.
        cycle: Vec<Path>,
    },
    /// A name has grown too long.
    Length {
        /// The limit, in bytes.
        limit: usize,
    },
    /// Too many places for one name.
    Leaves {
        /// The limit.
        limit: usize,
    },
}

impl Failure {
    /// Whether only one way through the dtab is spoilt, so that another member of a union may still serve.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::Cycle { .. } | Self::Endless { .. } | Self::Length { .. } => true,
            Self::Nesting { .. } | Self::Work { .. } | Self::Leaves { .. } => false,
        }
    }

    /// What is wrong with `names`, which were looked up one after the other, the first one first.
    pub(super) fn of_depth(names: &[&Path]) -> Self {
        let depth = names.len();
        let cycle = cycle(names);
        if cycle.is_empty() {
            let names = names.iter().take(SHOWN).map(|&name| name.clone()).collect();
            return Self::Endless { names, depth };
        }
        Self::Cycle { names: cycle, depth }
    }

    /// `names` are being looked up, and the steps are used up.
    pub(super) fn of_work(limit: usize, names: &[&Path]) -> Self {
        Self::Work { limit, cycle: cycle(names) }
    }

    /// `names` are being looked up, and the stack is used up.
    pub(super) fn of_nesting(limit: usize, names: &[&Path]) -> Self {
        Self::Nesting { limit, cycle: cycle(names) }
    }
}

/// The circle that `names` end in, from the name by which it was entered; empty if they do not. The very last names
/// may lead out of it, since they are those at which the limit happened to be met.
fn cycle(names: &[&Path]) -> Vec<Path> {
    for end in (names.len().saturating_sub(LEADING_OUT)..names.len()).rev() {
        let (before, last) = (&names[..end], names[end]);
        if let Some(first) = before.iter().rposition(|name| *name == last) {
            let circle = &before[first..];
            let entered = names.iter().position(|name| circle.contains(name)).unwrap_or(first);
            return names[entered..].iter().take(circle.len()).map(|&name| name.clone()).collect();
        }
    }
    Vec::new()
}

/// `/a -> /b -> /a`.
fn write_cycle(f: &mut fmt::Formatter<'_>, names: &[Path]) -> fmt::Result {
    names.iter().try_for_each(|name| write!(f, "{name} -> "))?;
    names.first().map_or(Ok(()), |first| write!(f, "{first}"))
}

fn write_cause(f: &mut fmt::Formatter<'_>, cycle: &[Path]) -> fmt::Result {
    if cycle.is_empty() {
        return Ok(());
    }
    f.write_str(", for it goes in a circle: ")?;
    write_cycle(f, cycle)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cycle { names, depth } => {
                f.write_str("the dtab goes in a circle: ")?;
                write_cycle(f, names)?;
                write!(f, " (given up after {depth} names)")
            }
            Self::Endless { names, depth } => {
                f.write_str("the dtab leads to ever new names: ")?;
                names.iter().try_for_each(|name| write!(f, "{name} -> "))?;
                write!(f, "… (given up after {depth} names)")
            }
            Self::Nesting { limit, cycle } => {
                write!(f, "the dtab's alternatives lie more than {limit} deep")?;
                write_cause(f, cycle)
            }
            Self::Work { limit, cycle } => {
                write!(f, "the dtab leads to too many alternatives (over {limit} steps)")?;
                write_cause(f, cycle)
            }
            Self::Length { limit } => write!(f, "the name has, or grows to, more than {limit} bytes"),
            Self::Leaves { limit } => write!(f, "the dtab leads one name to more than {limit} places"),
        }
    }
}

impl std::error::Error for Failure {}
