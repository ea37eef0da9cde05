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
    /// `handover`: the next weir of this node takes the listeners over; `None` without the section.
    pub handover: Option<Handover>,
}

/// The settings for handing the listeners over to the next weir of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// `grace`: how long open requests and tunnels may continue after the next weir has taken the listeners over. 0 to
    /// 24 h, default 10 min.
    pub grace: Duration,
    /// `name`: weirs of the same name, in one network namespace, follow one another. Default `weir`.
    pub name: String,
}

impl Default for Drain {
    fn default() -> Self {
        Self { grace: Duration::from_secs(10), handover: None }
    }
}

impl Default for Handover {
    fn default() -> Self {
        Self { grace: Duration::from_mins(10), name: "weir".to_owned() }
    }
}

pub(super) fn read(mut section: Section<'_, '_>) -> Drain {
    let mut drain = Drain::default();
    section.set("grace", &mut drain.grace, values::duration(Duration::ZERO..=Duration::from_hours(1)));
    drain.handover = section.switch("handover").map(read_handover);
    section.finish();
    drain
}

fn read_handover(mut section: Section<'_, '_>) -> Handover {
    let mut handover = Handover::default();
    section.set("grace", &mut handover.grace, values::duration(Duration::ZERO..=Duration::from_hours(24)));
    section.set("name", &mut handover.name, values::label);
    section.finish();
    handover
}
