//! Patterns: match names by prefix, and capture parts of them.
//!
//! A pattern is a prefix of a name. Its labels are literal, `*`, or contain captures in braces: `/{service}.{zone}/*`.
//! Captures are greedy, from left to right. They must match the whole label, as linkerd's documentation promised;
//! linkerd itself searched for a match anywhere inside the label.

use std::fmt;

use super::BadRewrite;
use super::utility::ScopeOf;
use crate::domain::name::{Labels, Scope, scan_label};

/// A prefix of a name, with wildcards and captures (linkerd's `PathMatcher`).
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    text: Box<str>,
    labels: Vec<Label>,
}

/// One label of a pattern.
#[derive(Clone, Debug, PartialEq)]
enum Label {
    Any,
    Parts(Vec<Part>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Text(Box<[u8]>),
    Capture(Box<str>),
}

/// The captured parts of a name.
pub(super) type Captures<'a> = Vec<Captured<'a>>;

/// A captured part of a label.
#[derive(Clone, Copy, Debug)]
pub(super) struct Captured<'a> {
    /// The capture's name.
    pub(super) name: &'a str,
    pub(super) bytes: &'a [u8],
    /// The scope of the label.
    pub(super) scope: Scope,
}

impl Pattern {
    /// Parses `text`: `/svc/hello`, `/#/io.l5d.k8s/*/http/{service}`; `/` matches every name.
    ///
    /// # Errors
    ///
    /// [`BadRewrite`], for the first mistake.
    pub fn read(text: &str) -> Result<Self, BadRewrite> {
        let label = |label| if label == "*" { Ok(Label::Any) } else { parts(label).map(Label::Parts) };
        let labels = labels(text)?.into_iter().map(label).collect::<Result<Vec<_>, _>>()?;
        let pattern = Self { text: text.into(), labels };
        let mut known: Vec<&str> = Vec::new();
        for capture in pattern.captures() {
            if known.contains(&capture) {
                return Err(BadRewrite::Twice(capture.to_owned()));
            }
            known.push(capture);
        }
        Ok(pattern)
    }

    /// `/`, which matches every name.
    pub fn everything() -> Self {
        Self { text: "/".into(), labels: Vec::new() }
    }

    /// Whether `name` starts with this pattern.
    pub fn matches(&self, name: Labels<'_>) -> bool {
        self.capture(name, &|_| Scope::Anywhere).is_some()
    }

    /// The names of its captures, in order.
    pub(super) fn captures(&self) -> impl Iterator<Item = &str> {
        let parts = self.labels.iter().flat_map(|label| match label {
            Label::Any => &[][..],
            Label::Parts(parts) => parts,
        });
        parts.filter_map(Part::capture)
    }

    /// The captures from `name`, if it matches.
    pub(super) fn capture<'a>(&'a self, name: Labels<'a>, scope_of: ScopeOf<'_>) -> Option<Captures<'a>> {
        if name.len() < self.labels.len() {
            return None;
        }
        let mut captures = Captures::new();
        for (at, (pattern, label)) in self.labels.iter().zip(name.iter()).enumerate() {
            match pattern {
                Label::Any => {}
                Label::Parts(parts) => {
                    capture(parts, label, name.scope(at).max(scope_of(label)), &mut captures)?;
                }
            }
        }
        Some(captures)
    }
}

/// In its source form.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Part {
    pub(super) fn capture(&self) -> Option<&str> {
        match self {
            Self::Text(_) => None,
            Self::Capture(name) => Some(name),
        }
    }
}

/// Matches the whole of `label`. The text between two captures is searched from the right, which is equivalent to
/// greedy captures from left to right.
fn capture<'a>(parts: &'a [Part], label: &'a [u8], scope: Scope, captures: &mut Captures<'a>) -> Option<()> {
    let (mut parts, mut rest) = (parts, label);
    if let [Part::Text(text), others @ ..] = parts {
        (parts, rest) = (others, rest.strip_prefix(&**text)?);
    }
    if let [others @ .., Part::Text(text)] = parts {
        (parts, rest) = (others, rest.strip_suffix(&**text)?);
    }
    if parts.is_empty() {
        return rest.is_empty().then_some(());
    }
    while let [others @ .., Part::Capture(name)] = parts {
        let (before, start, end) = match others {
            [] => (others, 0, 0),
            [before @ .., Part::Text(text)] => {
                let at = last_place(rest, text)?;
                (before, at + text.len(), at)
            }
            // Of two adjacent captures, the first takes everything.
            [.., Part::Capture(_)] => (others, rest.len(), rest.len()),
        };
        captures.push(Captured { name, bytes: &rest[start..], scope });
        (parts, rest) = (before, &rest[..end]);
    }
    Some(())
}

fn last_place(text: &[u8], of: &[u8]) -> Option<usize> {
    text.windows(of.len()).rposition(|window| window == of)
}

pub(super) fn labels(text: &str) -> Result<Vec<&str>, BadRewrite> {
    match text.strip_prefix('/') {
        None => Err(BadRewrite::Label(text.to_owned())),
        Some("") => Ok(Vec::new()),
        Some(rest) => Ok(rest.split('/').collect()),
    }
}

/// The literal texts and captures of one label.
pub(super) fn parts(label: &str) -> Result<Vec<Part>, BadRewrite> {
    let bad_brace = || BadRewrite::Brace(label.to_owned());
    let mut parts = Vec::new();
    let mut rest = label;
    while !rest.is_empty() {
        if let Some(open) = rest.strip_prefix('{') {
            let (name, after) = open.split_once('}').ok_or_else(bad_brace)?;
            let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'_' | b'-');
            if name.is_empty() || !name.bytes().all(good) {
                return Err(bad_brace());
            }
            parts.push(Part::Capture(name.into()));
            rest = after;
            continue;
        }
        let (text, after) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
        if text.contains('}') {
            return Err(bad_brace());
        }
        parts.push(Part::Text(literal(text).ok_or_else(|| BadRewrite::Label(label.to_owned()))?));
        rest = after;
    }
    if parts.is_empty() { Err(BadRewrite::Label(label.to_owned())) } else { Ok(parts) }
}

fn literal(text: &str) -> Option<Box<[u8]>> {
    let mut bytes = Vec::new();
    let end = scan_label(text.as_bytes(), 0, |byte| bytes.push(byte)).ok()?;
    (end == text.len()).then(|| bytes.into())
}
