//! Listeners as the data plane sees them: who may connect, how many at the same time, and counters.

mod http2;
mod kind;
mod room;
pub mod sockets;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::time::{sleep, timeout};

pub use self::http2::{Abuse, Codes, Http2Stats};
pub use self::kind::ListenerKind;
pub use self::room::Share;
use self::room::{Place, Room};
use crate::config::Allow;
use crate::proxy::holders::{Holder, Holders, Stranger};
use crate::telemetry::{Counter, Gauge};
use crate::transport::Activity;

#[derive(Debug)]
struct RouterLabel(Arc<str>);

/// One in so many connections of a full listener may wait for room beside those that are open, but always a few.
const WAITING: usize = 4;
const FEW: usize = 16;

/// How many connections may wait for room where `limit` may be open.
pub fn most_waiting(limit: usize) -> usize {
    limit.div_ceil(WAITING).max(FEW)
}

/// Tells the listeners of a process apart; none is used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerId(u64);

/// A listener as the data plane sees it: who may connect, how many, and counters. Shared by all workers, and by all
/// ports of the transparent listener.
#[derive(Debug)]
pub struct Listener {
    /// Which kind of listener.
    pub kind: ListenerKind,
    /// Which one it is in this process.
    pub id: ListenerId,
    /// The label of its router, where that has one of its own.
    router: ArcSwapOption<RouterLabel>,
    /// Where it listens, of a router's.
    addresses: ArcSwap<Vec<SocketAddr>>,
    /// Who may connect.
    allow: ArcSwap<Allow>,
    /// Its open connections, and those that wait.
    room: Arc<Room>,
    /// Whether forwarded messages get a Via.
    via: AtomicBool,
    /// Whether the listener exists.
    used: AtomicBool,
    /// Connections open now.
    pub open: Gauge,
    /// Connections accepted and served.
    pub connections: Counter,
    /// Requests (HTTP) or connections (opaque) served.
    pub requests: Counter,
    /// Connections closed without service, or delayed, by reason; see [`CloseReason`].
    pub closed: [Counter; CloseReason::LABELS.len()],
    /// Diverted connections whose first head hyper cannot parse: they are forwarded as opaque bytes.
    pub unparsed_heads: Counter,
    /// Requests whose `l5d-ctx-dtab` was removed, since it is not believed from their client.
    pub contexts_ignored: Counter,
    /// Counters of its HTTP/2 connections.
    pub http2: Http2Stats,
}

/// Why a connection was closed without being served, or had to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// `allow` does not include its source.
    NotAllowed = 0,
    /// The listener was at its limit, and the connection's pod had its share: the connection was not closed, but had to
    /// wait until another one closed. On the admin and probes listeners it replaces the oldest one.
    Full = 1,
    /// It reached a transparent port, but no original destination is recorded for it, e.g. because no program diverted
    /// it.
    NoOriginal = 2,
    /// It had dialled one of weir's own listeners.
    Loop = 3,
    /// weir refuses the destination.
    Refused = 4,
    /// No file descriptor was left, or accept failed otherwise.
    AcceptFailed = 5,
    /// The head of its request was not HTTP, was too large, or did not arrive in time.
    BadHead = 6,
    /// It was diverted, but its recorded entry comes from a source that does not have its address.
    ForeignOriginal = 7,
    /// It reached a transparent port, and the sequence number of its SYN, which identifies its entry, is not known.
    NoSyn = 8,
    /// Its client had closed its sending side, and nothing passed any more for `limits.halfClosed`.
    HalfClosed = 9,
    /// The listener was full, and it was idle, or its client had closed its sending side: it made room for another one.
    MadeRoom = 10,
    /// The listener was full, its pod had more than its share, and one with less asked for room: of that pod's
    /// connections it was needed least: those that are not in use go first, and of these the one unused for longest.
    Displaced = 11,
    /// The listener was full, its pod had its share, and too many waited already, or it waited for `limits.waitForRoom`.
    NoRoom = 12,
    /// Its client spoke TLS without a CONNECT, which the router does not carry (`outgoing.tls`), or which named no host.
    Tls = 13,
    /// At a pod's loopback address, its client was a process in the pod's network namespace that is not the pod's.
    NotItsPod = 14,
    /// Memory was short (`limits.memory`).
    Memory = 15,
}

