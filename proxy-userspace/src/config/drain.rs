//! `drain`: how weir stops.

use std::time::Duration;

use super::fields::Section;
use super::values;

/// The settings from SIGTERM to exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// `grace`: how long open requests and tunnels may continue after SIGTERM; the remaining ones are then closed. 0 to
    /// 1 h, default 10 s.
    pub grace: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { grace: Duration::from_secs(10) }
    }
}

pub(super) fn read(mut section: Section<'_, '_>) -> Drain {
    let mut drain = Drain::default();
    section.set("grace", &mut drain.grace, values::duration(Duration::ZERO..=Duration::from_hours(1)));
    section.finish();
    drain
}
