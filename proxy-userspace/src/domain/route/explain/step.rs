//! The steps of a delegation.

use std::fmt::{self, Write};

use crate::domain::dtab::{Dentry, NameTree, Origin, Position};
use crate::domain::name::Path;
use crate::domain::route::{Bound, Failure};

/// The most characters shown of an entry.
const SHOWN: usize = 200;

/// A delegation and its steps. Displays as indented text.
#[derive(Clone, Debug)]
pub struct Explanation<P> {
    /// The name that was looked up.
    pub name: Path,
    /// Its destinations.
    pub result: Result<NameTree<Bound<P>>, Failure>,
    /// The look-up of the name, with all inner steps.
    pub root: Step,
    /// Steps beyond the limit, which were not recorded.
    pub omitted: usize,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What was done.
    pub what: What,
    /// Its result.
    pub verdict: Verdict,
    /// What the result means for a request.
    pub role: Role,
    /// Its inner steps, in order.
    pub steps: Vec<Self>,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Looked up a name. Its steps are the entries or namers for it, as alternatives.
    Name(String),
    /// Replaced the name by an entry's tree.
    Entry {
        /// The entry's index in its dtab, from 0; the last one is tried first.
        index: usize,
        /// The source of the entry.
        origin: Origin,
        /// Its position there.
        at: Position,
        /// The entry, truncated if it is long.
        text: String,
    },
    /// Asked a namer, by its prefix.
    Namer(String),
    /// Found neither an entry nor a namer.
    Nobody,
    /// Tried alternatives until one exists.
    Alternatives,
    /// Evaluated the members of a union.
    Union,
    /// One member of a union.
    Member {
        /// Its weight as written.
        weight: f64,
        /// Its share of the union's requests, from 0 to 1, after others were dropped; `None` if it was dropped.
        share: Option<f64>,
    },
    /// Evaluated `~`, `!` or `$`.
    Sign(&'static str),
    /// An alternative that was not tried, as written.
    Tree(String),
}

/// The result of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// One destination.
    Bound {
        /// The part of the name that identified it.
        id: String,
        /// The rest of the name, `/` if there is none.
        residual: String,
        /// Whether its existence depends on DNS.
        uncertain: bool,
    },
    /// Several destinations.
    Several,
    /// No such name; with the namer's reason, if a namer said so.
    Neg {
        /// The reason.
        why: Option<String>,
    },
    /// Nothing is known yet, but may be later.
    Unknown {
        /// What is not known yet; `None` if an inner step says it.
        why: Option<String>,
    },
    /// A fail: no further alternative is tried.
    Fail,
    /// The name exists and has no endpoints; with the namer's reason, if a namer said so.
    Empty {
        /// The reason.
        why: Option<String>,
    },
    /// The delegation failed here.
    Error {
        /// The reason; `None` if the last inner step says it.
        why: Option<String>,
    },
    /// Not tried: an earlier step decided.
    Untried,
}

/// The effect of a step on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It decides: requests go to it, or fail here.
    Won,
    /// Requests go to it if DNS denies the steps before it.
    Fallback,
    /// It was evaluated and is not used.
    Passed,
    /// It was not evaluated.
    Untried,
}

impl Step {
    /// The deepest nesting of steps shown; deeper ones come from a dtab with a cycle.
    pub const DEEPEST: usize = 40;

    /// Whether it looks up a name that an enclosing step in `above` already looks up.
    pub fn is_among(&self, above: &[&Self]) -> bool {
        matches!(self.what, What::Name(_)) && above.iter().any(|it| it.what == self.what)
    }

    /// Whether it has no result only because something is not known yet.
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
    /// Why nothing was found: each namer's reason once, starting with the entries of highest precedence.
    pub fn reasons(&self) -> Vec<&str> {
        let mut reasons = Vec::new();
        gather(&self.root, &mut reasons);
        reasons
    }

    /// The namer's reason why the name is empty, if that decides.
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

    /// The entry that decides, and its position; `None` if the name itself decides. The text of the entry is included
    /// only if the request brought it: an entry of the configuration may contain names that the client must not see.
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
            Origin::Base | Origin::Stored | Origin::Configured => place,
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

/// `shown`, truncated. Formatting stops at the limit, so that a tree of a megabyte costs no more than a short one.
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
        // Everything written here is ASCII; otherwise, the cut moves back to a character boundary.
        let end = (0..=room).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        self.0.push_str(&text[..end]);
        Err(fmt::Error)
    }
}