impl CloseReason {
    /// The labels in metrics, in order.
    pub const LABELS: [&'static str; 16] = [
        "not_allowed",
        "full",
        "no_original",
        "loop",
        "refused",
        "accept_failed",
        "bad_head",
        "foreign_original",
        "no_syn",
        "half_closed",
        "made_room",
        "displaced",
        "no_room",
        "tls",
        "not_its_pod",
        "memory",
    ];
}

impl Listener {
    /// A listener that is not in use yet and has no connections.
    pub fn new(kind: ListenerKind) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self {
            kind,
            id: ListenerId(NEXT.fetch_add(1, Ordering::Relaxed)),
            router: ArcSwapOption::empty(),
            addresses: ArcSwap::default(),
            allow: ArcSwap::from_pointee(Allow::new(Vec::new())),
            room: Room::new(),
            via: AtomicBool::new(false),
            used: AtomicBool::new(false),
            open: Gauge::default(),
            connections: Counter::default(),
            requests: Counter::default(),
            closed: Default::default(),
            unparsed_heads: Counter::default(),
            contexts_ignored: Counter::default(),
            http2: Http2Stats::default(),
        })
    }

    /// A listener of no router, with this one's label and Via, for the requests of a client that is refused.
    pub fn without_router(&self) -> Arc<Self> {
        let listener = Self::new(self.kind);
        listener.of_router(self.router().as_deref());
        listener.via.store(self.via(), Ordering::Relaxed);
        listener
    }

    /// Its labels in metrics: its kind, and its router.
    pub fn labels(&self) -> [(&'static str, Arc<str>); 2] {
        let router = self.router().unwrap_or_default();
        [("listener", self.kind.label().into()), ("router", router)]
    }

    /// The label of its router, where that has one of its own.
    pub fn router(&self) -> Option<Arc<str>> {
        self.router.load().as_ref().map(|it| Arc::clone(&it.0))
    }

    /// Sets the label of its router.
    pub fn of_router(&self, label: Option<&str>) {
        self.router.store(label.map(|it| Arc::new(RouterLabel(it.into()))));
    }

    /// Where it listens, of a router's.
    pub fn addresses(&self) -> Arc<Vec<SocketAddr>> {
        self.addresses.load_full()
    }

    /// Sets where it listens.
    pub fn listens_at(&self, addresses: Vec<SocketAddr>) {
        self.addresses.store(Arc::new(addresses));
    }

    /// Opens it to the sources in `allow`, for `limit` connections at the same time, and sets whether messages get a
    /// Via; or changes these settings. Open connections stay. A quarter as many may wait for room.
    pub fn open_to(&self, allow: &Allow, limit: usize, via: bool) {
        if **self.allow.load() != *allow {
            self.allow.store(Arc::new(allow.clone()));
        }
        self.room.set(limit, most_waiting(limit));
        self.via.store(via, Ordering::Relaxed);
        self.used.store(true, Ordering::Relaxed);
    }

    /// From now on, only sources that `allow` has as well may connect. Open connections stay.
    pub fn narrow_to(&self, allow: &Allow) {
        let both = self.allow.load().and(allow);
        if **self.allow.load() != both {
            self.allow.store(Arc::new(both));
        }
    }

    /// The listener no longer exists; its connections stay open until they end.
    pub fn close(&self) {
        self.used.store(false, Ordering::Relaxed);
    }

    /// Whether the listener exists, or still has connections.
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed) || self.open.value() > 0
    }

    /// Whether `client` may connect.
    pub fn permits(&self, client: IpAddr) -> bool {
        self.allow.load().permits(client)
    }

    /// Whether forwarded messages get a Via.
    pub fn via(&self) -> bool {
        self.via.load(Ordering::Relaxed)
    }

    /// A connection of `holder` comes. At the limit, its pod's share decides whether it gets room at once, at another
    /// one's cost; see `room`. `stranger` is its client, if that may turn out to be a pod.
    pub fn enter(self: &Arc<Self>, holder: &Arc<Holder>, stranger: Option<Stranger>) -> Entry {
        match self.room.enter(holder, stranger, Instant::now()) {
            room::Entry::In(place) => Entry::In(self.permit(place)),
            room::Entry::Wait(waiting) => {
                self.count_closed(CloseReason::Full);
                Entry::Wait(Waiting { listener: self.clone(), waiting })
            }
            room::Entry::Full => Entry::Full,
        }
    }

    /// As [`Self::enter`], but waits as long as it takes.
    pub async fn acquire(
        self: &Arc<Self>,
        holder: &Arc<Holder>,
        stranger: Option<Stranger>,
    ) -> ConnectionPermit {
        loop {
            let permit = match self.enter(holder, stranger.clone()) {
                Entry::In(permit) => Some(permit),
                Entry::Wait(waiting) => waiting.permit(Duration::MAX).await,
                Entry::Full => {
                    sleep(room::IN_VAIN).await;
                    None
                }
            };
            if let Some(permit) = permit {
                return permit;
            }
        }
    }

    /// Charges its connections to the pods that their clients have turned out to be.
    pub fn recharge(&self, holders: &Holders) {
        self.room.recharge(holders);
    }

    fn permit(self: &Arc<Self>, place: Place) -> ConnectionPermit {
        if place.has_displaced {
            self.count_closed(CloseReason::Displaced);
        }
        ConnectionPermit { listener: self.clone(), place, counted: false }
    }

    /// Whether the next connection finds no free place.
    pub fn is_full(&self) -> bool {
        self.room.is_full()
    }

    /// How many connections wait for room.
    pub fn waiting(&self) -> usize {
        self.room.waiting()
    }

    /// Who has the most of its connections, `most` of them.
    pub fn shares(&self, most: usize) -> Vec<Share> {
        self.room.shares(most)
    }

    /// Calls `with` with the holder and the activity of each open connection.
    pub fn visit(&self, with: impl FnMut(&Arc<Holder>, &Activity)) {
        self.room.visit(with);
    }

    /// Counts a connection that is not served.
    pub fn count_closed(&self, why: CloseReason) {
        self.closed[why as usize].inc();
    }
}

