//! Which files events reported as changed, and which are being written now.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// How long after its last write a file that was not closed counts as complete.
const ABANDONED: Duration = Duration::from_secs(10);
/// Maximum names remembered; with more, every file is checked instead.
const NAMES: usize = 10_000;

/// Changes since the folder was last read.
#[derive(Debug, Default)]
pub(super) struct Pending {
    changed: BTreeSet<String>,
    everything: bool,
    /// Files that were written but not closed yet, with the time of the last write.
    writing: HashMap<String, Instant>,
}

/// What to read now.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    names: BTreeSet<String>,
    everything: bool,
    writing: BTreeSet<String>,
}

impl Pending {
    /// The file was replaced or renamed.
    pub(super) fn changed(&mut self, name: String) {
        self.writing.remove(&name);
        if self.changed.len() < NAMES {
            self.changed.insert(name);
        } else {
            self.everything = true;
        }
    }

    /// The file was written; a close should follow.
    pub(super) fn written(&mut self, name: String, now: Instant) {
        if self.writing.len() < NAMES {
            self.writing.insert(name, now);
        }
    }

    /// Events were lost, or concerned something other than a service file.
    pub(super) fn look_at_everything(&mut self) {
        self.everything = true;
    }

    /// Whether there is anything to read.
    pub(super) fn is_waiting(&self) -> bool {
        self.everything || !self.changed.is_empty()
    }

    /// Returns what to read at `now`; it is then no longer pending.
    pub(super) fn take(&mut self, now: Instant) -> Dirty {
        self.writing.retain(|_, last| now.duration_since(*last) < ABANDONED);
        Dirty {
            names: std::mem::take(&mut self.changed),
            everything: std::mem::take(&mut self.everything),
            writing: self.writing.keys().cloned().collect(),
        }
    }
}

impl Dirty {
    /// Every file, regardless of events.
    pub(super) fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Whether an event requires reading the file.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.everything || self.names.contains(name)
    }

    /// Whether the file is being written.
    pub(super) fn is_being_written(&self, name: &str) -> bool {
        self.writing.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_not_read_between_a_write_and_its_close() {
        let now = Instant::now();
        let mut pending = Pending::default();
        pending.changed("hello".into());
        pending.written("hello".into(), now);
        assert!(pending.take(now).is_being_written("hello"));
        pending.changed("hello".into());
        let dirty = pending.take(now);
        assert!(dirty.contains("hello") && !dirty.is_being_written("hello"));
        assert!(!pending.take(now).contains("hello"), "taken once");
    }

    #[test]
    fn a_writer_that_never_closes_does_not_hide_a_file_forever() {
        let now = Instant::now();
        let mut pending = Pending::default();
        pending.written("hello".into(), now);
        assert!(pending.take(now + ABANDONED / 2).is_being_written("hello"));
        assert!(!pending.take(now + ABANDONED).is_being_written("hello"));
    }

    #[test]
    fn more_names_than_are_remembered_mean_everything() {
        let mut pending = Pending::default();
        for number in 0..=NAMES {
            pending.changed(number.to_string());
        }
        assert!(pending.take(Instant::now()).contains("any"));
    }
}
