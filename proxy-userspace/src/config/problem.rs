//! A mistake in a file somebody wrote: what is wrong, where, and what to do about it.

use std::fmt;
use std::path::Path;

use super::tree::Position;

/// One mistake. Displays as `weir.yaml:3:5: outgoing.listen: what is wrong (what to do)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as the user named it.
    pub file: String,
    /// The line, from 1; 0 when the mistake is not at a place in the file (it cannot be read, say).
    pub line: u32,
    /// The column in characters, from 1; 0 when [`line`](Self::line) is.
    pub column: u32,
    /// The keys that lead there, as in `transparent.addresses[1]`; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it, where weir can tell.
    pub hint: Option<String>,
}

/// A mistake whose place is not known yet: what a value's parser reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Every problem of one configuration file. Displays one problem a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The problems, in the order of the file; never empty.
    pub problems: Vec<Problem>,
}

impl Problem {
    /// A problem of the file as a whole.
    pub fn of_file(file: impl Into<String>, what: impl Into<String>) -> Self {
        Self { file: file.into(), line: 0, column: 0, path: String::new(), what: what.into(), hint: None }
    }

    /// `mistake`, now that its place is known.
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
    /// A mistake that needs no advice.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None }
    }

    /// The same with advice.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl ConfigError {
    pub(super) fn unreadable(file: &Path, what: impl Into<String>) -> Self {
        Self { problems: vec![Problem::of_file(file.display().to_string(), what)] }
    }
}

/// What a user wrote, made fit for one line of a terminal: control characters escaped, long texts cut.
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
