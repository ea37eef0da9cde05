//! The steps of a delegation.

use std::fmt::{self, Write};

use crate::domain::dtab::{Dentry, NameTree, Origin, Position};
use crate::domain::name::Path;
use crate::domain::route::{Bound, Failure};

/// Characters of an entry that are shown.
const SHOWN: usize = 200;

/// A delegation and how it came about. Displays as indented text.
#[derive(Clone, Debug)]
pub struct Explanation<P> {
    /// The name that was asked about.
    pub name: Path,
    /// Where it leads.
    pub result: Result<NameTree<Bound<P>>, Failure>,
    /// The name's look-up and everything that came of it.
    pub root: Step,
    /// Steps that were left out because there were so many.
    pub omitted: usize,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What was done.
    pub what: What,
    /// What came of it.
    pub verdict: Verdict,
    /// What that means for a request.
    pub role: Role,
    /// The steps it took, in order.
    pub steps: Vec<Self>,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Looked up a name. Its steps are the entries or namers for it, as alternatives.
    Name(String),
    /// Replaced the name by an entry's tree.
    Entry {
        /// The entry's place in its dtab, from 0; the last is tried first.
        index: usize,
        /// Who wrote it.
        origin: Origin,
        /// Where.
        at: Position,
        /// The entry, cut where it is long.
        text: String,
    },
    /// Asked a namer, by its prefix.
    Namer(String),
    /// Found neither entry nor namer.
    Nobody,
    /// Went through alternatives, until one is there.
    Alternatives,
    /// Went through the members of a union.
    Union,
    /// One member of a union.
    Member {
        /// Its weight as written.
        weight: f64,
        /// Its share of the union's requests, from 0 to 1, after others dropped out; `None` if it did.
        share: Option<f64>,
    },
    /// Read `~`, `!` or `$`.
    Sign(&'static str),
    /// An alternative that was not tried, as written.
    Tree(String),
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// One place.
    Bound {
        /// The part of the name that named it.
        id: String,
        /// What is left of the name, `/` if nothing.
        residual: String,
        /// Whether DNS has yet to say if it exists.
        uncertain: bool,
    },
    /// Several places.
    Several,
    /// There is no such name; the namer's reason, where it was a namer.
    Neg {
        /// The reason.
        why: Option<String>,
    },
    /// Nothing is there, and more may be known later.
    Unknown {
        /// What is not known yet; `None` where an inner step has it.
        why: Option<String>,
    },
    /// A fail: no alternative is wanted.
    Fail,
    /// The name exists and is empty; the namer's reason, where it was a namer.
    Empty {
        /// The reason.
        why: Option<String>,
    },
    /// The delegation was given up here.
    Error {
        /// The reason; `None` where the last inner step has it.
        why: Option<String>,
    },
    /// Not tried: something before has decided.
    Untried,
}

/// What a step means for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It decides: requests go this way, or fail here.
    Won,
    /// Requests go this way when DNS denies what comes before.
    Fallback,
    /// It was looked at and is not used.
    Passed,
    /// It was not looked at.
    Untried,
}

impl Step {
    /// Steps inside one another that are shown; deeper ones are of a dtab that goes in circles.
    pub const DEEPEST: usize = 40;

    /// Whether it looks up a name again that a step `above`, around it, looks up already.
    pub fn is_among(&self, above: &[&Self]) -> bool {
        matches!(self.what, What::Name(_)) && above.iter().any(|it| it.what == self.what)
    }

    /// Whether nothing came of it, but only because something is not known yet.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self.verdict, Verdict::Unknown { .. })
    }
}

impl What {
    pub(in crate::domain::route) fn name(name: &Path) -> Self {
        Self::Name(name.to_string())
    }

    pub(in crate::domain::route) fn entry(index: usize, entry: &Dentry) -> Self {
        Self::Entry { index, origin: entry.origin, at: entry.at, text: cut(entry) }
    }

    pub(in crate::domain::route) fn tree(tree: &NameTree<Path>) -> Self {
        Self::Tree(cut(tree))
    }
}

impl Verdict {
    pub(in crate::domain::route) fn new<P>(closed: &Result<NameTree<Bound<P>>, Failure>) -> Self {
        match closed {
            Ok(NameTree::Leaf(bound)) => Self::Bound {
                id: bound.id.to_string(),
                residual: bound.residual.to_string(),
                uncertain: bound.target.is_uncertain(),
            },
            Ok(NameTree::Alt(_) | NameTree::Union(_)) => Self::Several,
            Ok(NameTree::Neg) => Self::Neg { why: None },
            Ok(NameTree::Fail) => Self::Fail,
            Ok(NameTree::Empty) => Self::Empty { why: None },
            Err(failure) => Self::Error { why: Some(failure.to_string()) },
        }
    }
}

impl<P> Explanation<P> {
    /// Why nothing was found: each namer's reason once, those of the strongest entries first.
    pub fn reasons(&self) -> Vec<&str> {
        let mut reasons = Vec::new();
        gather(&self.root, &mut reasons);
        reasons
    }

    /// Why a namer says that the name is empty, where it has the last word.
    pub fn empty(&self) -> Option<&str> {
        let mut step = &self.root;
        while let Some(next) = step.steps.iter().find(|it| it.role == Role::Won) {
            step = next;
        }
        match &step.verdict {
            Verdict::Empty { why } => why.as_deref(),
            _ => None,
        }
    }

    /// The entry that has the last word, and where it stands; `None` where the name itself does. What it says is told of an
    /// entry that the request brought: one of the configuration may name what is not for whoever asks.
    pub fn decider(&self) -> Option<String> {
        let (mut step, mut entry) = (&self.root, None);
        loop {
            if let What::Entry { origin, at, text, .. } = &step.what {
                entry = Some((origin, at, text));
            }
            match step.steps.iter().find(|it| it.role == Role::Won) {
                Some(next) => step = next,
                None => break,
            }
        }
        let (origin, at, text) = entry?;
        let place = format!("{origin}, line {}, column {}", at.line, at.column);
        Some(match origin {
            Origin::Context | Origin::Request => format!("{place}: {text}"),
            Origin::Base | Origin::Configured => place,
        })
    }
}

fn gather<'a>(step: &'a Step, reasons: &mut Vec<&'a str>) {
    let why = match &step.verdict {
        Verdict::Neg { why: Some(why) }
        | Verdict::Empty { why: Some(why) }
        | Verdict::Unknown { why: Some(why) }
        | Verdict::Error { why: Some(why) } => Some(&**why),
        _ => None,
    };
    if let Some(why) = why.filter(|why| !reasons.contains(why)) {
        reasons.push(why);
    }
    step.steps.iter().for_each(|step| gather(step, reasons));
}

/// `shown`, or its start. Writing stops at the cut, so that a tree of a megabyte costs no more than a short one.
fn cut(shown: &impl fmt::Display) -> String {
    let mut text = Cut(String::new());
    if write!(text, "{shown}").is_err() {
        text.0.push('…');
    }
    text.0
}

struct Cut(String);

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = SHOWN.saturating_sub(self.0.len());
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        // All that is written here is ASCII; should that change, the cut moves back to a boundary.
        let end = (0..=room).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        self.0.push_str(&text[..end]);
        Err(fmt::Error)
    }
}
