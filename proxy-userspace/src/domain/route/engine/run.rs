//! A delegation in progress.

use super::alternatives::Alternatives;
use super::{Closed, Delegation, Provenance};
use crate::domain::dtab::{Dentry, NameTree, Weighted};
use crate::domain::name::{Labels, Path};
use crate::domain::route::explain::{Recorder, Verdict, What};
use crate::domain::route::{Failure, Names};

/// A delegation in progress: its inputs, what it has spent of its limits, and its recorder.
pub(super) struct Run<'a, N, R> {
    pub(super) delegation: &'a Delegation<'a, N>,
    pub(super) recorder: &'a mut R,
    steps: usize,
    leaves: usize,
    /// How many entries of the request were applied.
    by_request: usize,
}

/// A name being looked up, and the chain of names that led to it.
#[derive(Clone, Copy)]
pub(super) struct Frame<'f> {
    pub(super) name: &'f Path,
    /// Who chose it.
    pub(super) by: Provenance,
    before: Option<&'f Self>,
    depth: usize,
}

impl<'f> Frame<'f> {
    /// The chain of names being looked up, the first one first.
    fn names(&self) -> Vec<&'f Path> {
        let mut names = Vec::with_capacity(self.depth);
        let mut frame = Some(self);
        while let Some(it) = frame {
            names.push(it.name);
            frame = it.before;
        }
        names.reverse();
        names
    }
}

impl<'a, N: Names, R: Recorder> Run<'a, N, R> {
    pub(super) fn new(delegation: &'a Delegation<'a, N>, recorder: &'a mut R) -> Self {
        Self { delegation, recorder, steps: 0, leaves: 0, by_request: 0 }
    }

    /// Names and parts of trees evaluated so far.
    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    /// Looks up `name`, which was reached from `before`; `by` says who wrote it. `nesting` limits the depth of the stack.
    pub(super) fn name(
        &mut self,
        name: &Path,
        by: Provenance,
        before: Option<&Frame<'_>>,
        nesting: usize,
    ) -> Closed<N::Port> {
        self.recorder.open(|| What::name(name));
        let depth = before.map_or(0, |frame| frame.depth) + 1;
        // The request's entries lead where its Host could have led as well: from here on they had no part.
        let is_free = by.is_by_request() && self.delegation.names.is_askable(name.labels());
        let by = if is_free { Provenance::ASKED } else { by };
        let closed = self.look_up(&Frame { name, by, before, depth }, nesting);
        self.recorder.close_with(&closed);
        closed
    }

    fn look_up(&mut self, frame: &Frame<'_>, nesting: usize) -> Closed<N::Port> {
        let limits = &self.delegation.limits;
        if frame.depth > limits.depth {
            return Err(Failure::of_depth(&frame.names()));
        }
        if frame.name.size() > limits.name_bytes {
            return Err(Failure::Length { limit: limits.name_bytes });
        }
        self.step(frame, nesting)?;
        match self.entries(frame, nesting)? {
            Some(found) => Ok(found),
            None => self.namers(frame, nesting),
        }
    }

    /// Applies the dtabs' entries to the name, the last entry first; `None` if none matches.
    fn entries(&mut self, frame: &Frame<'_>, nesting: usize) -> Result<Option<NameTreeOf<N>>, Failure> {
        let name = frame.name.labels();
        let (mut frame, mut found) = (*frame, Alternatives::new());
        let mut matched = false;
        for dtab in self.delegation.dtabs.iter().rev() {
            for (index, entry) in dtab.entries.iter().enumerate().rev() {
                if !entry.prefix.matches(name) {
                    continue;
                }
                matched = true;
                if !found.is_settled() {
                    self.recorder.open(|| What::entry(index, entry));
                    let rest = name.skip(entry.prefix.len());
                    let before = self.by_request;
                    let closed = self.tree(&entry.tree, (entry, rest), &frame, nesting + 1);
                    self.recorder.close_with(&closed);
                    found.add(closed)?;
                    // Where an entry of the request leads nowhere, the next one is what would be reached without it.
                    match entry.origin.is_operators() {
                        true => frame = self.alternative(frame, before),
                        false => self.by_request += 1,
                    }
                } else if R::LISTENS {
                    self.recorder.open(|| What::entry(index, entry));
                    self.recorder.close(|| Verdict::Untried);
                } else {
                    return Ok(Some(found.into_tree()));
                }
            }
        }
        Ok(matched.then(|| found.into_tree()))
    }

