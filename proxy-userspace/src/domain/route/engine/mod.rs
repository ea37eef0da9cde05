//! Delegation: a name is rewritten by dtabs and resolved by namers until only destinations are left.

mod alternatives;
mod namers;
mod provenance;
mod run;

use super::explain::{Explanation, Recording, Silent};
use super::{Bound, Configured, Failure, Names};
use crate::domain::dtab::{Dtab, NameTree};
use crate::domain::name::Path;
use provenance::Provenance;
use run::Run;

/// Everything that the result for a name depends on.
#[derive(Debug)]
pub struct Delegation<'a, N> {
    /// The dtabs, lowest precedence first: the base dtab, the configured one, the request's own.
    pub dtabs: &'a [&'a Dtab],
    /// The configured namers in the order they are asked.
    pub namers: &'a [Configured],
    /// Knows which names exist.
    pub names: &'a N,
    /// The limits of the delegation.
    pub limits: Limits,
}

/// The limits of a delegation. Each bounds time, memory or stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Successive look-ups (finagle's 100).
    pub depth: usize,
    /// Nesting of names, alternatives and unions.
    pub nesting: usize,
    /// Names and parts of trees evaluated in total.
    pub steps: usize,
    /// Bytes of a name.
    pub name_bytes: usize,
    /// Destinations found in total.
    pub leaves: usize,
}

/// A tree whose leaves are all bound.
type Closed<P> = Result<NameTree<Bound<P>>, Failure>;

impl Limits {
    /// For dtabs that operators wrote.
    pub const CONFIGURATION: Self =
        Self { depth: 100, nesting: 450, steps: 10_000, name_bytes: 2_048, leaves: 256 };

    /// When a request brings its own entries.
    pub const REQUEST: Self = Self { steps: 2_000, ..Self::CONFIGURATION };
}

impl Default for Limits {
    fn default() -> Self {
        Self::CONFIGURATION
    }
}

impl<N: Names> Delegation<'_, N> {
    /// The tree of destinations of `name`, without alternatives that are known not to exist. [`NameTree::Neg`] if none
    /// is left.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the dtabs contain a cycle or exceed a limit.
    pub fn bind(&self, name: &Path) -> Closed<N::Port> {
        Run::new(self, &mut Silent).name(name, Provenance::ASKED, None, 0)
    }

    /// As [`bind`](Self::bind), with the number of steps that it took.
    pub fn bind_counting(&self, name: &Path) -> (Closed<N::Port>, usize) {
        let mut silent = Silent;
        let mut run = Run::new(self, &mut silent);
        (run.name(name, Provenance::ASKED, None, 0), run.steps())
    }

    /// As [`bind`](Self::bind), with every step of the delegation.
    pub fn explain(&self, name: &Path) -> Explanation<N::Port> {
        let mut recording = Recording::default();
        let result = Run::new(self, &mut recording).name(name, Provenance::ASKED, None, 0);
        recording.finish(name.clone(), result)
    }
}
