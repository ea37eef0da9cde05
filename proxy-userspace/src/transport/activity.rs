//! What a client connection is doing, to distinguish idle from slow.
//!
//! Timers are expensive: hyper's own header timeout costs 7 % of a request's instructions. Here each change of phase is
//! one store, and the connection has a single timer that reads the phase only when it fires.
//!
//! Deliberately absent: the state of one request. How long an exchange has waited is in its own clock; this records
//! when the last byte passed and how many exchanges run.

mod room;
mod shed;
mod sockets;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

pub use self::shed::Held;
use self::sockets::Sockets;
use super::ahead::Ahead;
use super::displacement::Displacement;
use super::interjected::Interjected;

/// The phases of a client connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Between requests: nothing of the next one has arrived.
    Idle,
    /// The head of a request is arriving.
    Head,
    /// An exchange runs; measured from the last byte that passed.
    Busy,
}

/// The progress of the last exchange's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// It was written.
    Written = 0,
    /// More of it will come.
    Due = 1,
    /// It is complete, and still to be written.
    Whole = 2,
}

/// Whether a connection is to make room for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    NotAsked = 0,
    /// Unless it is used.
    IfUnused = 1,
    /// Even if bytes pass.
    InUse = 2,
    /// Whatever it does: memory is short.
    Shed = 3,
}

/// An exchange in which no byte has passed for this long is not in use.
const QUIET: Duration = Duration::from_secs(1);

/// What is known of the client's sending side while an exchange runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// It is open, and its end wakes the connection's task.
    Open = 0,
    /// It is open, and bytes are unread: its end wakes nobody, so it has to be looked for from time to time.
    Unread = 1,
    /// It has ended, behind bytes that are unread.
    EndsLater = 2,
    /// It has ended, and nothing is unread.
    Ended = 3,
}

/// The state of a head that arrives and whose time is still to be noted, see [`Activity::stamp`]. As a time it is later than
/// any other, so that nothing has lasted since.
const UNSTAMPED: u64 = !3 | Phase::Head as u64;

/// The phase of a connection and its start; shared by the connection's reader, exchanges and owner, which run on one
/// thread.
#[derive(Clone, Debug)]
pub struct Activity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    epoch: Instant,
    /// Milliseconds since the epoch, and the phase in the two lowest bits.
    state: AtomicU64,
    /// Number of exchanges that run.
    exchanges: AtomicU32,
    /// See [`Answer`].
    answer: AtomicU8,
    /// Whether an answer passes that ends with the connection.
    open_ended: AtomicBool,
    /// See [`Sending`].
    sending: AtomicU8,
    /// Whether unread bytes are to be looked at once.
    look: AtomicBool,
    /// See [`Room`].
    room: AtomicU8,
    /// Whether it carries opaque bytes.
    carries: AtomicBool,
    /// The task that can do so.
    owner: Mutex<Option<Waker>>,
    displacement: Displacement,
    ahead: Ahead,
    interjected: Interjected,
    sockets: Sockets,
}

impl Activity {
    /// A connection accepted at `now`: its first head is awaited.
    pub fn new(now: Instant) -> Self {
        Self(Arc::new(Inner {
            epoch: now,
            state: AtomicU64::new(Phase::Head as u64),
            exchanges: AtomicU32::new(0),
            answer: AtomicU8::new(Answer::Written as u8),
            open_ended: AtomicBool::new(false),
            sending: AtomicU8::new(Sending::Open as u8),
            look: AtomicBool::new(false),
            room: AtomicU8::new(Room::NotAsked as u8),
            carries: AtomicBool::new(false),
            owner: Mutex::default(),
            displacement: Displacement::default(),
            ahead: Ahead::default(),
            interjected: Interjected::default(),
            sockets: Sockets::default(),
        }))
    }

