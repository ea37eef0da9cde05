//! Delegation: a name, rewritten by dtabs and asked of namers, until only places are left.

mod alternatives;
mod namers;
mod run;

use super::explain::{Explanation, Recording, Silent};
use super::{Bound, Configured, Failure, Names};
use crate::domain::dtab::{Dtab, NameTree};
use crate::domain::name::Path;
use run::Run;

/// Everything that a name's meaning depends on.
#[derive(Debug)]
pub struct Delegation<'a, N> {
    /// The dtabs, weakest first: the base dtab, the configured one, the request's own.
    pub dtabs: &'a [&'a Dtab],
    /// The configured namers in the order they are asked.
    pub namers: &'a [Configured],
    /// Who knows which names exist.
    pub names: &'a N,
    /// Where to give up.
    pub limits: Limits,
}

/// Where a delegation gives up. Each limit bounds time, memory or the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Names looked up one after the other (finagle's 100).
    pub depth: usize,
    /// Names, alternatives and unions inside one another.
    pub nesting: usize,
    /// Names and parts of trees looked at, all in all.
    pub steps: usize,
    /// Bytes of a name.
    pub name_bytes: usize,
    /// Places found, all in all.
    pub leaves: usize,
}

/// A tree whose leaves are all bound.
type Closed<P> = Result<NameTree<Bound<P>>, Failure>;

impl Limits {
    /// For dtabs that operators wrote.
    pub const CONFIGURATION: Self =
        Self { depth: 100, nesting: 450, steps: 10_000, name_bytes: 2_048, leaves: 256 };

    /// When a request brings entries of its own.
    pub const REQUEST: Self = Self { steps: 2_000, ..Self::CONFIGURATION };
}

impl Default for Limits {
    fn default() -> Self {
        Self::CONFIGURATION
    }
}

impl<N: Names> Delegation<'_, N> {
    /// Where `name` leads: a tree in which no alternative is left that is known not to exist. [`NameTree::Neg`] when
    /// nothing is left at all.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the dtabs lead in circles or too far.
    pub fn bind(&self, name: &Path) -> Closed<N::Port> {
        Run::new(self, &mut Silent).name(name, None, 0)
    }

    /// The same, and how it came about.
    pub fn explain(&self, name: &Path) -> Explanation<N::Port> {
        let mut recording = Recording::default();
        let result = Run::new(self, &mut recording).name(name, None, 0);
        recording.finish(name.clone(), result)
    }
}
