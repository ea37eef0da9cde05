//! Ready connections to one endpoint, kept by one worker.
//!
//! A worker uses only its own: a pool shared between runtimes wakes another thread for every request, which
//! costs a quarter of the CPU and half of the tail. The lock is therefore never contended on the request path;
//! it is there because the sweeper and the admin look in.
//!
//! A connection comes back at the **end of a response's body**, not at its head, or the next request would queue
//! behind a streaming answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;

use super::http::Body;
use crate::transport::Heard;

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
    /// What has come from the endpoint.
    pub heard: Heard,
    /// Whether it has carried a request before: then its end may only mean that it was idle too long.
    pub reused: bool,
}

/// The unused connections of one worker to one endpoint, the latest used last.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<Vec<(Instant, Ready)>>,
    closed: AtomicBool,
}

impl Pool {
    /// The connection used last, if one is open, of this kind, and idle for less than `limit`.
    pub fn take(&self, protocol: Protocol, now: Instant, limit: Duration) -> Option<Ready> {
        let mut idle = self.idle.lock();
        loop {
            let at = idle.iter().rposition(|(_, ready)| ready.protocol == protocol)?;
            let (since, ready) = idle.remove(at);
            if !ready.sender.is_closed() && now.saturating_duration_since(since) < limit {
                return Some(ready);
            }
        }
    }

    /// Keeps `ready` for a later request, unless `most` are kept already or the endpoint is gone.
    pub fn put(&self, ready: Ready, now: Instant, most: usize) {
        if ready.sender.is_closed() || self.closed.load(Ordering::Relaxed) {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() < most {
            idle.push((now, ready));
        }
    }

    /// Drops connections that are closed, or idle for `limit`.
    pub fn sweep(&self, now: Instant, limit: Duration) {
        self.idle.lock().retain(|(since, ready)| {
            !ready.sender.is_closed() && now.saturating_duration_since(*since) < limit
        });
    }

    /// Drops every connection, and those still to come back.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.idle.lock().clear();
    }

    /// Undoes [`Pool::close`]: the endpoint is back.
    pub fn reopen(&self) {
        self.closed.store(false, Ordering::Relaxed);
    }

    /// How many unused connections are kept.
    pub fn len(&self) -> usize {
        self.idle.lock().len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
