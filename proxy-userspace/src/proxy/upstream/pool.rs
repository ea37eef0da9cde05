//! Ready connections to one endpoint, kept by one worker.
//!
//! A worker uses only its own: a pool shared between runtimes wakes another thread for every request, which
//! costs a quarter of the CPU and half of the tail. The lock is therefore never contended on the request path;
//! it is there because the sweeper and the admin look in.
//!
//! A connection comes back at the **end of a response's body**, not at its head, or the next request would queue
//! behind a streaming answer.

use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;

use crate::proxy::exchange::Body;
use crate::proxy::exchange::session::Origin;
use crate::transport::Peer;

/// How a connection is used; connections of different kinds are not exchanged for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 with header names in lower case.
    Http1,
    /// HTTP/1.1 that keeps the spelling of header names, for applications that do not know of weir.
    Http1Cased,
}

/// A connection that can take a request.
#[derive(Debug)]
pub struct Ready {
    /// hyper's handle.
    pub sender: SendRequest<Body>,
    /// How it is used.
    pub protocol: Protocol,
    /// The endpoint.
    pub peer: Peer,
    /// Whether it has carried a request before: then its end may only mean that it was idle too long.
    pub reused: bool,
}

impl Protocol {
    /// How connections for requests of this origin are used.
    pub fn of(origin: Origin) -> Self {
        match origin {
            Origin::Explicit => Self::Http1,
            Origin::Dialled(_) => Self::Http1Cased,
        }
    }
}

/// The unused connections of one worker to one endpoint.
#[derive(Debug, Default)]
pub struct Pool(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Those used last are the last.
    idle: Vec<(Instant, Ready)>,
    /// The endpoint has left, or is not to be used now.
    closed: bool,
}

impl Pool {
    /// The connection used last, if one is open, of this kind, and idle for less than `limit`.
    pub fn take(&self, protocol: Protocol, now: Instant, limit: Duration) -> Option<Ready> {
        let mut state = self.0.lock();
        loop {
            let at = state.idle.iter().rposition(|(_, ready)| ready.protocol == protocol)?;
            let (since, ready) = state.idle.remove(at);
            if ready.sender.is_ready() && now.saturating_duration_since(since) < limit {
                return Some(ready);
            }
        }
    }

    /// Keeps `ready` for a later request, unless `most` are kept already or the pool is closed. One that is still
    /// busy is not kept: its endpoint answered before the request's body was whole, and the next request would wait
    /// for this client.
    pub fn put(&self, ready: Ready, now: Instant, most: usize) {
        if !ready.sender.is_ready() {
            return;
        }
        ready.peer.owes_nothing();
        let mut state = self.0.lock();
        if !state.closed && state.idle.len() < most {
            state.idle.push((now, ready));
        }
    }

    /// Drops connections that are closed, or idle for `limit`. Returns when the next of those that stay will be.
    pub fn sweep(&self, now: Instant, limit: Duration) -> Option<Instant> {
        let mut state = self.0.lock();
        state.idle.retain(|(since, ready)| {
            !ready.sender.is_closed() && now.saturating_duration_since(*since) < limit
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
