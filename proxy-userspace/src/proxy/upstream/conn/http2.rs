//! HTTP/2 to an endpoint (RFC 9113), on the h2 crate.
//!
//! A connection is shared: each request takes one stream of it ([`StreamPermit`]). It stays open as long as its pool
//! has it or a stream is in use, and then ends with a GOAWAY.

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::stalls::Stalls;
use super::stream::StreamPermit;
use crate::config::Limits;
use crate::proxy::upstream::http2::Http2Stats;
use crate::proxy::upstream::{Connecting, Key};
use crate::transport::{Io, Peer};

/// Streams that may be opened before the endpoint's SETTINGS have arrived: they may allow no more.
const FIRST_STREAMS: usize = 1;

/// How long, and how many, streams that weir has reset are remembered: what still arrives for them is no error of the
/// endpoint.
const RESET_KEPT: (Duration, usize) = (Duration::from_secs(30), 10_000);

/// A connection that is shared.
#[derive(Debug)]
pub(in crate::proxy::upstream) struct Http2 {
    key: Key,
    peer: Peer,
    sender: Mutex<SendRequest<Bytes>>,
    /// weir's own limit for streams at the same time.
    most: usize,
    /// Told when a stream is free.
    freed: Arc<Notify>,
    stalls: Stalls,
    state: Arc<State>,
}

/// What the connection's task knows, too; it holds no [`Http2`], whose last one closes the connection.
#[derive(Debug)]
pub(super) struct State {
    epoch: Instant,
    /// Streams in use.
    streams: AtomicUsize,
    /// When the last stream was taken or became free, in milliseconds from the epoch.
    used: AtomicU64,
    /// Whether it has carried a request.
    carried: AtomicBool,
    closed: AtomicBool,
    /// Its endpoint has sent a GOAWAY, which is counted.
    goes_away: AtomicBool,
    /// The answer to a PING is missing.
    unanswered: AtomicBool,
    /// Told when its endpoint's SETTINGS have come, and when it has ended.
    settled: Notify,
    stats: Arc<Connecting>,
}

impl Http2 {
    /// Starts HTTP/2 on `io`. `None` when the endpoint has closed it already. `freed` is told when a stream is free.
    pub(in crate::proxy::upstream) async fn handshake(
        io: Io,
        key: Key,
        limits: &Limits,
        (freed, stats): (Arc<Notify>, Arc<Connecting>),
    ) -> Option<Arc<Self>> {
        let peer = io.peer()?.clone();
        let bounds = &limits.http2_endpoints;
        let (sender, mut connection) = builder(limits).handshake(io.discard_unread()).await.ok()?;
        let pings = connection.ping_pong();
        stats.http2.connections.inc();
        let state = Arc::new(State {
            epoch: Instant::now(),
            streams: AtomicUsize::new(0),
            used: AtomicU64::new(0),
            carried: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            goes_away: AtomicBool::new(false),
            unanswered: AtomicBool::new(false),
            settled: Notify::new(),
            stats,
        });
        let keep_alive = keep_alive(pings, peer.clone(), state.clone(), (bounds.ping, bounds.ping_timeout));
        tokio::task::spawn_local(drive((connection, peer.clone()), keep_alive, state.clone(), freed.clone()));
        let (sender, most, stalls) = (Mutex::new(sender), bounds.streams, Stalls::default());
        Some(Arc::new(Self { key, peer, sender, most, freed, stalls, state }))
    }

    /// One more stream of it, if it can take one now.
    pub(in crate::proxy::upstream) fn stream(self: &Arc<Self>, now: Instant) -> Option<StreamPermit> {
        let in_use = self.state.streams.load(Ordering::Relaxed);
        if in_use >= self.most.min(self.sender.lock().current_max_send_streams()) {
            return None;
        }
        self.state.streams.store(in_use + 1, Ordering::Relaxed);
        self.state.stats.http2.streams.inc();
        if in_use == 0 {
            self.peer.owes(now);
        }
        let reused = self.state.carried.swap(true, Ordering::Relaxed);
        Some(StreamPermit::new(self.clone(), reused))
    }

    pub(super) fn key(&self) -> Key {
        self.key
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// A stream of it is free again.
    pub(super) fn release(&self) {
        self.state.stats.http2.streams.dec();
        self.state.used.store(self.state.millis(Instant::now()), Ordering::Relaxed);
        if self.state.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.peer.owes_nothing();
        }
        self.freed.notify_one();
    }