/// What becomes of a connection that comes.
pub enum Entry {
    /// It is served.
    In(ConnectionPermit),
    /// It has to wait.
    Wait(Waiting),
    /// It cannot even wait.
    Full,
}

/// A connection that waits for room.
#[derive(Debug)]
pub struct Waiting {
    listener: Arc<Listener>,
    waiting: room::Waiting,
}

impl Waiting {
    /// The permit, as soon as there is room; `None` if that takes longer than `limit`.
    pub async fn permit(self, limit: Duration) -> Option<ConnectionPermit> {
        let place = timeout(limit, self.waiting.place()).await.ok().flatten()?;
        Some(self.listener.permit(place))
    }
}

/// The permit for one open connection, released on drop.
#[derive(Debug)]
pub struct ConnectionPermit {
    listener: Arc<Listener>,
    place: Place,
    counted: bool,
}

impl ConnectionPermit {
    /// Marks that the permit's connection has been accepted.
    pub fn used(mut self) -> Self {
        self.listener.connections.inc();
        self.listener.open.inc();
        self.counted = true;
        self
    }

    /// What its connection does.
    pub fn activity(&self) -> &Activity {
        &self.place.activity
    }

    /// Whose its connection is.
    pub fn holder(&self) -> &Arc<Holder> {
        self.place.holder()
    }

    /// Charges its connection to `holder`, whose it has turned out to be.
    pub fn charge_to(&self, holder: &Arc<Holder>) {
        self.place.charge_to(holder);
    }

    /// Whether another connection waits for its place: then it ends with its current answers.
    pub fn is_short_of_room(&self) -> bool {
        self.place.is_short_of_room()
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        if self.counted {
            self.listener.open.dec();
        }
    }
}
