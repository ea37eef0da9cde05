//! `io.l5d.rewrite`: a namer that makes names by a pattern and a template.
//!
//! A pattern's labels are literal, `*`, or hold captures in braces: `/{service}.{zone}/*`. A capture takes as much
//! as it can, from left to right. Unlike linkerd's, which found a label with captures anywhere inside one of the
//! name, it has to be the whole label, as its documentation promised.

use std::fmt;

use crate::domain::name::{Labels, Path, scan_label};

/// A configured rewriting namer.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewrite {
    pattern: Vec<Pattern>,
    name: Vec<Vec<Part>>,
}

/// Why a pattern or a template does not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadRewrite {
    /// It does not start with `/`, or has an empty label.
    Label(String),
    /// A brace without its other, or a capture's name with other characters than letters, digits and `. : _ -`.
    Brace(String),
    /// The template uses a capture that the pattern does not have.
    Unknown(String),
    /// The pattern captures the same name twice.
    Twice(String),
}

/// One label of a pattern.
#[derive(Clone, Debug, PartialEq)]
enum Pattern {
    Any,
    Parts(Vec<Part>),
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(Box<[u8]>),
    Capture(Box<str>),
}

type Captures<'a> = Vec<(&'a str, &'a [u8])>;

impl Rewrite {
    /// Reads `pattern` (`/{service}/*`) and the template `name` (`/#/io.l5d.fs/{service}`).
    ///
    /// # Errors
    ///
    /// [`BadRewrite`], for the first mistake.
    pub fn new(pattern: &str, name: &str) -> Result<Self, BadRewrite> {
        let label = |label| if label == "*" { Ok(Pattern::Any) } else { parts(label).map(Pattern::Parts) };
        let pattern = labels(pattern)?.into_iter().map(label).collect::<Result<Vec<_>, _>>()?;
        let mut known: Vec<&str> = Vec::new();
        for capture in pattern.iter().flat_map(Pattern::captures) {
            if known.contains(&capture) {
                return Err(BadRewrite::Twice(capture.to_owned()));
            }
            known.push(capture);
        }
        let name = labels(name)?.into_iter().map(parts).collect::<Result<Vec<_>, _>>()?;
        let unknown = name.iter().flatten().filter_map(Part::capture).find(|it| !known.contains(it));
        match unknown {
            Some(unknown) => Err(BadRewrite::Unknown(unknown.to_owned())),
            None => Ok(Self { pattern, name }),
        }
    }

    /// The name that `rest` becomes: the template alone, whatever follows the pattern. `None` when it does not
    /// match, or when a capture is empty and would leave a label empty.
    pub fn apply(&self, rest: Labels<'_>) -> Option<Path> {
        if rest.len() < self.pattern.len() {
            return None;
        }
        let mut captures = Captures::new();
        for (pattern, label) in self.pattern.iter().zip(rest.iter()) {
            match pattern {
                Pattern::Any => {}
                Pattern::Parts(parts) => capture(parts, label, &mut captures)?,
            }
        }
        let mut path = Path::default();
        for parts in &self.name {
            let label = fill(parts, &captures);
            if label.is_empty() {
                return None;
            }
            path.push(label);
        }
        Some(path)
    }
}

impl Pattern {
    fn captures(&self) -> impl Iterator<Item = &str> {
        let parts = match self {
            Self::Any => &[][..],
            Self::Parts(parts) => parts,
        };
        parts.iter().filter_map(Part::capture)
    }
}

impl Part {
    fn capture(&self) -> Option<&str> {
        match self {
            Self::Text(_) => None,
            Self::Capture(name) => Some(name),
        }
    }
}

/// Matches the whole of `label`. The text between two captures is found as far right as what follows allows, which
/// is what greedy captures from left to right come to.
fn capture<'a>(parts: &'a [Part], label: &'a [u8], captures: &mut Captures<'a>) -> Option<()> {
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
            // Of two captures side by side the first has taken everything.
            [.., Part::Capture(_)] => (others, rest.len(), rest.len()),
        };
        captures.push((name, &rest[start..]));
        (parts, rest) = (before, &rest[..end]);
    }
    Some(())
}

fn last_place(text: &[u8], of: &[u8]) -> Option<usize> {
    text.windows(of.len()).rposition(|window| window == of)
}

fn fill(parts: &[Part], captures: &Captures<'_>) -> Vec<u8> {
    let mut label = Vec::new();
    for part in parts {
        let bytes = match part {
            Part::Text(text) => text,
            Part::Capture(name) => {
                captures.iter().find(|(known, _)| *known == &**name).map_or(&[][..], |(_, bytes)| bytes)
            }
        };
        label.extend_from_slice(bytes);
    }
    label
}

fn labels(text: &str) -> Result<Vec<&str>, BadRewrite> {
    match text.strip_prefix('/') {
        None => Err(BadRewrite::Label(text.to_owned())),
        Some("") => Ok(Vec::new()),
        Some(rest) => Ok(rest.split('/').collect()),
    }
}

/// The literal texts and captures of one label.
fn parts(label: &str) -> Result<Vec<Part>, BadRewrite> {
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

impl fmt::Display for BadRewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(label) => write!(f, "`{label}` is no path or label"),
            Self::Brace(label) => write!(f, "`{label}` has a brace that is no capture such as `{{service}}`"),
            Self::Unknown(name) => write!(f, "the pattern does not capture `{{{name}}}`"),
            Self::Twice(name) => write!(f, "the pattern captures `{{{name}}}` twice"),
        }
    }
}

impl std::error::Error for BadRewrite {}