    /// An exchange begins at `now`, which is returned in milliseconds, see [`Activity::millis`].
    pub fn begin(&self, now: Instant) -> u64 {
        // No lock prefix is needed: all exchanges are on one thread.
        let running = self.0.exchanges.load(Ordering::Relaxed);
        self.0.exchanges.store(running + 1, Ordering::Relaxed);
        self.set_answer(Answer::Due);
        self.set_room(Room::NotAsked);
        // Interim answers that were not written are of an exchange that is over.
        let _ = self.take_interjected();
        self.0.ahead.begin();
        let at = self.millis(now);
        self.0.state.store((at << 2) | Phase::Busy as u64, Ordering::Relaxed);
        at
    }

    /// `bytes`, interim answers, are to be written to the client when all that was passed on before has been written.
    pub fn interject(&self, bytes: &[u8]) {
        self.0.interjected.push(bytes);
    }

    /// Takes what is to be written so. Of an answer that has begun, none is left.
    pub fn take_interjected(&self) -> Option<Bytes> {
        self.0.interjected.take()
    }

    /// The answer of the latest exchange is complete: what is written after the next flush is not part of it.
    pub fn answered(&self) {
        self.set_answer(Answer::Whole);
    }

    /// All that was passed on has been written.
    pub(super) fn flushed(&self) {
        if self.0.answer.load(Ordering::Relaxed) == Answer::Whole as u8 {
            self.set_answer(Answer::Written);
        }
    }

    /// Whether part of an exchange's answer is still to be written.
    pub(super) fn owes_answer(&self) -> bool {
        self.0.answer.load(Ordering::Relaxed) != Answer::Written as u8
    }

    fn set_answer(&self, answer: Answer) {
        self.0.answer.store(answer as u8, Ordering::Relaxed);
    }

    /// An exchange has ended. The next head is awaited after the last one ends.
    pub fn end(&self, now: Instant) {
        let running = self.0.exchanges.load(Ordering::Relaxed).saturating_sub(1);
        self.0.exchanges.store(running, Ordering::Relaxed);
        if running == 0 {
            self.enter(Phase::Idle, now);
        }
    }

    /// Enters `phase` at `now`.
    pub fn enter(&self, phase: Phase, now: Instant) {
        self.0.state.store((self.millis(now) << 2) | phase as u64, Ordering::Relaxed);
        if phase == Phase::Idle {
            self.0.ahead.forget();
        }
    }

    /// `bytes` arrived. The first after an idle time start a head; during an exchange they count as progress; those of
    /// a head do not extend its time. With `stamps_later`, the connection's owner calls [`Activity::stamp`] after each poll
    /// of it: most heads are whole by then, and nobody needs to know when they began.
    pub fn bytes_came(&self, bytes: &[u8], stamps_later: bool) {
        if self.sending() == Sending::Unread {
            self.set_sending(Sending::Open);
        }
        match self.phase() {
            Phase::Idle => {
                match stamps_later {
                    true => self.0.state.store(UNSTAMPED, Ordering::Relaxed),
                    false => self.enter(Phase::Head, Instant::now()),
                }
                self.0.ahead.came(bytes, true);
            }
            Phase::Head => self.0.ahead.came(bytes, false),
            Phase::Busy => {
                self.0.ahead.more(bytes);
                self.enter(Phase::Busy, Instant::now());
            }
        }
    }

    /// The connection was polled: notes the time of a head that has begun and is not whole.
    pub fn stamp(&self) {
        if self.0.state.load(Ordering::Relaxed) == UNSTAMPED {
            self.enter(Phase::Head, Instant::now());
        }
    }

    /// Bytes of an exchange passed at `now`.
    pub fn passed(&self, now: Instant) {
        if self.phase() == Phase::Busy && self.millis(now) > self.since() {
            self.enter(Phase::Busy, now);
        }
    }

    /// Bytes were sent. During an exchange they count as progress; and the time of a head does not start before the
    /// last answer was written, since the client may read slowly.
    pub fn bytes_went(&self) {
        match self.phase() {
            Phase::Busy => self.enter(Phase::Busy, Instant::now()),
            Phase::Head if self.owes_answer() => self.enter(Phase::Head, Instant::now()),
            Phase::Head | Phase::Idle => {}
        }
    }

