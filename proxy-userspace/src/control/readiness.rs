//! Whether weir is ready, and if not, why.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// The conditions of readiness, by name. Ready when no condition is set.
#[derive(Debug, Default)]
pub struct Readiness {
    conditions: Mutex<BTreeMap<&'static str, Result<(), String>>>,
    /// Notes for the operator that do not affect readiness.
    notes: Mutex<BTreeMap<&'static str, String>>,
}

impl Readiness {
    /// Sets one condition.
    pub fn set(&self, name: &'static str, condition: Result<(), String>) {
        self.conditions.lock().insert(name, condition);
    }

    /// Sets or clears a note that does not affect readiness. Returns whether it is another one than before.
    pub fn note(&self, name: &'static str, note: Option<String>) -> bool {
        let mut notes = self.notes.lock();
        let before = match note.clone() {
            Some(note) => notes.insert(name, note),
            None => notes.remove(name),
        };
        before != note
    }

    /// Whether every condition holds.
    pub fn is_ready(&self) -> bool {
        self.conditions.lock().values().all(Result::is_ok)
    }

    /// Whether every condition holds, except perhaps this one.
    pub fn is_ready_but_for(&self, name: &str) -> bool {
        self.conditions.lock().iter().all(|(condition, it)| *condition == name || it.is_ok())
    }

    /// Whether every condition holds, and the state of each, one per line.
    pub fn report(&self) -> (bool, String) {
        let conditions = self.conditions.lock();
        let lines = conditions.iter().map(|(name, condition)| match condition {
            Ok(()) => format!("{name}: ok\n"),
            Err(why) => format!("{name}: {why}\n"),
        });
        let notes = self.notes.lock();
        let notes = notes.iter().map(|(name, note)| format!("{name}: {note}\n"));
        (conditions.values().all(Result::is_ok), lines.chain(notes).collect())
    }
}
