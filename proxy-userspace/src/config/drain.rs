//! `drain`: how weir stops.

use std::time::Duration;

/// What happens between SIGTERM and exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// `grace`: how long open requests and tunnels may go on after SIGTERM; what is left then is closed.
    /// 0 to 1 h, default 10 s.
    pub grace: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { grace: Duration::from_secs(10) }
    }
}
