//! The path of a rule.

use std::sync::{Arc, OnceLock};

use regex::bytes::{Regex, RegexBuilder};

/// Longest path, in bytes.
const LONGEST: usize = 4096;
/// Bound on a compiled expression, in bytes, and on what it remembers while it matches.
const COMPILED: usize = 32 << 10;
/// Longest path of a request that is compared with expressions, in bytes; a longer one fits none.
const COMPARED: usize = 2048;

/// How a path is compared with a request's (`pathType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathType {
    /// The whole path, byte by byte.
    Exact,
    /// Its first elements, between slashes.
    Prefix,
    /// As in linkerd: a regular expression for the whole path; empty means any.
    ImplementationSpecific,
}

/// The path of a rule.
#[derive(Clone, Debug)]
pub struct IngressPath {
    /// As written.
    pub text: Arc<str>,
    /// How it is compared.
    pub kind: PathType,
    /// Where it is an expression: compiled once it is in force, so that others take no memory.
    expression: Option<Arc<OnceLock<Option<Regex>>>>,
}

impl IngressPath {
    /// A path of this type.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn new(kind: PathType, text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("a path of {} bytes, {LONGEST} are the most", text.len()));
        }
        let text: Arc<str> = text.into();
        if kind == PathType::ImplementationSpecific && text.is_empty() {
            return Ok(Self { text, kind, expression: None });
        }
        if !text.starts_with('/') {
            return Err(format!("the path {} does not begin with a slash", shown(&text)));
        }
        let expression = match kind {
            PathType::Exact | PathType::Prefix => {
                let odd = ["//", "/./", "/../", "%2f", "%2F"].into_iter().find(|it| text.contains(it));
                let end = ["/..", "/."].into_iter().find(|it| text.ends_with(it));
                if let Some(odd) = odd.or(end) {
                    let path = shown(&text);
                    return Err(format!("the path {path} has {odd:?}, which no request is compared with"));
                }
                None
            }
            PathType::ImplementationSpecific if is_expression(&text) => {
                compile(&text)?;
                Some(Arc::default())
            }
            PathType::ImplementationSpecific => None,
        };
        Ok(Self { text, kind, expression })
    }

    /// Whether it is compared as an expression.
    pub fn is_expression(&self) -> bool {
        self.expression.is_some()
    }

    /// Compiles the expression, unless that was done before.
    pub(super) fn prepare(&self) {
        self.compiled();
    }

    fn compiled(&self) -> Option<&Regex> {
        self.expression.as_ref()?.get_or_init(|| compile(&self.text).ok()).as_ref()
    }

    /// Whether the expression fits all of `path`.
    pub(super) fn fits(&self, path: &str) -> bool {
        path.len() <= COMPARED
            && self.compiled().is_some_and(|expression| expression.is_match(path.as_bytes()))
    }
}

/// The start of a path, in quotes.
fn shown(text: &str) -> String {
    format!("{:?}", &text[..text.floor_char_boundary(80)])
}

fn is_expression(text: &str) -> bool {
    text.contains(['\\', '.', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$'])
}

fn compile(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(&format!("^(?:{text})$"))
        .unicode(false)
        .size_limit(COMPILED)
        .dfa_size_limit(COMPILED)
        .nest_limit(32)
        .build()
        .map_err(|error| {
            // Its own text has several lines, with a mark below the expression.
            let error = error.to_string();
            let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("the path {} is no regular expression: {why}", shown(text))
        })
}

impl PartialEq for IngressPath {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, &self.text) == (other.kind, &other.text)
    }
}

impl Eq for IngressPath {}
