//! Why a delegation failed. Unlike a name that does not exist, this is a mistake in a dtab.

use std::fmt;

use crate::domain::name::Path;

/// The most names shown of a growing chain: the first ones, which are short and show what is added.
const SHOWN: usize = 6;

/// How many names after the last one of a cycle are ignored when a cycle is looked for.
const LEADING_OUT: usize = 8;

/// Why a delegation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A name leads back to itself: a cycle.
    Cycle {
        /// The names in order; the last leads to the first.
        names: Vec<Path>,
        /// The number of successive look-ups.
        depth: usize,
    },
    /// A name leads to ever longer new names.
    Endless {
        /// The first names in order.
        names: Vec<Path>,
        /// The number of successive look-ups.
        depth: usize,
    },
    /// Parentheses, alternatives and names are nested too deeply.
    Nesting {
        /// The limit.
        limit: usize,
        /// A cycle in the dtab, if that is the cause; the last name leads to the first.
        cycle: Vec<Path>,
    },
    /// Too many combinations of alternatives.
    Work {
        /// The limit, in steps.
        limit: usize,
        /// A cycle in the dtab, if that is the cause; the last name leads to the first.
        cycle: Vec<Path>,
    },
    /// A name became too long.
    Length {
        /// The limit, in bytes.
        limit: usize,
    },
    /// Too many destinations for one name.
    Leaves {
        /// The limit.
        limit: usize,
    },
}

impl Failure {
    /// Whether only one branch of the dtab failed, so that another member of a union may still serve.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::Cycle { .. } | Self::Endless { .. } | Self::Length { .. } => true,
            Self::Nesting { .. } | Self::Work { .. } | Self::Leaves { .. } => false,
        }
    }

    /// The failure for `names`, a chain of look-ups that reached the limit, the first one first.
    pub(super) fn of_depth(names: &[&Path]) -> Self {
        let depth = names.len();
        let cycle = cycle(names);
        if cycle.is_empty() {
            let names = names.iter().take(SHOWN).map(|&name| name.clone()).collect();
            return Self::Endless { names, depth };
        }
        Self::Cycle { names: cycle, depth }
    }

    /// The failure for `names`, the current chain of look-ups, when the steps are used up.
    pub(super) fn of_work(limit: usize, names: &[&Path]) -> Self {
        Self::Work { limit, cycle: cycle(names) }
    }

    /// The failure for `names`, the current chain of look-ups, when the nesting limit is reached.
    pub(super) fn of_nesting(limit: usize, names: &[&Path]) -> Self {
        Self::Nesting { limit, cycle: cycle(names) }
    }
}

/// The cycle at the end of `names`, starting with its first name; empty if there is none. The very last names may be
/// outside the cycle, since they depend on where the limit was reached.
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