    /// Evaluates `tree`, a part of `entry`, with `rest` appended to its leaves.
    fn tree(
        &mut self,
        tree: &NameTree<Path>,
        (entry, rest): (&Dentry, Labels<'_>),
        frame: &Frame<'_>,
        nesting: usize,
    ) -> Closed<N::Port> {
        self.step(frame, nesting)?;
        match tree {
            NameTree::Leaf(path) => {
                let limit = self.delegation.limits.name_bytes;
                if path.size() + rest.size() > limit {
                    return Err(Failure::Length { limit });
                }
                let by = frame.by.after_entry(entry.origin, entry.prefix.len(), path.len());
                self.name(&path.join(rest), by, Some(frame), nesting + 1)
            }
            NameTree::Alt(members) => {
                self.recorder.open(|| What::Alternatives);
                let closed = self.alternatives(members, (entry, rest), frame, nesting + 1);
                self.recorder.close_with(&closed);
                closed
            }
            NameTree::Union(members) => {
                self.recorder.open(|| What::Union);
                let closed = self.union(members, (entry, rest), frame, nesting + 1);
                self.recorder.close_with(&closed);
                closed
            }
            NameTree::Neg => self.sign("~", NameTree::Neg),
            NameTree::Fail => self.sign("!", NameTree::Fail),
            NameTree::Empty => self.sign("$", NameTree::Empty),
        }
    }

    fn sign(&mut self, sign: &'static str, meaning: NameTreeOf<N>) -> Closed<N::Port> {
        self.recorder.open(|| What::Sign(sign));
        let closed = Ok(meaning);
        self.recorder.close_with(&closed);
        closed
    }

    fn alternatives(
        &mut self,
        members: &[NameTree<Path>],
        of: (&Dentry, Labels<'_>),
        frame: &Frame<'_>,
        nesting: usize,
    ) -> Closed<N::Port> {
        let (mut frame, mut found) = (*frame, Alternatives::new());
        for member in members {
            if !found.is_settled() {
                let before = self.by_request;
                found.add(self.tree(member, of, &frame, nesting))?;
                frame = self.alternative(frame, before);
            } else if R::LISTENS {
                self.recorder.open(|| What::tree(member));
                self.recorder.close(|| Verdict::Untried);
            } else {
                break;
            }
        }
        Ok(found.into_tree())
    }

    /// `frame` for the next alternative: the request has a part in it if it had one in those before, since `before` of
    /// its entries had been applied.
    pub(super) fn alternative<'f>(&self, frame: Frame<'f>, before: usize) -> Frame<'f> {
        let by = if self.by_request > before { frame.by.as_alternative() } else { frame.by };
        Frame { by, ..frame }
    }

    /// How many entries of the request were applied so far.
    pub(super) fn applied_by_request(&self) -> usize {
        self.by_request
    }

    /// Negative and failing members are dropped. So is one whose delegation fails, unless none is left.
    fn union(
        &mut self,
        members: &[Weighted<Path>],
        of: (&Dentry, Labels<'_>),
        frame: &Frame<'_>,
        nesting: usize,
    ) -> Closed<N::Port> {
        let mut there = Vec::new();
        let mut failure = None;
        let mut any_well = false;
        for Weighted { weight, tree } in members {
            self.recorder.open(|| What::Member { weight: *weight, share: None });
            let closed = self.tree(tree, of, frame, nesting);
            self.recorder.close_with(&closed);
            match closed {
                Ok(tree) => {
                    any_well = true;
                    if !matches!(tree, NameTree::Neg | NameTree::Fail) {
                        there.push(Weighted { weight: *weight, tree });
                    }
                }
                Err(local) if local.is_local() => failure = failure.or(Some(local)),
                Err(general) => return Err(general),
            }
        }
        match failure {
            Some(failure) if !any_well => Err(failure),
            _ if there.is_empty() => Ok(NameTree::Neg),
            _ if there.len() == 1 => Ok(there.remove(0).tree),
            _ => Ok(NameTree::Union(there)),
        }
    }

    /// Counts a step, and checks the nesting.
    fn step(&mut self, frame: &Frame<'_>, nesting: usize) -> Result<(), Failure> {
        let limits = &self.delegation.limits;
        self.steps += 1;
        if self.steps > limits.steps {
            return Err(Failure::of_work(limits.steps, &frame.names()));
        }
        if nesting > limits.nesting {
            return Err(Failure::of_nesting(limits.nesting, &frame.names()));
        }
        Ok(())
    }

    /// Counts a destination.
    pub(super) fn leaf(&mut self) -> Result<(), Failure> {
        let limit = self.delegation.limits.leaves;
        self.leaves += 1;
        if self.leaves > limit { Err(Failure::Leaves { limit }) } else { Ok(()) }
    }
}

/// The result tree of a delegation over `N`.
type NameTreeOf<N> = NameTree<crate::domain::route::Bound<<N as Names>::Port>>;
