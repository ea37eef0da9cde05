//! Listeners as the data plane sees them: who may come in, how many at the same time, and who did.

mod permits;
pub mod sockets;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;

use self::permits::{PermitPool, Slot};
use crate::config::Allow;
use crate::telemetry::{Counter, Gauge};

/// Which listener a connection came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
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
pub struct Listener {
    /// Which listener.
    pub kind: ListenerKind,
    /// Who may come in.
    allow: ArcSwap<Allow>,
    /// The right to be open, one for each connection at most; see [`Listener::acquire`].
    pool: Arc<PermitPool>,
    /// Whether messages that pass get a Via.
    via: AtomicBool,
    /// Whether there is such a listener.
    used: AtomicBool,
    /// Connections open now.
    pub open: Gauge,
    /// Connections accepted and served.
    pub connections: Counter,
    /// Requests (HTTP) or connections (opaque) served.
    pub requests: Counter,
    /// Connections not served, or not at once, by reason; see [`CloseReason`].
    pub closed: [Counter; CloseReason::LABELS.len()],
    /// Diverted connections whose first head hyper cannot parse: they are carried as bytes.
    pub unparsed_heads: Counter,
}

/// Why a connection was closed without being served, or had to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// `allow` does not name its source.
    NotAllowed = 0,
    /// The listener was at its limit: it was not closed, but had to wait for another to leave. At the admin's and the
    /// probes' it takes the place of the oldest.
    Full = 1,
    /// It reached a transparent port, but nothing is filed about it: no program diverted it, say.
    NoOriginal = 2,
    /// It had dialled one of weir's own listeners.
    Loop = 3,
    /// The destination is refused.
    Refused = 4,
    /// There was no descriptor for it, or accepting failed otherwise.
    AcceptFailed = 5,
    /// The head of its request was not HTTP, was too large, or did not come in time.
    BadHead = 6,
    /// It was diverted, and what is filed about it comes from one who does not have its address.
    ForeignOriginal = 7,
    /// It reached a transparent port, and the number of its SYN, by which entries are told apart, is not known.
    NoSyn = 8,
}

impl CloseReason {
    /// The labels in metrics, in order.
    pub const LABELS: [&'static str; 9] = [
        "not_allowed",
        "full",
        "no_original",
        "loop",
        "refused",
        "accept_failed",
        "bad_head",
        "foreign_original",
        "no_syn",
    ];
}

impl ListenerKind {
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

impl Listener {
    /// A door nobody has come through yet, for a listener that may be there or not.
    pub fn new(kind: ListenerKind) -> Arc<Self> {
        Arc::new(Self {
            kind,
            allow: ArcSwap::from_pointee(Allow::new(Vec::new())),
            pool: PermitPool::new(0),
            via: AtomicBool::new(false),
            used: AtomicBool::new(false),
            open: Gauge::default(),
            connections: Counter::default(),
            requests: Counter::default(),
            closed: Default::default(),
            unparsed_heads: Counter::default(),
        })
    }

    /// Opens it for those whom `allow` names, `limit` at the same time, and says whether messages get a Via; or changes
    /// that. Connections that are open stay.
    pub fn open_to(&self, allow: &Allow, limit: usize, via: bool) {
        if **self.allow.load() != *allow {
            self.allow.store(Arc::new(allow.clone()));
        }
        self.pool.set(limit);
        self.via.store(via, Ordering::Relaxed);
        self.used.store(true, Ordering::Relaxed);
    }

    /// There is no such listener any more; its connections stay as long as they last.
    pub fn close(&self) {
        self.used.store(false, Ordering::Relaxed);
    }

    /// Whether there is such a listener, or a connection that came by it.
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed) || self.open.value() > 0
    }

    /// Whether `client` may come in.
    pub fn permits(&self, client: IpAddr) -> bool {
        self.allow.load().permits(client)
    }

    /// Whether messages that pass get a Via.
    pub fn via(&self) -> bool {
        self.via.load(Ordering::Relaxed)
    }

    /// The right to open one more connection. At the limit this waits, and whoever connects waits in the accept queue.
    pub async fn acquire(self: &Arc<Self>) -> ConnectionPermit {
        let slot = match self.pool.try_acquire() {
            Some(slot) => slot,
            None => {
                self.count_closed(CloseReason::Full);
                self.pool.acquire().await
            }
        };
        ConnectionPermit { listener: self.clone(), slot, counted: false }
    }

    /// Whether the next would have to wait.
    pub fn is_full(&self) -> bool {
        self.pool.is_full()
    }

    /// Counts a connection that is not served.
    pub fn count_closed(&self, why: CloseReason) {
        self.closed[why as usize].inc();
    }
}

/// The right to one open connection, given back when it is dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    listener: Arc<Listener>,
    #[expect(dead_code, reason = "held, not read: dropping it lets the next one in")]
    slot: Slot,
    counted: bool,
}

impl ConnectionPermit {
    /// The connection is here.
    pub fn used(mut self) -> Self {
        self.listener.connections.inc();
        self.listener.open.inc();
        self.counted = true;
        self
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        if self.counted {
            self.listener.open.dec();
        }
    }
}
