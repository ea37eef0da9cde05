//! `drain`: how weir stops.

use std::path::{Path, PathBuf};
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
    /// `socket`: where the weirs of a node meet. Those with the same socket follow one another. Its folder must belong to
    /// weir's user, and no other may write to it. Default `/run/weir/handover.sock`.
    pub socket: PathBuf,
    /// `ready`: how long the next weir may take, once it has the listeners, until it is ready; then this one takes them
    /// back, and the next one ends. 1 s to 24 h, default 10 min.
    pub ready: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { grace: Duration::from_secs(10), handover: None }
    }
}

impl Default for Handover {
    fn default() -> Self {
        Self {
            grace: Duration::from_mins(10),
            socket: PathBuf::from("/run/weir/handover.sock"),
            ready: Duration::from_mins(10),
        }
    }
}

/// `base` is the folder that a relative path is relative to.
pub(super) fn read(mut section: Section<'_, '_>, base: &Path) -> Drain {
    let mut drain = Drain::default();
    section.set("grace", &mut drain.grace, values::duration(Duration::ZERO..=Duration::from_hours(1)));
    drain.handover = section.switch("handover").map(|section| read_handover(section, base));
    section.finish();
    drain
}

fn read_handover(mut section: Section<'_, '_>, base: &Path) -> Handover {
    let mut handover = Handover::default();
    section.set("grace", &mut handover.grace, values::duration(Duration::ZERO..=Duration::from_hours(24)));
    section.set("socket", &mut handover.socket, |node| {
        Ok(base.join(values::path(node, "a socket where the weirs of this node meet")?))
    });
    let ready = values::duration(Duration::from_secs(1)..=Duration::from_hours(24));
    section.set("ready", &mut handover.ready, ready);
    section.finish();
    handover
}
