//! Whether weir is ready, and if not, what for.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// The conditions of readiness, by name. Nothing set is ready.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<BTreeMap<&'static str, Result<(), String>>>);

impl Readiness {
    /// Sets one condition.
    pub fn set(&self, name: &'static str, condition: Result<(), String>) {
        self.0.lock().insert(name, condition);
    }

    /// Whether every condition holds, and each with its state, a line each.
    pub fn report(&self) -> (bool, String) {
        let conditions = self.0.lock();
        let lines = conditions.iter().map(|(name, condition)| match condition {
            Ok(()) => format!("{name}: ok\n"),
            Err(why) => format!("{name}: {why}\n"),
        });
        (conditions.values().all(Result::is_ok), lines.collect())
    }
}
