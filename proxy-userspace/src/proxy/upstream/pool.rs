//! Unused connections to one endpoint, kept by one worker.
//!
//! A worker uses only its own: a pool shared between runtimes wakes another thread for every request, which costs a
//! quarter of the CPU and half of the tail latency. The lock is therefore never contended on the request path; only the
//! sweeper and the admin take it besides.
//!
//! A connection is returned at the **end of a response's body**, not at its head, or the next request would queue
//! behind a streaming answer.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::PooledConnection;

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
    /// The endpoint was removed, or is not to be used now.
    closed: bool,
}

impl Pool {
    /// The most recently used connection with this `key` that is open and was idle for less than `limit`. The checkout
    /// is exclusive.
    pub fn checkout(&self, key: Key, now: Instant, limit: Duration) -> Option<PooledConnection> {
        let mut state = self.0.lock();
        loop {
            let at = state.idle.iter().rposition(|(_, it)| it.key == key)?;
            let (since, connection) = state.idle.remove(at);
            if connection.conn.is_ready() && now.saturating_duration_since(since) < limit {
                return Some(connection);
            }
        }
    }

    /// Keeps `connection` for a later request, unless `most` are kept already or the pool is closed. A busy connection
    /// is not kept: its endpoint answered before the request's body was complete, and the next request would wait for
    /// this client. Nor is one whose sending side is closed.
    pub fn put(&self, connection: PooledConnection, now: Instant, most: usize) {
        if !connection.conn.is_ready() || connection.peer.has_ended() {
            return;
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
        state.idle.first()?.0.checked_add(limit)
    }

    /// Drops connections from this source.
    pub fn forget(&self, source: Source) {
        let mut dropped = Vec::new();
        let mut state = self.0.lock();
        let (gone, stay) =
            std::mem::take(&mut state.idle).into_iter().partition(|(_, it)| it.key.source == source);
        state.idle = stay;
        drop(state);
        dropped.extend::<Vec<_>>(gone);
    }

    /// Drops every connection in the pool.
    pub fn clear(&self) {
        let dropped = std::mem::take(&mut self.0.lock().idle);
        drop(dropped);
    }

    /// Drops every connection, and those in use when they are returned.
    pub fn close(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.idle.clear();
    }

    /// Keeps connections again.
    pub fn open(&self) {
        self.0.lock().closed = false;
    }

    /// How many unused connections are kept.
    pub fn len(&self) -> usize {
        self.0.lock().idle.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
