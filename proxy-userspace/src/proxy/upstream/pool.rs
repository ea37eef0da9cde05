//! Ready connections to one endpoint, kept by one worker.
//!
//! A worker uses only its own: a pool shared between runtimes wakes another thread for every request, which
//! costs a quarter of the CPU and half of the tail. The lock is therefore never contended on the request path;
//! it is there because the sweeper and the admin look in.
//!
//! A connection comes back at the **end of a response's body**, not at its head, or the next request would queue
//! behind a streaming answer.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::PooledConnection;

/// What a connection can be used for; those of different keys are not exchanged for each other. The endpoint is the pool's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// What the connection is carried by.
    pub transport: Transport,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// Whose address it comes from.
    pub source: Source,
}

/// What a connection is carried by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP alone.
    Plain,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 with header names in lower case.
    Http1,
    /// HTTP/1.1 that keeps the spelling of header names, for applications that do not know of weir.
    Http1Cased,
}

/// Whose address a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The node's.
    Node,
}

impl Key {
    /// Plain TCP from the node's address.
    pub fn plain(protocol: Protocol) -> Self {
        Self { transport: Transport::Plain, protocol, source: Source::Node }
    }
}

/// The unused connections of one worker to one endpoint.
#[derive(Debug, Default)]
pub struct Pool(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Those used last are the last.
    idle: Vec<(Instant, PooledConnection)>,
    /// The endpoint has left, or is not to be used now.
    closed: bool,
}

impl Pool {
    /// The connection used last, if one is open, of this `key`, and idle for less than `limit`. Nobody else uses it until it
    /// comes back.
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

    /// Keeps `connection` for a later request, unless `most` are kept already or the pool is closed. One that is still
    /// busy is not kept: its endpoint answered before the request's body was whole, and the next request would wait
    /// for this client.
    pub fn put(&self, connection: PooledConnection, now: Instant, most: usize) {
        if !connection.conn.is_ready() {
            return;
        }
        connection.peer.owes_nothing();
        let mut state = self.0.lock();
        if !state.closed && state.idle.len() < most {
            state.idle.push((now, connection));
        }
    }

    /// Drops connections that are closed, or idle for `limit`. Returns when the next of those that stay will be.
    pub fn sweep(&self, now: Instant, limit: Duration) -> Option<Instant> {
        let mut state = self.0.lock();
        state.idle.retain(|(since, connection)| {
            !connection.conn.is_closed() && now.saturating_duration_since(*since) < limit
        });
        state.idle.first()?.0.checked_add(limit)
    }

    /// Drops every connection that is here.
    pub fn clear(&self) {
        let dropped = std::mem::take(&mut self.0.lock().idle);
        drop(dropped);
    }

    /// Drops every connection, and those still to come back.
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
