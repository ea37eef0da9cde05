//! The last step of delegation: namers, for a name that no entry matches.

use super::run::{Frame, Run};
use super::{Closed, Provenance};
use crate::domain::dtab::NameTree;
use crate::domain::name::Path;
use crate::domain::route::explain::{Recorder, Verdict, What};
use crate::domain::route::utility::{self, Builtin};
use crate::domain::route::{
    Answer, Bound, Configured, Failure, Kind, Names, Outside, Resolver, Target, Transform,
};

impl<N: Names, R: Recorder> Run<'_, N, R> {
    /// Asks the configured namers in order until one does not answer neg; then the built-in ones.
    pub(super) fn namers(&mut self, frame: &Frame<'_>, nesting: usize) -> Closed<N::Port> {
        let name = frame.name.labels();
        let (mut frame, mut asked) = (*frame, false);
        for namer in self.delegation.namers {
            let Some(rest) = namer.rest(name) else { continue };
            asked = true;
            self.recorder.open(|| What::Namer(format!("/#{}", namer.prefix)));
            let before = self.applied_by_request();
            let found = match &namer.resolver {
                Resolver::Find(kind) if namer.transform.is_empty() => {
                    self.find(kind, &frame, name.len() - rest.len(), nesting)
                }
                Resolver::Find(kind) => {
                    self.transformed(kind, &namer.transform, &frame, name.len() - rest.len(), nesting)
                }
                Resolver::Rewrite(rewrite) => {
                    match rewrite.apply(rest, &|label| self.delegation.names.scope_of(label)) {
                        Some(path) => {
                            let by = match rewrite.is_constant() {
                                true => frame.by.after_template(path.len()),
                                false => frame.by.after_namer(name.len(), path.len()),
                            };
                            return self.rewritten(&path, by, &frame, nesting);
                        }
                        None => self.neg(|| format!("{rest} is not of the pattern {}", rewrite.pattern())),
                    }
                }
            };
            match found {
                Ok(NameTree::Neg) => frame = self.alternative(frame, before),
                found => return found,
            }
        }
        if name.get(0) == Some(b"$") {
            return self.builtin(&frame, nesting);
        }
        if !asked {
            self.recorder.open(|| What::Nobody);
            let namers = self.delegation.namers;
            return self.neg(|| nobody(frame.name, namers));
        }
        Ok(NameTree::Neg)
    }

    fn builtin(&mut self, frame: &Frame<'_>, nesting: usize) -> Closed<N::Port> {
        let name = frame.name.labels();
        self.recorder.open(|| What::Namer(name.take(2).to_string()));
        match utility::look_up(name, &|label| self.delegation.names.scope_of(label)) {
            Builtin::Path(path) => {
                let by = frame.by.after_namer(name.len(), path.len());
                self.rewritten(&path, by, frame, nesting)
            }
            Builtin::Find(kind) => self.find(&kind, frame, 2, nesting),
            Builtin::Outside { outside, taken } => self.outside(outside, frame, taken),
            Builtin::Fail => self.decided(NameTree::Fail),
            Builtin::Empty => self.decided(NameTree::Empty),
            Builtin::Neg(why) => self.neg(|| format!("{}: {why}", frame.name)),
        }
    }

    /// As [`find`](Self::find), with `transform` applied to the answer. If that is another name, it is looked up, as in
    /// linkerd.
    fn transformed(
        &mut self,
        kind: &Kind,
        transform: &Transform,
        frame: &Frame<'_>,
        prefix: usize,
        nesting: usize,
    ) -> Closed<N::Port> {
        let (names, labels) = (self.delegation.names, frame.name.labels());
        let rest = labels.skip(prefix);
        let answer = names.find(kind, rest);
        let replaced = match &answer {
            Answer::Alias { .. } => None,
            answer => transform.other(!matches!(answer, Answer::Neg | Answer::Unknown)),
        };
        if let Some((outside, id, residual)) = replaced {
            let written = !frame.by.is_by_request();
            let target = Target::Outside(Outside { written, ..outside.clone() });
            return self.place(Bound { target, id, residual: residual.clone() });
        }
        let id = |taken| transform.id(&labels.take(prefix + taken).to_path());
        let (target, id, taken) = match answer {
            Answer::Neg => return self.neg(|| names.why_not(kind, rest)),
            Answer::Unknown => return self.unknown(|| names.why_not(kind, rest)),
            Answer::Empty => return self.empty(|| names.why_not(kind, rest)),
            Answer::Alias { name, taken } => {
                let by = frame.by.after_alias();
                return self.rewritten(&name.join(rest.skip(taken)), by, frame, nesting);
            }
            Answer::Port { port, taken } => {
                let id = id(taken);
                (Target::Port(names.transformed(port, transform.steps(), &id)), id, taken)
            }
            Answer::Outside { outside, taken } => (Target::Outside(outside), id(taken), taken),
        };
        self.place(Bound { target, id, residual: labels.skip(prefix + taken).to_path() })
    }

    /// Asks [`Names`]; the namer's own name is the first `prefix` labels.
    fn find(&mut self, kind: &Kind, frame: &Frame<'_>, prefix: usize, nesting: usize) -> Closed<N::Port> {
        let (names, name) = (self.delegation.names, frame.name);
        let rest = name.labels().skip(prefix);
        match names.find(kind, rest) {
            Answer::Neg => self.neg(|| names.why_not(kind, rest)),
            Answer::Unknown => self.unknown(|| names.why_not(kind, rest)),
            Answer::Empty => self.empty(|| names.why_not(kind, rest)),
            Answer::Alias { name, taken } => {
                self.rewritten(&name.join(rest.skip(taken)), frame.by.after_alias(), frame, nesting)
            }
            Answer::Port { port, taken } => self.bound(name, Target::Port(port), prefix + taken),
            Answer::Outside { outside, taken } => self.outside(outside, frame, prefix + taken),
        }
    }

    fn rewritten(
        &mut self,
        path: &Path,
        by: Provenance,
        frame: &Frame<'_>,
        nesting: usize,
    ) -> Closed<N::Port> {
        let closed = self.name(path, by, Some(frame), nesting + 1);
        self.recorder.close_with(&closed);
        closed
    }

    /// A destination outside that the first `taken` labels of the name say.
    fn outside(&mut self, outside: Outside, frame: &Frame<'_>, taken: usize) -> Closed<N::Port> {
        let outside = Outside { written: frame.by.is_written(taken), ..outside };
        self.bound(frame.name, Target::Outside(outside), taken)
    }

    fn bound(&mut self, name: &Path, target: Target<N::Port>, taken: usize) -> Closed<N::Port> {
        let labels = name.labels();
        let (id, residual) = (labels.take(taken).to_path(), labels.skip(taken).to_path());
        self.place(Bound { target, id, residual })
    }

    fn place(&mut self, mut bound: Bound<N::Port>) -> Closed<N::Port> {
        if let Target::Outside(outside) = bound.target {
            bound.target = Target::Outside(self.delegation.names.scoped(outside));
        }
        let closed: Closed<N::Port> = self.leaf().map(|()| NameTree::Leaf(bound));
        self.recorder.close_with(&closed);
        closed
    }

    fn decided(&mut self, meaning: NameTree<Bound<N::Port>>) -> Closed<N::Port> {
        let closed = Ok::<_, Failure>(meaning);
        self.recorder.close_with(&closed);
        closed
    }

    fn neg(&mut self, why: impl FnOnce() -> String) -> Closed<N::Port> {
        self.recorder.close(|| Verdict::Neg { why: Some(why()) });
        Ok(NameTree::Neg)
    }

    fn empty(&mut self, why: impl FnOnce() -> String) -> Closed<N::Port> {
        self.recorder.close(|| Verdict::Empty { why: Some(why()) });
        Ok(NameTree::Empty)
    }

    fn unknown(&mut self, why: impl FnOnce() -> String) -> Closed<N::Port> {
        self.recorder.close(|| Verdict::Unknown { why: Some(why()) });
        Ok(NameTree::Neg)
    }
}

/// Why no namer was asked about `name`. Migrated dtabs may use namers that weir does not have.
fn nobody(name: &Path, namers: &[Configured]) -> String {
    if name.labels().get(0) != Some(b"#") {
        return format!("no dtab entry is for {name}");
    }
    let mut there: Vec<String> = namers.iter().map(|namer| format!("/#{}", namer.prefix)).collect();
    there.dedup();
    format!("no namer is for {name}; there are {}", there.join(", "))
}
