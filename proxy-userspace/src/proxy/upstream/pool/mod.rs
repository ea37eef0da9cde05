//! Unused connections to one endpoint, kept by one worker.
//!
//! A worker uses only its own: a pool shared between runtimes wakes another thread for every request, which costs a
//! quarter of the CPU and half of the tail latency. The lock is therefore never contended on the request path; only the
//! sweeper and the admin take it besides.
//!
//! A connection is returned at the **end of a response's body**, not at its head, or the next request would queue
//! behind a streaming answer.

//!
//! A connection of HTTP/2 is shared by many requests, and so is in its pool all the time (`shared.rs`).

mod shared;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;

use self::shared::Shared;
pub(super) use self::shared::{NoStream, Offer, offer};
use super::PooledConnection;
use super::conn::Http2;

/// What a connection can be used for; connections with different keys are not interchangeable. A pool belongs to one
/// endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The transport.
    pub transport: Transport,
    /// The protocol.
    pub protocol: Protocol,
    /// The source address.
    pub source: Source,
}

/// The transport of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP alone.
    Plain,
}

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 with header names in lower case.
    Http1,
    /// HTTP/1.1 that preserves the case of header names, for applications that do not know of weir.
    Http1Cased,
    /// HTTP/2 with prior knowledge (RFC 9113 §3.3).
    Http2,
}

/// The source address of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The node's address.
    Node,
    /// A pod's own: made in the network namespace with this cookie.
    Pod(u64),
}

impl Key {
    /// Plain TCP from this source.
    pub fn plain(protocol: Protocol, source: Source) -> Self {
        Self { transport: Transport::Plain, protocol, source }
    }
}

/// The unused connections of one worker to one endpoint.
#[derive(Debug, Default)]
pub struct Pool(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// In order of return; the last is the most recently used.
    idle: Vec<(Instant, PooledConnection)>,
    /// The smallest length of `idle` since the last purge: so many connections were not needed.
    surplus: usize,
    /// The endpoint was removed, or is not to be used now.
    closed: bool,
    /// Connections that are shared; `None` before the first.
    shared: Option<Box<Shared>>,
}

impl Pool {
    /// The most recently used connection with this `key` that is open and was idle for less than `limit`. The checkout
    /// is exclusive.
    pub fn checkout(&self, key: Key, now: Instant, limit: Duration) -> Option<PooledConnection> {
        let mut state = self.0.lock();
        loop {
            let at = state.idle.iter().rposition(|(_, it)| it.key == key)?;
            let (since, connection) = state.idle.remove(at);
            state.surplus = state.surplus.min(state.idle.len());
            if connection.conn.is_ready() && now.saturating_duration_since(since) < limit {
                return Some(connection);
            }
        }
    }

    /// Calls `with` with what is shared.
    fn shared<T>(&self, with: impl FnOnce(&mut Shared) -> T) -> T {
        with(self.0.lock().shared.get_or_insert_default())
    }

    /// Told when a stream of a connection with this `key` is free.
    pub(super) fn freed(&self, key: Key) -> Arc<Notify> {
        self.shared(|shared| shared.freed(key))
    }

    /// Shares `connection` with later requests, unless the pool is closed.
    pub(super) fn share(&self, key: Key, connection: &Arc<Http2>) {
        let mut state = self.0.lock();
        if !state.closed {
            state.shared.get_or_insert_default().add(key, connection.clone());
        }
    }

    /// Keeps `connection` for a later request, unless `most` are kept already or the pool is closed. A busy connection
    /// is not kept: its endpoint answered before the request's body was complete, and the next request would wait for
    /// this client. Nor is one whose sending side is closed.
    pub fn put(&self, connection: PooledConnection, now: Instant, most: usize) {
        if !connection.conn.is_ready() || connection.peer.has_ended() {
            return connection.complete();
        }
        connection.peer.owes_nothing();
        let mut state = self.0.lock();
        if !state.closed && state.idle.len() < most {
            state.idle.push((now, connection));
        }
    }

    /// Drops connections that are closed, or were idle for `limit`. Returns when the next of the others expires.
    pub fn sweep(&self, now: Instant, limit: Duration) -> Option<Instant> {
        let mut state = self.0.lock();
        state.idle.retain(|(since, connection)| {
            !connection.conn.is_closed() && now.saturating_duration_since(*since) < limit
        });
        let shared = state.shared.as_mut().and_then(|shared| shared.sweep(now, limit));
        if shared.is_none() {
            state.shared = state.shared.take().filter(|shared| !shared.is_empty());
        }
        let first = state.idle.first().map(|(since, _)| *since);
        first.into_iter().chain(shared).min()?.checked_add(limit)
    }

    /// Drops connections from this source.
    pub fn forget(&self, source: Source) {
        let mut state = self.0.lock();
        let (gone, stay): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.idle).into_iter().partition(|(_, it)| it.key.source == source);
        state.idle = stay;
        let shared = state.shared.as_mut().map(|shared| shared.forget(source));
        drop(state);
        drop((gone, shared));
    }

    /// Drops half of the connections that no request has needed since the last purge, the least recently used ones, as
    /// HAProxy does every `pool-purge-delay`. After a peak the number so follows the need within a few of them. A
    /// single connection is kept. Returns the number dropped.
    pub fn purge(&self) -> usize {
        let mut state = self.0.lock();
        let surplus = state.surplus.min(state.idle.len()) / 2;
        let dropped: SmallVec<[_; 1]> = state.idle.drain(..surplus).collect();
        state.surplus = state.idle.len();
        if state.idle.capacity() > 2 * state.idle.len() {
            state.idle.shrink_to_fit();
        }
        drop(state);
        dropped.len()
    }

    /// Drops every connection in the pool; a shared one ends with its last stream.
    pub fn clear(&self) {
        let mut state = self.0.lock();
        let dropped = std::mem::take(&mut state.idle);
        let shared = state.shared.as_mut().map(|shared| shared.clear());
        drop(state);
        drop((dropped, shared));
    }

    /// Drops every connection, and those in use when they are returned.
    pub fn close(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.idle.clear();
        let shared = state.shared.as_mut().map(|shared| shared.clear());
        drop(state);
        drop(shared);
    }

    /// Keeps connections again.
    pub fn open(&self) {
        self.0.lock().closed = false;
    }

    /// How many unused connections are kept, those of HTTP/2 without a stream in use included.
    pub fn len(&self) -> usize {
        let state = self.0.lock();
        state.idle.len() + state.shared.as_ref().map_or(0, |shared| shared.unused())
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
