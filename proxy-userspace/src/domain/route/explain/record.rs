//! Recording a delegation.

use super::roles;
use super::step::{Explanation, Role, Step, Verdict, What};
use crate::domain::dtab::NameTree;
use crate::domain::name::Path;
use crate::domain::route::{Bound, Failure};

/// The most steps recorded; further ones are only counted.
const KEPT: usize = 2_000;

/// Receives the steps of a delegation. Each opened step is closed, inner ones first.
pub(in crate::domain::route) trait Recorder {
    /// Whether steps are recorded, so that untried alternatives are worth reporting.
    const LISTENS: bool;

    /// A step begins.
    fn open(&mut self, what: impl FnOnce() -> What);

    /// The innermost open step ends.
    fn close(&mut self, verdict: impl FnOnce() -> Verdict);

    /// The innermost open step ends with this result.
    fn close_with<P>(&mut self, closed: &Result<NameTree<Bound<P>>, Failure>);
}

/// Records nothing.
pub(in crate::domain::route) struct Silent;

/// Records the steps.
#[derive(Default)]
pub(in crate::domain::route) struct Recording {
    /// The open steps, outermost first.
    open: Vec<Step>,
    done: Option<Step>,
    kept: usize,
    /// The number of open steps that are not recorded.
    dropped: usize,
    omitted: usize,
}

impl Recorder for Silent {
    const LISTENS: bool = false;

    fn open(&mut self, _: impl FnOnce() -> What) {}

    fn close(&mut self, _: impl FnOnce() -> Verdict) {}

    fn close_with<P>(&mut self, _: &Result<NameTree<Bound<P>>, Failure>) {}
}

impl Recorder for Recording {
    const LISTENS: bool = true;

    fn open(&mut self, what: impl FnOnce() -> What) {
        if self.kept >= KEPT {
            self.dropped += 1;
            self.omitted += 1;
            return;
        }
        self.kept += 1;
        self.open.push(Step {
            what: what(),
            verdict: Verdict::Untried,
            role: Role::Passed,
            steps: Vec::new(),
        });
    }

    fn close(&mut self, verdict: impl FnOnce() -> Verdict) {
        self.end(|_| verdict());
    }

    fn close_with<P>(&mut self, closed: &Result<NameTree<Bound<P>>, Failure>) {
        self.end(|inner| match (closed, inner.last().map(|step| &step.verdict)) {
            // A failure passes through all names that led to it; only the innermost step shows it.
            (Err(_), Some(Verdict::Error { .. })) => Verdict::Error { why: None },
            (Ok(NameTree::Neg), _) if inner.iter().any(Step::is_unknown) => Verdict::Unknown { why: None },
            _ => Verdict::new(closed),
        });
    }
}

impl Recording {
    fn end(&mut self, verdict: impl FnOnce(&[Step]) -> Verdict) {
        if self.dropped > 0 {
            self.dropped -= 1;
            return;
        }
        let Some(mut step) = self.open.pop() else { return };
        step.verdict = verdict(&step.steps);
        match self.open.last_mut() {
            Some(outer) => outer.steps.push(step),
            None => self.done = Some(step),
        }
    }

    /// The explanation of `name`, which led to `result`.
    pub(in crate::domain::route) fn finish<P>(
        self,
        name: Path,
        result: Result<NameTree<Bound<P>>, Failure>,
    ) -> Explanation<P> {
        let mut root = self.done.expect("a delegation opens and closes its name");
        roles::assign(&mut root);
        Explanation { name, result, root, omitted: self.omitted }
    }
}
