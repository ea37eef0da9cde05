//! What could not be carried over, and what cannot be followed at all.

use std::fmt;

use super::part::Field;
use crate::config::tree::Position;
use crate::config::{ConfigError, Mistake, Problem};

/// Notes that are kept; a configuration that a person wrote has a few dozen.
const MOST: usize = 200;

/// One key of the linkerd configuration that weir's does not have, or has with another meaning.
///
/// Displays as `line 14: routers[1].label: why`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Where the key stands in the file.
    pub at: Position,
    /// The keys that lead there, as in `routers[0].client.tls`.
    pub path: String,
    /// What became of it.
    pub fate: Fate,
    /// Why, and what replaces it in weir. One line.
    pub why: String,
}

/// What became of a key, the most serious first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It protected something (encryption, certificates, who may connect), and weir does not do that.
    Unprotected,
    /// What was carried over cannot work as it stands: a name that nothing binds, say.
    Broken,
    /// It was carried over, but is not quite what it was.
    Changed,
    /// It was left out, with all that is in it.
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

/// Gathers notes, and problems that leave nothing to write.
pub(super) struct Notes<'a> {
    file: &'a str,
    /// The whole file, for the places of what is inside its texts.
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

    /// `field` was carried over with another meaning.
    pub(super) fn changed(&mut self, field: &Field<'_>, why: impl Into<String>) {
        self.add(field, Fate::Changed, why.into());
    }

    /// `field` protected something, and weir does not.
    pub(super) fn unprotected(&mut self, field: &Field<'_>, why: impl Into<String>) {
        self.add(field, Fate::Unprotected, why.into());
    }

    /// What `field` says cannot work here as it stands.
    pub(super) fn broken(&mut self, field: &Field<'_>, why: impl Into<String>) {
        self.add(field, Fate::Broken, why.into());
    }

    /// What comes out cannot bind some name. The place is in weir's configuration, not in the file.
    pub(super) fn dead_end(&mut self, path: String, why: String) {
        self.notes.push(Note { at: Position::default(), path, fate: Fate::Broken, why });
    }

    fn add(&mut self, field: &Field<'_>, fate: Fate, why: String) {
        self.notes.push(Note { at: field.at, path: field.path.clone(), fate, why });
    }

    /// There is no following what stands at `at`.
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
