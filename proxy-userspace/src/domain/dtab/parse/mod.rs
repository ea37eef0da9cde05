//! The dtab parser: recursive descent, after finagle's grammar.
//!
//! A mistake ends its entry; parsing continues after the next `;`, so that all mistakes are reported at once.

mod cursor;
mod entry;
mod tree;

pub use tree::LARGEST_WEIGHT;

use super::problem::{DtabError, Problem, caret};
use super::{Bounds, Dentry, Dtab, NameTree, Origin, Prefix};
use crate::domain::name::Path;
use cursor::Cursor;

/// A mistake whose line and column are not computed yet.
#[derive(Debug)]
struct Mistake {
    at: usize,
    what: String,
    hint: Option<&'static str>,
}

/// A text being parsed.
struct Parser<'a> {
    cursor: Cursor<'a>,
    bounds: &'a Bounds,
}

impl Dtab {
    /// Parses `text`, which comes from `origin`.
    ///
    /// # Errors
    ///
    /// Every mistake with its line and column, up to [`Bounds::problems`].
    pub fn parse(text: &str, origin: Origin, bounds: &Bounds) -> Result<Self, DtabError> {
        if text.len() > bounds.bytes {
            let what = format!("the dtab has {} bytes, {} are allowed", text.len(), bounds.bytes);
            return Err(only(text, Mistake { at: 0, what, hint: None }));
        }
        let mut parser = Parser { cursor: Cursor::new(text), bounds };
        let (entries, mistakes) = parser.entries(origin);
        if mistakes.is_empty() {
            return Ok(Self { entries });
        }
        let more = mistakes.len() >= bounds.problems && !parser.cursor.at_end();
        Err(DtabError { problems: mistakes.into_iter().map(|it| problem(text, it)).collect(), more })
    }
}

impl Dentry {
    /// Parses `text`, one entry of a list, without a `;` behind it. A comment ends with its line, or with the entry.
    ///
    /// # Errors
    ///
    /// Every mistake, as for a dtab; or these are several entries.
    pub fn parse(text: &str, origin: Origin, bounds: &Bounds) -> Result<Self, DtabError> {
        let text = format!("{text}\n;");
        let Dtab { entries } = Dtab::parse(&text, origin, bounds)?;
        <[Self; 1]>::try_from(entries).map(|[entry]| entry).map_err(|entries| {
            let what = format!("it reads as {} entries", entries.len());
            only(&text, Mistake { at: 0, what, hint: Some("write each as one of its own, without `;`") })
        })
    }
}

impl NameTree<Path> {
    /// Parses a tree alone, such as `/a | 0.1 * /b & /c`.
    ///
    /// # Errors
    ///
    /// The first mistake.
    pub fn parse(text: &str, bounds: &Bounds) -> Result<Self, DtabError> {
        whole(text, bounds, |parser| parser.tree(0))
    }
}

impl Prefix {
    /// Parses a prefix alone, such as `/http/*/*`.
    ///
    /// # Errors
    ///
    /// The first mistake.
    pub fn parse(text: &str, bounds: &Bounds) -> Result<Self, DtabError> {
        whole(text, bounds, |parser| parser.prefix())
    }
}

/// Parses all of `text` with `read`.
fn whole<T>(
    text: &str,
    bounds: &Bounds,
    read: impl FnOnce(&mut Parser<'_>) -> Result<T, Mistake>,
) -> Result<T, DtabError> {
    if text.len() > bounds.bytes {
        let what = format!("there are {} bytes, {} are allowed", text.len(), bounds.bytes);
        return Err(only(text, Mistake { at: 0, what, hint: None }));
    }
    let mut parser = Parser { cursor: Cursor::new(text), bounds };
    let value = read(&mut parser).map_err(|mistake| only(text, mistake))?;
    parser.cursor.skip_space();
    if parser.cursor.at_end() { Ok(value) } else { Err(only(text, parser.cursor.expected("the end"))) }
}

fn only(text: &str, mistake: Mistake) -> DtabError {
    DtabError { problems: vec![problem(text, mistake)], more: false }
}

fn problem(text: &str, mistake: Mistake) -> Problem {
    let Mistake { at, what, hint } = mistake;
    Problem { at: cursor::position(text, at), what, hint, caret: caret(text, at) }
}
