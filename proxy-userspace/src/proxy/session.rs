//! The facts of one client connection.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::cluster::Cluster;
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
    /// :9990, for people and their tools.
    Admin,
    /// :9991, for the kubelet and Prometheus.
    Probes,
}

/// A listener as the data plane sees it: who may come in, how many, and who did. Shared by all workers, and by
/// all ports of the transparent listener.
#[derive(Debug)]
pub struct Door {
    /// Which listener.
    pub way: Way,
    /// Who may come in.
    pub allow: Allow,
    /// The right to be open, one for each connection at most; see [`Door::enter`].
    slots: Arc<Semaphore>,
    /// Whether messages that pass get a Via.
    pub via: bool,
    /// Connections open now.
    pub open: Level,
    /// Connections accepted and served.
    pub connections: Count,
    /// Requests (HTTP) or connections (opaque) served.
    pub requests: Count,
    /// Connections not served, or not at once, by reason; see [`Turned`].
    pub turned_away: [Count; Turned::LABELS.len()],
    /// Diverted connections whose first head hyper cannot parse: they are carried as bytes.
    pub unparsed_heads: Count,
}

/// Why a connection was closed without being served, or had to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// `allow` does not name its source.
    NotAllowed = 0,
    /// The listener was at its limit: it was not closed, but had to wait for another to leave. At the admin's and the
    /// probes' it takes the place of the oldest.
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
            Self::Admin => "admin",
            Self::Probes => "probes",
        }
    }
}

impl Door {
    /// A door nobody has come through yet.
    pub fn new(way: Way, allow: Allow, limit: usize, via: bool) -> Arc<Self> {
        Arc::new(Self {
            way,
            allow,
            slots: Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS))),
            via,
            open: Level::default(),
            connections: Count::default(),
            requests: Count::default(),
            turned_away: Default::default(),
            unparsed_heads: Count::default(),
        })
    }

    /// The right to open one more connection. At the limit this waits, and whoever connects waits in the accept queue.
    pub async fn enter(self: &Arc<Self>) -> Entry {
        let slot = match self.slots.clone().try_acquire_owned() {
            Ok(slot) => Some(slot),
            Err(_) => {
                self.turn_away(Turned::Full);
                // The semaphore is never closed.
                self.slots.clone().acquire_owned().await.ok()
            }
        };
        Entry { door: self.clone(), slot, counted: false }
    }

    /// Whether the next would have to wait.
    pub fn is_full(&self) -> bool {
        self.slots.available_permits() == 0
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
    /// Its place among the listener's connections, kept for as long as anything serves it: a tunnel too.
    #[expect(dead_code, reason = "held, not read: dropping it lets the next one in")]
    entry: Entry,
    /// The client.
    pub client: SocketAddr,
    /// Where it was going.
    pub origin: Origin,
    /// What it is doing.
    pub pulse: Pulse,
    /// The cluster of the dialled address, once it was needed: for an address that no service owns.
    pub outside: RefCell<Option<Arc<Cluster>>>,
}

impl Session {
    /// The facts of a connection that was accepted now.
    pub fn new(door: Arc<Door>, entry: Entry, client: SocketAddr, origin: Origin) -> Self {
        Self { door, entry, client, origin, pulse: Pulse::new(Instant::now()), outside: RefCell::default() }
    }
}

/// The right to one open connection, given back when it is dropped.
#[derive(Debug)]
pub struct Entry {
    door: Arc<Door>,
    #[expect(dead_code, reason = "held, not read: dropping it lets the next one in")]
    slot: Option<OwnedSemaphorePermit>,
    counted: bool,
}

impl Entry {
    /// The connection is here.
    pub fn used(mut self) -> Self {
        self.door.connections.up();
        self.door.open.up();
        self.counted = true;
        self
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.counted {
            self.door.open.down();
        }
    }
}
