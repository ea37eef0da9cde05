//! A mistake in a configuration file: what is wrong, where, and how to correct it.

use std::fmt;
use std::path::Path;

use super::tree::Position;

/// One mistake. Displays as `weir.yaml:3:5: outgoing.listen: what is wrong (what to do)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as named by the user.
    pub file: String,
    /// The line, from 1; 0 if the mistake has no position in the file (for example, it cannot be read).
    pub line: u32,
    /// The column in characters, from 1; 0 if [`line`](Self::line) is.
    pub column: u32,
    /// The keys that lead to the value, as in `transparent.addresses[1]`; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// How to correct it, if weir can tell.
    pub hint: Option<String>,
}

/// A mistake without a position yet: the result of a value's parser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong.
    pub what: String,
    /// How to correct it.
    pub hint: Option<String>,
}

/// Every problem of one configuration file. Displays one problem per line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The problems, in the order of the file; never empty.
    pub problems: Vec<Problem>,
}

impl Problem {
    /// A problem with the file as a whole.
    pub fn of_file(file: impl Into<String>, what: impl Into<String>) -> Self {
        Self { file: file.into(), line: 0, column: 0, path: String::new(), what: what.into(), hint: None }
    }

    /// `mistake` with its position.
    pub fn at(file: &str, at: Position, path: impl Into<String>, mistake: Mistake) -> Self {
        Self {
            file: file.to_owned(),
            line: at.line,
            column: at.column,
            path: path.into(),
            what: mistake.what,
            hint: mistake.hint,
        }
    }
}

impl Mistake {
    /// A mistake without a hint.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None }
    }

    /// The same mistake with a hint.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl ConfigError {
    pub(super) fn unreadable(file: &Path, what: impl Into<String>) -> Self {
        Self { problems: vec![Problem::of_file(file.display().to_string(), what)] }
    }
}

/// User input for one line of a terminal: control characters escaped, long texts cut.
pub fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.what)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
