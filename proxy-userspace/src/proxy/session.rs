//! The facts of one client connection.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::Allow;
use crate::telemetry::{Count, Level};
use crate::transport::Pulse;

/// Which listener a connection came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// :4140, where clients ask for a proxy.
    Outgoing,
    /// The transparent ports, where the eBPF program sends diverted connections.
    Transparent,
}

/// A listener as the data plane sees it: who may come in, how many, and who did. Shared by all workers, and by
/// all ports of the transparent listener.
#[derive(Debug)]
pub struct Door {
    /// Which listener.
    pub way: Way,
    /// Who may come in.
    pub allow: Allow,
    /// Open connections at most.
    pub limit: usize,
    /// Whether messages that pass get a Via.
    pub via: bool,
    /// Connections open now.
    pub open: Level,
    /// Connections accepted and served.
    pub connections: Count,
    /// Requests (HTTP) or connections (opaque) served.
    pub requests: Count,
    /// Connections closed at once, by reason; see [`Turned`].
    pub turned_away: [Count; Turned::LABELS.len()],
}

/// Why a connection was closed without being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// `allow` does not name its source.
    NotAllowed = 0,
    /// The listener is at its limit.
    Full = 1,
    /// It reached a transparent port, but no program diverted it.
    NoOriginal = 2,
    /// It had dialled one of weir's own listeners.
    Loop = 3,
    /// The destination is refused.
    Refused = 4,
    /// There was no descriptor for it, or accepting failed otherwise.
    AcceptFailed = 5,
    /// The head of its request was not HTTP, was too large, or did not come in time.
    BadHead = 6,
}

impl Turned {
    /// The labels in metrics, in order.
    pub const LABELS: [&'static str; 7] =
        ["not_allowed", "full", "no_original", "loop", "refused", "accept_failed", "bad_head"];
}

impl Way {
    /// The label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Outgoing => "outgoing",
            Self::Transparent => "transparent",
        }
    }
}

impl Door {
    /// A door nobody has come through yet.
    pub fn new(way: Way, allow: Allow, limit: usize, via: bool) -> Arc<Self> {
        Arc::new(Self {
            way,
            allow,
            limit,
            via,
            open: Level::default(),
            connections: Count::default(),
            requests: Count::default(),
            turned_away: Default::default(),
        })
    }

    /// Counts a connection that is not served.
    pub fn turn_away(&self, why: Turned) {
        self.turned_away[why as usize].up();
    }
}

/// Where a connection was going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// To weir: each request says its destination.
    Explicit,
    /// To this address; it does not know of weir.
    Dialled(SocketAddr),
}

/// The facts of one client connection, fixed once it is accepted.
#[derive(Debug)]
pub struct Session {
    /// The listener.
    pub door: Arc<Door>,
    /// The client.
    pub client: SocketAddr,
    /// Where it was going.
    pub origin: Origin,
    /// The client's cgroup id; 0 when it is not known.
    pub cgroup: u64,
    /// What it is doing.
    pub pulse: Pulse,
}

/// Counts a connection as open until it is dropped.
#[derive(Debug)]
pub struct Entry(Arc<Door>);

impl Entry {
    /// Enters, unless the listener is full.
    pub fn try_new(door: &Arc<Door>) -> Option<Self> {
        if door.open.up() >= door.limit {
            door.open.down();
            return None;
        }
        Some(Self(door.clone()))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.open.down();
    }
}