    /// A handle that opens a stream.
    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.sender.lock().clone()
    }

    pub(super) fn stalls(&self) -> &Stalls {
        &self.stalls
    }

    /// Whether an upload on it has waited long for window: what others send may have to wait as long.
    pub(in crate::proxy::upstream) fn is_stalled(&self, now: Instant) -> bool {
        self.stalls.is_long(now)
    }

    pub(in crate::proxy::upstream) fn stats(&self) -> &Http2Stats {
        &self.state.stats.http2
    }

    /// Whether it takes no more requests: it is closed, or its endpoint has sent a GOAWAY.
    pub(in crate::proxy::upstream) fn is_closed(&self) -> bool {
        // A handle that has opened no stream is ready, or fails.
        let ready = self.sender.lock().poll_ready(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(Err(error)) = &ready
            && error.is_go_away()
            && error.is_remote()
            && !self.state.goes_away.swap(true, Ordering::Relaxed)
        {
            self.state.stats.http2.goaways.inc();
        }
        self.state.closed.load(Ordering::Relaxed) || !matches!(ready, Poll::Ready(Ok(())))
    }

    /// Whether its endpoint has said how many streams it may have: its SETTINGS come first (RFC 9113 §3.4).
    pub(in crate::proxy::upstream) fn is_settled(&self) -> bool {
        self.peer.reads() > 0
    }

    /// Whether its endpoint takes extended CONNECT (RFC 8441 §3). Its SETTINGS are awaited for `limit` at most.
    pub(super) async fn takes_extended_connect(&self, limit: Duration) -> bool {
        let told = self.state.settled.notified();
        if !self.is_settled() && !self.state.closed.load(Ordering::Relaxed) {
            let _ = timeout(limit, told).await;
        }
        self.sender.lock().is_extended_connect_protocol_enabled()
    }

    /// Whether its endpoint did not answer a PING.
    pub(super) fn is_unanswered(&self) -> bool {
        self.state.unanswered.load(Ordering::Relaxed)
    }

    /// Whether none of its streams is in use.
    pub(in crate::proxy::upstream) fn is_unused(&self) -> bool {
        self.state.streams.load(Ordering::Relaxed) == 0
    }

    /// When it was last used.
    pub(in crate::proxy::upstream) fn used(&self) -> Instant {
        self.state.epoch + Duration::from_millis(self.state.used.load(Ordering::Relaxed))
    }
}

impl State {
    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }
}

fn builder(limits: &Limits) -> Builder {
    let bounds = &limits.http2_endpoints;
    let window = u32::try_from(bounds.window).unwrap_or(u32::MAX);
    let all = u32::try_from(bounds.window * bounds.streams).unwrap_or(u32::MAX).min(i32::MAX as u32);
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(FIRST_STREAMS)
        .initial_window_size(window)
        // A client that takes nothing of its answer holds one stream's window, and so none of another's.
        .initial_connection_window_size(all)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(bounds.window)
        .reset_stream_duration(RESET_KEPT.0)
        .max_concurrent_reset_streams(RESET_KEPT.1)
        // What clients cancel must not close a connection that others use.
        .max_local_error_reset_streams(None);
    builder
}

/// Runs a connection until its end.
async fn drive(
    (mut connection, peer): (Connection<Io, Bytes>, Peer),
    keep_alive: impl Future<Output = ()>,
    state: Arc<State>,
    freed: Arc<Notify>,
) {
    let mut allowed = None;
    let connection = poll_fn(|cx| {
        let polled = Pin::new(&mut connection).poll(cx);
        let now = (peer.reads() > 0).then(|| connection.max_concurrent_send_streams());
        if now != allowed {
            allowed = now;
            state.settled.notify_waiters();
            // Who waits may have a stream now.
            freed.notify_waiters();
        }
        polled
    });
    tokio::select! {
        // An error reaches every stream; on an unused connection it does not matter.
        _ = connection => {}
        () = keep_alive => {
            // Its end, which drops the connection, reaches every stream.
            state.unanswered.store(true, Ordering::Relaxed);
            state.stats.http2.unanswered_pings.inc();
        }
    }
    state.closed.store(true, Ordering::Relaxed);
    state.settled.notify_waiters();
    state.stats.http2.connections.dec();
    freed.notify_waiters();
}

/// Asks the endpoint by a PING where a connection in use is silent for the first duration; returns when it does not
/// answer within the second.
async fn keep_alive(
    pings: Option<PingPong>,
    peer: Peer,
    state: Arc<State>,
    (every, limit): (Duration, Duration),
) {
    let Some(mut pings) = pings.filter(|_| !every.is_zero()) else { return pending().await };
    loop {
        let before = peer.reads();
        sleep(every).await;
        if peer.reads() != before || state.streams.load(Ordering::Relaxed) == 0 {
            continue;
        }
        match timeout(limit, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return pending().await, // The connection ends by itself.
            Err(_) => return,
        }
    }
}
