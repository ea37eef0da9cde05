//! `io.l5d.rewrite`: a namer that rewrites names by a pattern and a template.
//!
//! A name that the [`Pattern`] matches is replaced by the template, filled with the captures.

use std::fmt;

use super::pattern::{Captures, Part, Pattern, labels, parts};
use super::utility::ScopeOf;
use crate::domain::name::{Labels, Path, Scope};

/// A configured rewriting namer.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewrite {
    pattern: Pattern,
    name: Vec<Vec<Part>>,
}

/// Why a pattern or a template is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadRewrite {
    /// It does not start with `/`, or has an empty label.
    Label(String),
    /// An unmatched brace, or a capture's name with characters other than letters, digits and `. : _ -`.
    Brace(String),
    /// The template uses a capture that the pattern does not have.
    Unknown(String),
    /// The pattern captures the same name twice.
    Twice(String),
}

impl Rewrite {
    /// Parses `pattern` (`/{service}/*`) and the template `name` (`/#/io.l5d.fs/{service}`).
    ///
    /// # Errors
    ///
    /// [`BadRewrite`], for the first mistake.
    pub fn new(pattern: &str, name: &str) -> Result<Self, BadRewrite> {
        let pattern = Pattern::read(pattern)?;
        let known: Vec<&str> = pattern.captures().collect();
        let name = labels(name)?.into_iter().map(parts).collect::<Result<Vec<_>, _>>()?;
        let unknown = name.iter().flatten().filter_map(Part::capture).find(|it| !known.contains(it));
        match unknown {
            Some(unknown) => Err(BadRewrite::Unknown(unknown.to_owned())),
            None => Ok(Self { pattern, name }),
        }
    }

    /// Its pattern.
    pub(super) fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// Whether its template has no captures, so that every name becomes the same one.
    pub(super) fn is_constant(&self) -> bool {
        self.name.iter().flatten().all(|part| part.capture().is_none())
    }

    /// The rewritten `rest`: the filled template, without what follows the pattern. `None` if the pattern does not
    /// match, or if an empty capture would make a label empty.
    pub(super) fn apply(&self, rest: Labels<'_>, scope_of: ScopeOf<'_>) -> Option<Path> {
        let captures = self.pattern.capture(rest, scope_of)?;
        let mut path = Path::default();
        for parts in &self.name {
            let (label, scope) = fill(parts, &captures);
            if label.is_empty() {
                return None;
            }
            path.push_scoped(label, scope);
        }
        Some(path)
    }
}

/// Fills `parts` to a label. It has the scope of the captures, unless the template ends it in a domain of its own.
fn fill(parts: &[Part], captures: &Captures<'_>) -> (Vec<u8>, Scope) {
    let (mut label, mut scope) = (Vec::new(), Scope::Anywhere);
    for part in parts {
        match part {
            Part::Text(text) => label.extend_from_slice(text),
            Part::Capture(name) => {
                if let Some(found) = captures.iter().find(|it| *it.name == **name) {
                    label.extend_from_slice(found.bytes);
                    scope = scope.max(found.scope);
                }
            }
        }
    }
    let is_host_outside = matches!(parts.last(), Some(Part::Text(text)) if is_domain(text));
    (label, if is_host_outside { Scope::Anywhere } else { scope })
}

/// Whether `text` ends a host outside the cluster, such as `.example.com:80`: two labels or more. One label may be a
/// namespace.
fn is_domain(text: &[u8]) -> bool {
    let host = text.split(|&byte| byte == b':').next().unwrap_or_default();
    host.iter().filter(|&&byte| byte == b'.').count() >= 2
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
