//! The settings in force, and the result of the last reload.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::config::Settings;
use crate::telemetry::Counter;

/// The settings in force, and the result of the last reload.
pub struct Configuration {
    in_force: ArcSwap<Settings>,
    last: Mutex<Reload>,
    pub(super) reloads: Counter,
    pub(super) failures: Counter,
}

/// The result of the last reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reload {
    /// The mistakes that keep a newer configuration from taking effect.
    pub mistakes: Option<String>,
    /// The settings that are not in force as written, with a reason unless they only wait for the next start.
    pub waiting: Vec<String>,
}

impl Configuration {
    pub(super) fn new(at_start: Settings) -> Self {
        Self {
            in_force: ArcSwap::from_pointee(at_start),
            last: Mutex::default(),
            reloads: Counter::default(),
            failures: Counter::default(),
        }
    }

    /// The settings in force.
    pub fn in_force(&self) -> Arc<Settings> {
        self.in_force.load_full()
    }

    /// Newer settings are in force, except for those `waiting` for the next start.
    pub fn reloaded(&self, settings: Settings, waiting: Vec<String>) {
        self.in_force.store(Arc::new(settings));
        self.reloads.inc();
        *self.last.lock() = Reload { mistakes: None, waiting };
    }

    /// A newer configuration has mistakes; the settings in force stay.
    pub fn reload_failed(&self, mistakes: String) {
        self.failures.inc();
        self.last.lock().mistakes = Some(mistakes);
    }

    /// The result of the last reload.
    pub fn last_reload(&self) -> Reload {
        self.last.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_leave_the_settings_in_force_and_what_waits_until_a_good_configuration_comes() {
        let configuration = Configuration::new(Settings { workers: 3, ..Settings::default() });
        configuration.reloaded(Settings { workers: 5, ..Settings::default() }, vec!["log".to_owned()]);
        configuration.reload_failed("line 1".to_owned());
        assert_eq!(configuration.in_force().workers, 5);
        let failed = Reload { mistakes: Some("line 1".to_owned()), waiting: vec!["log".to_owned()] };
        assert_eq!(configuration.last_reload(), failed);
        configuration.reloaded(Settings::default(), Vec::new());
        assert_eq!(configuration.last_reload(), Reload::default());
        assert_eq!((configuration.reloads.value(), configuration.failures.value()), (2, 1));
    }
}