    /// Whether nothing has arrived but the head of the current request, which has `usual` bytes in its usual spelling.
    /// Where this is unknown, the result is `false`.
    pub fn is_head_of(&self, usual: usize) -> bool {
        self.0.ahead.is_head_of(usual)
    }

    /// The head of a request has been read: it has `head` bytes in its usual spelling, and its body `body` bytes, where
    /// that is known.
    pub fn requested(&self, head: usize, body: Option<u64>) {
        self.0.ahead.requested(head, body);
    }

    /// What is known of the client's sending side.
    pub fn sending(&self) -> Sending {
        match self.0.sending.load(Ordering::Relaxed) {
            0 => Sending::Open,
            1 => Sending::Unread,
            2 => Sending::EndsLater,
            _ => Sending::Ended,
        }
    }

    /// Notes what is known now. The end counts as progress: what follows it has its own time.
    pub(super) fn set_sending(&self, sending: Sending) {
        if self.sending() == sending {
            return;
        }
        if matches!(sending, Sending::EndsLater | Sending::Ended) && !self.has_ended() {
            self.enter(self.phase(), Instant::now());
        }
        self.0.sending.store(sending as u8, Ordering::Relaxed);
    }

    /// Whether the client has ended its sending side (FIN) while an exchange ran.
    pub fn has_ended(&self) -> bool {
        matches!(self.sending(), Sending::EndsLater | Sending::Ended)
    }

    /// Whether it has done so directly behind the current request.
    pub fn has_ended_behind_request(&self) -> bool {
        self.sending() == Sending::Ended && self.0.ahead.is_last()
    }

    /// At the connection's next flush, look at the bytes that are unread.
    pub fn look(&self) {
        self.0.look.store(true, Ordering::Relaxed);
    }

    /// Whether that was asked for; it no longer is.
    pub(super) fn takes_look(&self) -> bool {
        self.0.look.swap(false, Ordering::Relaxed)
    }

    /// Whether an exchange runs.
    pub fn has_exchange(&self) -> bool {
        self.0.exchanges.load(Ordering::Relaxed) > 0
    }

    /// From now on, until the next request, [`Activity::poll_more`] reports when more arrives.
    pub fn watch_for_more(&self) {
        self.0.ahead.watch();
    }

    /// Ready once more, or the end, has arrived from the client after [`Activity::watch_for_more`].
    pub fn poll_more(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.ahead.poll(cx)
    }

    /// Whether the connection must call [`Activity::more_came`].
    pub(super) fn is_watched(&self) -> bool {
        self.0.ahead.is_watched()
    }

    /// More data, or the end, can be read.
    pub(super) fn more_came(&self) {
        self.0.ahead.tell();
    }

    /// An answer that only the connection's end delimits begins or is complete: if it is cut short, the connection must
    /// be reset.
    pub fn set_open_ended(&self, open_ended: bool) {
        self.0.open_ended.store(open_ended, Ordering::Relaxed);
    }

    /// Whether such an answer is under way.
    pub fn is_open_ended(&self) -> bool {
        self.0.open_ended.load(Ordering::Relaxed)
    }

    /// The phase.
    pub fn phase(&self) -> Phase {
        match self.0.state.load(Ordering::Relaxed) & 3 {
            0 => Phase::Idle,
            1 => Phase::Head,
            _ => Phase::Busy,
        }
    }

    /// How long the phase has lasted; in [`Phase::Busy`], how long no byte has passed.
    pub fn lasted(&self) -> Duration {
        self.0.epoch.elapsed().saturating_sub(Duration::from_millis(self.since()))
    }

    /// When the phase began, or the last byte passed: in milliseconds, see [`Activity::millis`].
    pub fn since(&self) -> u64 {
        self.0.state.load(Ordering::Relaxed) >> 2
    }

    /// `at` in milliseconds since the connection was accepted.
    pub fn millis(&self, at: Instant) -> u64 {
        let millis = at.saturating_duration_since(self.0.epoch).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX >> 2)
    }
}

#[cfg(test)]
#[path = "activity_tests.rs"]
mod tests;
