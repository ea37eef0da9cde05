//! Mistakes in a dtab: position, what was expected, and the line with a caret under it.

use std::fmt;

use super::Position;

/// Characters of a line shown around a mistake; longer lines are cut on both sides.
const SHOWN: usize = 100;

/// One mistake. Displays as `3:14: expected …, found …`; with `{:#}` followed by the line and a caret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is.
    pub at: Position,
    /// What is wrong: what was expected and what was found.
    pub what: String,
    /// How to correct it, if weir can tell.
    pub hint: Option<&'static str>,
    /// The line, cut if it is very long, and a caret under the mistake.
    pub caret: String,
}

/// All mistakes of one dtab. Displays one per paragraph, each with its line and caret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DtabError {
    /// The mistakes in the order of the text; never empty.
    pub problems: Vec<Problem>,
    /// Whether parsing stopped because the limit of mistakes was reached.
    pub more: bool,
}

/// The line of `text` that holds byte `at`, and a caret under that byte.
pub(super) fn caret(text: &str, at: usize) -> String {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    let before = text[start..at].chars().count();
    let skipped = before.saturating_sub(SHOWN / 2);
    let mut line = String::new();
    let mut pad = String::new();
    if skipped > 0 {
        line.push('…');
        pad.push(' ');
    }
    for (index, character) in text[start..end].chars().enumerate().skip(skipped) {
        if index == skipped + SHOWN {
            line.push('…');
            break;
        }
        // A control character would misplace the caret or affect the terminal.
        let shown = if character.is_control() { ' ' } else { character };
        line.push(shown);
        if index < before {
            pad.push(' ');
        }
    }
    format!("{line}\n{pad}^")
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)?;
        if let Some(hint) = self.hint {
            write!(f, " ({hint})")?;
        }
        if f.alternate() {
            self.caret.lines().try_for_each(|line| write!(f, "\n    {line}"))?;
        }
        Ok(())
    }
}

impl fmt::Display for DtabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem:#}")?;
        }
        if self.more { f.write_str("\nand more after this") } else { Ok(()) }
    }
}

impl std::error::Error for DtabError {}
