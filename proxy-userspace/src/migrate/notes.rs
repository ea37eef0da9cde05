//! Notes on settings that could not be carried over, and problems that prevent an import.

use std::fmt;

use super::part::Field;
use crate::config::tree::Position;
use crate::config::{ConfigError, Mistake, Problem};

/// Maximum number of notes; a hand-written configuration causes a few dozen.
const MOST: usize = 200;

/// One key of the linkerd configuration that weir lacks, or has with another meaning.
///
/// Displays as `line 14: routers[1].label: why`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The position of the key in the file.
    pub at: Position,
    /// The path of the key, as in `routers[0].client.tls`.
    pub path: String,
    /// What happened to it.
    pub fate: Fate,
    /// The reason, and weir's replacement. One line.
    pub why: String,
}

/// What happened to a key, the most serious first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It protected something (encryption, certificates, client restrictions), and weir does not do that.
    Unprotected,
    /// It was carried over but cannot work unchanged: for example, a name that nothing binds.
    Broken,
    /// It was carried over with a different meaning.
    Changed,
    /// It was left out with everything in it.
    Left,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.line > 0 {
            write!(f, "line {}: ", self.at.line)?;
        }
        write!(f, "{}: {}", self.path, self.why)
    }
}

/// Collects notes, and problems that prevent any output.
pub(super) struct Notes<'a> {
    file: &'a str,
    /// The whole file, to find positions inside its texts.
    pub(super) source: &'a str,
    notes: Vec<Note>,
    problems: Vec<Problem>,
}

impl<'a> Notes<'a> {
    pub(super) fn new(file: &'a str, source: &'a str) -> Self {
        Self { file, source, notes: Vec::new(), problems: Vec::new() }
    }

    /// `field` was left out.
    pub(super) fn left(&mut self, field: &Field<'_>, why: impl Into<String>) {
        self.add(field, Fate::Left, why.into());
    }

    /// `field` was carried over with a different meaning.
    pub(super) fn changed(&mut self, field: &Field<'_>, why: impl Into<String>) {
        self.add(field, Fate::Changed, why.into());
    }

    /// `field` protected something that weir does not protect.
    pub(super) fn unprotected(&mut self, field: &Field<'_>, why: impl Into<String>) {
        self.add(field, Fate::Unprotected, why.into());
    }

    /// `field` was carried over but cannot work unchanged.
    pub(super) fn broken(&mut self, field: &Field<'_>, why: impl Into<String>) {
        self.add(field, Fate::Broken, why.into());
    }

    /// The output cannot bind some name. The position is in weir's configuration, not in the file.
    pub(super) fn dead_end(&mut self, path: String, why: String) {
        self.notes.push(Note { at: Position::default(), path, fate: Fate::Broken, why });
    }

    fn add(&mut self, field: &Field<'_>, fate: Fate, why: String) {
        self.notes.push(Note { at: field.at, path: field.path.clone(), fate, why });
    }

    /// The setting at `at` cannot be followed.
    pub(super) fn problem(&mut self, at: Position, path: &str, mistake: Mistake) {
        self.problems.push(Problem::at(self.file, at, path, mistake));
    }

    /// The notes in the order of the file.
    pub(super) fn finish(mut self) -> Result<Vec<Note>, ConfigError> {
        if !self.problems.is_empty() {
            return Err(ConfigError { problems: self.problems });
        }
        self.notes.sort_by_key(|note| note.at);
        if let Some(more) = self.notes.len().checked_sub(MOST).filter(|more| *more > 0) {
            let at = self.notes[MOST].at;
            self.notes.truncate(MOST);
            let why = format!("{more} keys from here on are not listed one by one");
            self.notes.push(Note { at, path: "and more".to_owned(), fate: Fate::Left, why });
        }
        Ok(self.notes)
    }
}
