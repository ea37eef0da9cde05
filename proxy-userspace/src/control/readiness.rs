//! Whether weir is ready, and if not, what for.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// The conditions of readiness, by name. Nothing set is ready.
#[derive(Debug, Default)]
pub struct Readiness {
    conditions: Mutex<BTreeMap<&'static str, Result<(), String>>>,
    /// What weir is ready without, and somebody may miss.
    notes: Mutex<BTreeMap<&'static str, String>>,
}

impl Readiness {
    /// Sets one condition.
    pub fn set(&self, name: &'static str, condition: Result<(), String>) {
        self.conditions.lock().insert(name, condition);
    }

    /// Says something that readiness does not depend on, or nothing any more.
    pub fn note(&self, name: &'static str, note: Option<String>) {
        let mut notes = self.notes.lock();
        match note {
            Some(note) => notes.insert(name, note),
            None => notes.remove(name),
        };
    }

    /// Whether every condition holds, and each with its state, a line each.
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
