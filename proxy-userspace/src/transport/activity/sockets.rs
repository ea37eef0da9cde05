//! The sockets of a connection, so that the kernel can be asked what it holds of them.
//!
//! Only their numbers: whoever asks does so from another thread, and rarely. A number may belong to another socket by then,
//! which makes an estimate wrong for a moment, and nothing else.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use super::Activity;
use crate::transport::Peer;

#[derive(Debug)]
pub(super) struct Sockets {
    client: AtomicI32,
    /// That of the endpoint whose bytes it was sent last.
    endpoint: AtomicI32,
    /// Streams whose answers wait for their client's window.
    waiting: AtomicU32,
}

impl Default for Sockets {
    fn default() -> Self {
        Self { client: AtomicI32::new(-1), endpoint: AtomicI32::new(-1), waiting: AtomicU32::new(0) }
    }
}

impl Activity {
    /// Its client's socket.
    pub fn is_on(&self, client: &impl AsRawFd) {
        self.0.sockets.client.store(client.as_raw_fd(), Ordering::Relaxed);
    }

    /// What passes now comes from this endpoint.
    pub fn is_from(&self, endpoint: Option<&Peer>) {
        self.0.sockets.endpoint.store(endpoint.map_or(-1, Peer::socket), Ordering::Relaxed);
    }

    /// The sockets of its client, and of the endpoint whose bytes passed last.
    pub fn sockets(&self) -> [Option<RawFd>; 2] {
        let of = |it: &AtomicI32| Some(it.load(Ordering::Relaxed)).filter(|it| *it >= 0);
        [of(&self.0.sockets.client), of(&self.0.sockets.endpoint)]
    }

    /// An answer begins to wait for its client's window, or has it.
    pub fn set_waiting(&self, waits: bool) {
        let waiting = &self.0.sockets.waiting;
        // All streams of a connection are on one thread.
        let now = waiting.load(Ordering::Relaxed);
        waiting.store(if waits { now + 1 } else { now.saturating_sub(1) }, Ordering::Relaxed);
    }

    /// How many answers wait so.
    pub fn waiting(&self) -> u32 {
        self.0.sockets.waiting.load(Ordering::Relaxed)
    }
}
