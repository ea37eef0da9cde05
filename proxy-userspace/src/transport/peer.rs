//! The peer of a connection to an endpoint: what it owes, and what its connection is told by others.

#[cfg(test)]
mod tests;
mod watch;

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

pub use self::watch::Watch;
use super::interim::{Bounds, Interim};
use super::sent_head::SentHead;
use crate::domain::silence::{Doubts, Wait};

/// The limits for the peer of a connection to an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long a peer that owes an answer may be silent.
    pub silence: Duration,
    /// How long an unused connection may be silent before TCP sends a probe, and the interval between probes.
    pub unused: (Duration, Duration),
    /// How many probes stay unanswered there before TCP gives up.
    pub probes: u32,
    /// What may arrive before each answer.
    pub interim: Bounds,
}

/// The peer of a connection to an endpoint. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    patience: Patience,
    doubts: Doubts,
    /// It has reported to its endpoint's doubts.
    doubted: AtomicBool,
    epoch: Instant,
    /// How many reads returned data.
    reads: AtomicU64,
    /// Since when it owes an answer, in milliseconds from the epoch plus one; 0 when it owes none.
    owes: AtomicU64,
    /// When the next check is due.
    due: AtomicU64,
    /// The reader must check the connection.
    asked: AtomicBool,
    /// TCP probes often.
    urged: AtomicBool,
    silent: AtomicBool,
    /// The progress of the end of the client's sending side, see [`Peer::end`].
    end: AtomicU8,
    /// The connection is to be reset.
    cut: AtomicBool,
    reader: Mutex<Option<Waker>>,
    wait: Mutex<(u64, Wait)>,
    interim: Interim,
    sent_head: SentHead,
    /// The number of its socket.
    socket: AtomicI32,
}

/// The progress of the end of the client's sending side.
#[derive(Clone, Copy, Debug)]
enum End {
    /// It has not ended.
    No = 0,
    /// It has; the connection's own is to be closed as soon as all is written.
    Due = 1,
    /// That was done.
    Done = 2,
}

impl Peer {
    /// The peer of a new connection, to the endpoint with these `doubts`.
    pub fn new(patience: Patience, doubts: Doubts) -> Self {
        Self(Arc::new(Inner {
            patience,
            doubts,
            doubted: AtomicBool::new(false),
            epoch: Instant::now(),
            reads: AtomicU64::new(0),
            owes: AtomicU64::new(0),
            due: AtomicU64::new(0),
            asked: AtomicBool::new(false),
            urged: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            end: AtomicU8::new(End::No as u8),
            cut: AtomicBool::new(false),
            reader: Mutex::default(),
            wait: Mutex::default(),
            interim: Interim::new(patience.interim),
            sent_head: SentHead::default(),
            socket: AtomicI32::new(-1),
        }))
    }

    /// Its connection has the socket of this number.
    pub(super) fn is_on(&self, socket: RawFd) {
        self.0.socket.store(socket, Ordering::Relaxed);
    }

    /// The number of the socket that its connection has or had.
    pub fn socket(&self) -> RawFd {
        self.0.socket.load(Ordering::Relaxed)
    }

    /// How many reads have returned data so far.
    pub fn reads(&self) -> u64 {
        self.0.reads.load(Ordering::Relaxed)
    }

    /// It owes the answer to an HTTP request since `now`: interim answers before it are counted.
    pub fn owes_response(&self, now: Instant) {
        self.0.interim.is_due();
        self.owes(now);
    }

    /// The head of the request that is sent next, which has no body, is kept until it is answered.
    pub fn keep_head(&self) {
        self.0.sent_head.keep();
    }

    /// That head as it was written, if it was, and was written alone.
    pub fn take_head(&self) -> Option<Vec<u8>> {
        self.0.sent_head.take()
    }

    /// The head of the request, if it is to be kept.
    pub(super) fn sent_head(&self) -> &SentHead {
        &self.0.sent_head
    }

    /// Takes the heads of interim answers (1xx) that have come, whole and as they came; 100 is not among them.
    pub fn take_interim(&self) -> Option<Vec<u8>> {
        self.0.interim.take()
    }

    /// The task of `cx` is woken for each of them that comes.
    pub fn wake_for_interim(&self, cx: &Context<'_>) {
        self.0.interim.wake_for_each(cx);
    }

    /// It owes bytes since `now`, unless it owed some before. In a tunnel, nothing is known of what they are.
    pub fn owes(&self, now: Instant) {
        if self.0.owes.load(Ordering::Relaxed) == 0 {
            self.0.owes.store(self.millis(now), Ordering::Relaxed);
        }
    }

    /// It owes nothing any more.
    pub fn owes_nothing(&self) {
        self.0.owes.store(0, Ordering::Relaxed);
        self.0.interim.is_over();
        self.0.sent_head.is_over();
        self.0.set_doubted(false);
    }

    /// The client has sent all, and has closed its sending side: the connection closes its own (FIN) as soon as all is
    /// written, and the endpoint decides. Such a connection takes no other request. Idempotent.
    pub fn end(&self) {
        if self.0.end.load(Ordering::Relaxed) == End::No as u8 {
            self.0.end.store(End::Due as u8, Ordering::Relaxed);
            self.wake();
        }
    }

    /// Whether [`Peer::end`] was called.
    pub fn has_ended(&self) -> bool {
        self.0.end.load(Ordering::Relaxed) != End::No as u8
    }

    /// Whether the sending side is to be closed now, as all is written: `true` once.
    pub(super) fn takes_end(&self) -> bool {
        let due = self.0.end.load(Ordering::Relaxed) == End::Due as u8;
        if due {
            self.0.end.store(End::Done as u8, Ordering::Relaxed);
        }
        due
    }

    /// The exchange is cut short: the connection is reset when it is closed, as the client's was.
    pub fn cut(&self) {
        self.0.cut.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Whether it is to be reset.
    pub(super) fn is_cut(&self) -> bool {
        self.0.cut.load(Ordering::Relaxed)
    }

    fn wake(&self) {
        if let Some(reader) = &*self.0.reader.lock() {
            reader.wake_by_ref();
        }
    }

    /// Whether it was given up because it was silent.
    pub fn is_silent(&self) -> bool {
        self.0.silent.load(Ordering::Relaxed)
    }

    /// Whether it was given up because it sent too much before an answer.
    pub fn is_flooding(&self) -> bool {
        self.0.interim.is_exceeded()
    }

    /// These bytes arrived from it.
    ///
    /// # Errors
    ///
    /// When more arrived before an answer than the bounds allow: now and at every later call.
    pub(super) fn said(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.reads.fetch_add(1, Ordering::Relaxed);
        match self.0.interim.came(bytes) {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, "too much came before an answer")),
        }
    }

    /// The waker of the reader from now on.
    pub(super) fn is_read_by(&self, reader: &Waker) {
        *self.0.reader.lock() = Some(reader.clone());
    }

    fn millis(&self, at: Instant) -> u64 {
        as_millis(at.saturating_duration_since(self.0.epoch)) + 1
    }
}

impl Inner {
    fn set_doubted(&self, doubted: bool) {
        if self.doubted.load(Ordering::Relaxed) == doubted {
            return;
        }
        self.doubted.store(doubted, Ordering::Relaxed);
        if doubted { self.doubts.add() } else { self.doubts.remove() }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.set_doubted(false);
    }
}

fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX - 1)
}
