//! `io.l5d.rewrite`: a namer that makes names by a pattern and a template.
//!
//! The name that a [`Pattern`] matches becomes what the template says of its captures.

use std::fmt;

use super::pattern::{Captures, Part, Pattern, labels, parts};
use crate::domain::name::{Labels, Path};

/// A configured rewriting namer.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewrite {
    pattern: Pattern,
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

impl Rewrite {
    /// Reads `pattern` (`/{service}/*`) and the template `name` (`/#/io.l5d.fs/{service}`).
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

    /// What it matches.
    pub(super) fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// The name that `rest` becomes: the template alone, whatever follows the pattern. `None` when it does not
    /// match, or when a capture is empty and would leave a label empty.
    pub fn apply(&self, rest: Labels<'_>) -> Option<Path> {
        let captures = self.pattern.capture(rest)?;
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
