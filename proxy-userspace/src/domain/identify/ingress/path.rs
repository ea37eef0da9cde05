//! The path of a rule.

use std::sync::{Arc, OnceLock};

use regex_automata::meta::{Config, Regex};
use regex_automata::util::syntax;

use super::literal::{Literal, syntax as reading};

/// Longest path, in bytes.
const LONGEST: usize = 4096;
/// Most elements of a path of type `Prefix`: a request's path is looked up by each of its first elements.
const ELEMENTS: usize = 64;
/// Bound on a compiled expression, in bytes. Comparing takes time in proportion to it and to the path.
const COMPILED: usize = 4 << 10;
/// Bound on what one remembers while it is compared, in bytes; a worker that compares keeps twice as much.
const REMEMBERED: usize = 8 << 10;
/// Longest path of a request that is compared with expressions, in bytes; a longer one fits none.
const COMPARED: usize = 512;

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
    /// What it says, where it is of type `ImplementationSpecific` and only says how a path begins.
    pub(super) literal: Option<Arc<Literal>>,
    /// Where it is any other expression: compiled once it is in force, so that others take no memory.
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
        if kind == PathType::ImplementationSpecific && is_any(&text) {
            return Ok(Self { text, kind, literal: None, expression: None });
        }
        if !text.starts_with('/') {
            return Err(format!("the path {} does not begin with a slash", shown(&text)));
        }
        let mut literal = None;
        let expression = match kind {
            PathType::Exact | PathType::Prefix => {
                let odd = ["//", "/./", "/../", "%2f", "%2F"].into_iter().find(|it| text.contains(it));
                let end = ["/..", "/."].into_iter().find(|it| text.ends_with(it));
                if let Some(odd) = odd.or(end) {
                    let path = shown(&text);
                    return Err(format!("the path {path} has {odd:?}, which no request is compared with"));
                }
                let elements = text.matches('/').count();
                if kind == PathType::Prefix && elements > ELEMENTS {
                    let path = shown(&text);
                    return Err(format!("the path {path} has {elements} elements, {ELEMENTS} are the most"));
                }
                None
            }
            PathType::ImplementationSpecific if is_expression(&text) => {
                literal = Literal::read(&text).map(Arc::new);
                match &literal {
                    Some(_) => None,
                    None => {
                        compile(&text)?;
                        Some(Arc::default())
                    }
                }
            }
            PathType::ImplementationSpecific => None,
        };
        Ok(Self { text, kind, literal, expression })
    }

    /// Whether a path of this type and text is compiled, if nothing is wrong with it.
    pub fn would_compile(kind: PathType, text: &str) -> bool {
        let is_long = text.len() > LONGEST;
        let is_expression = kind == PathType::ImplementationSpecific && !is_any(text) && is_expression(text);
        is_expression && !is_long && Literal::read(text).is_none()
    }

    /// Whether it stands for any path.
    pub(super) fn is_any(&self) -> bool {
        self.kind == PathType::ImplementationSpecific && is_any(&self.text)
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
        path.len() <= COMPARED && self.compiled().is_some_and(|expression| expression.is_match(path))
    }
}

/// The start of a path, in quotes.
fn shown(text: &str) -> String {
    format!("{:?}", &text[..text.floor_char_boundary(80)])
}

fn is_expression(text: &str) -> bool {
    text.contains(['\\', '.', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$'])
}

/// Expressions that fit every path need not be compiled.
fn is_any(text: &str) -> bool {
    matches!(text, "" | ".*" | "/.*")
}

fn compile(text: &str) -> Result<Regex, String> {
    let wrong = |error: &dyn std::fmt::Display| {
        // Its own text has several lines, with a mark below the expression.
        let error = error.to_string();
        let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("the path {} is no regular expression: {why}", shown(text))
    };
    let syntax = reading();
    // By itself: it must not close the group around it.
    syntax::parse_with(text, &syntax).map_err(|error| wrong(&error))?;
    // These bounds do not hold for the other two engines: up to 1 MiB and 40 KiB for each expression.
    let bounds = Config::new()
        .onepass(false)
        .dfa(false)
        .nfa_size_limit(Some(COMPILED))
        .hybrid_cache_capacity(REMEMBERED);
    let mut builder = Regex::builder();
    builder.syntax(syntax).configure(bounds).build(&format!("^(?:{text})$")).map_err(|error| {
        match (error.size_limit(), error.syntax_error()) {
            (Some(_), _) => {
                format!("the path {} takes over {COMPILED} bytes as a regular expression", shown(text))
            }
            (None, Some(error)) => wrong(error),
            (None, None) => wrong(&error),
        }
    })
}

impl PartialEq for IngressPath {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, &self.text) == (other.kind, &other.text)
    }
}

impl Eq for IngressPath {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_an_expression_says_it_takes_little_memory() {
        let all: String = ('0'..='9').chain('A'..='Z').chain('a'..='z').chain("-_~:@!,;".chars()).collect();
        let mut compiled = 0;
        for count in [1, 30, 60, 70, 100, 200, 990, 4000] {
            let text: String = all.chars().cycle().take(count).collect();
            for path in [
                format!("/({text})"),
                format!("/({})", text.split("").filter(|it| !it.is_empty()).collect::<Vec<_>>().join("|")),
                format!("/(?P<all>{text})"),
                format!("/({text})\\b"),
                format!("/{text}.*"),
            ] {
                if let Ok(regex) = compile(&path) {
                    // Its cache is the worker's.
                    let usage = regex.memory_usage();
                    assert!(usage < 6 * COMPILED, "{usage} bytes: {path}");
                    compiled += 1;
                }
            }
        }
        assert!(compiled >= 12, "{compiled}");
    }

    #[test]
    fn an_expression_is_one_by_itself() {
        for text in ["/a)|(/b", "/a)", "/a))((/b", "/(a", "/[a", "/(?x)a # b"] {
            let read = IngressPath::new(PathType::ImplementationSpecific, text);
            assert!(
                read.as_ref().is_err_and(|it| it.contains("is no regular expression")),
                "{text} {read:?}"
            );
        }
    }

    #[test]
    fn a_prefix_has_a_bound_of_elements() {
        for (kind, count, is_read) in
            [(PathType::Prefix, 64, true), (PathType::Prefix, 65, false), (PathType::Exact, 65, true)]
        {
            assert_eq!(IngressPath::new(kind, &"/a".repeat(count)).is_ok(), is_read, "{kind:?} {count}");
        }
    }
}
