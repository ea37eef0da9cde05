//! What a client's connection is doing, so that its owner can tell idle from slow.
//!
//! Timers are dear: hyper's own header timeout costs 7 % of a request's instructions. Here each change of phase
//! is one store, and the connection keeps a single timer that looks at the pulse only when it fires.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::ahead::Ahead;

/// The phases of a client connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Between requests: nothing of the next one has come.
    Idle,
    /// The head of a request is coming in.
    Head,
    /// A request is being answered; counted from the last byte that passed.
    Busy,
    /// The same, and more of the request's body is due; counted likewise.
    Upload,
}

/// How a request's body does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// More of it is due from the client.
    Waits,
    /// It was there to be passed on, or is whole.
    Moves,
}

/// A request's body, while there is more of it to pass on. It may be dropped only after the connection's next request has
/// begun, and is no concern of that one's.
#[derive(Debug)]
pub struct Upload {
    pulse: Pulse,
    request: u64,
}

/// Phase and the time of its start; shared by a connection's reader and its owner, which run on one thread.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    epoch: Instant,
    /// Milliseconds since the epoch, and the phase in the two lowest bits.
    state: AtomicU64,
    /// Whether an answer is waited for; see [`Wait`].
    wait: AtomicU8,
    /// How many requests have begun.
    requests: AtomicU64,
    /// How far the last one's body is; see [`Stage`].
    upload: AtomicU8,
    /// Whether an answer is under way that ends with the connection.
    open_ended: AtomicBool,
    waiter: Mutex<Option<Waker>>,
    ahead: Ahead,
}

/// How far a request's body is.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// There is none, or no more.
    None = 0,
    /// More is due.
    Due = 1,
    /// More is due, though the answer is whole: its endpoint did not wait for it.
    Outlasts = 2,
}

/// Whether an endpoint's answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It is not.
    None = 0,
    /// It is.
    Waiting = 1,
    /// It was, for too long.
    TooLong = 2,
    /// It is, by one who has a timer.
    Timed = 3,
}

impl Pulse {
    /// A connection accepted at `now`: its first head is due.
    pub fn new(now: Instant) -> Self {
        Self(Arc::new(Inner {
            epoch: now,
            state: AtomicU64::new(Phase::Head as u64),
            wait: AtomicU8::new(Wait::None as u8),
            requests: AtomicU64::new(0),
            upload: AtomicU8::new(Stage::None as u8),
            open_ended: AtomicBool::new(false),
            waiter: Mutex::new(None),
            ahead: Ahead::default(),
        }))
    }

    /// A request begins at `now`.
    pub fn begin(&self, now: Instant) {
        self.0.requests.store(self.requests() + 1, Ordering::Relaxed);
        self.0.upload.store(Stage::None as u8, Ordering::Relaxed);
        self.0.ahead.begin();
        self.enter(Phase::Busy, now);
    }

    /// Enters `phase` at `now`.
    pub fn enter(&self, phase: Phase, now: Instant) {
        let millis = now.saturating_duration_since(self.0.epoch).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX >> 2);
        self.0.state.store((millis << 2) | phase as u64, Ordering::Relaxed);
        if phase == Phase::Idle {
            self.0.ahead.forget();
        }
    }

    /// `bytes` came in. The first after an idle time start a head; while a request is answered they show that it
    /// goes on; those of a head do not prolong its time.
    pub fn bytes_came(&self, bytes: &[u8]) {
        match self.phase() {
            Phase::Idle => {
                self.enter(Phase::Head, Instant::now());
                self.0.ahead.came(bytes, true);
            }
            Phase::Head => self.0.ahead.came(bytes, false),
            busy @ (Phase::Busy | Phase::Upload) => self.enter(busy, Instant::now()),
        }
    }

    /// Whether nothing has come but the head of the request that is being answered, which has `usual` bytes when it is written
    /// the usual way. Where that cannot be told, more is taken to have come.
    pub fn is_head_of(&self, usual: usize) -> bool {
        self.0.ahead.is_head_of(usual)
    }

    /// From now on, until the next request, [`Pulse::poll_more`] tells when more comes.
    pub fn watch_for_more(&self) {
        self.0.ahead.watch();
    }

    /// Ready once more has come from the client, or its end, after [`Pulse::watch_for_more`].
    pub fn poll_more(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.ahead.poll(cx)
    }

    /// Whether the connection has to tell [`Pulse::more_came`].
    pub(super) fn is_watched(&self) -> bool {
        self.0.ahead.is_watched()
    }

    /// There is more to read, or the end.
    pub(super) fn more_came(&self) {
        self.0.ahead.tell();
    }

    /// The request that is being answered has a body, which is passed on for as long as what this returns is kept.
    pub fn upload(&self) -> Upload {
        self.0.upload.store(Stage::Due as u8, Ordering::Relaxed);
        Upload { pulse: self.clone(), request: self.requests() }
    }

    fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// The answer is whole. The next head is due, unless there still is more of the request's body. To say so twice is to
    /// say so once.
    pub fn answered(&self, now: Instant) {
        if self.0.upload.load(Ordering::Relaxed) == Stage::None as u8 {
            self.enter(Phase::Idle, now);
        } else {
            self.0.upload.store(Stage::Outlasts as u8, Ordering::Relaxed);
            self.enter(Phase::Upload, now);
        }
    }

    /// Bytes went out.
    pub fn bytes_went(&self) {
        if matches!(self.phase(), Phase::Busy | Phase::Upload) {
            self.enter(self.phase(), Instant::now());
        }
    }

    /// Whether an answer is waited for.
    pub fn wait(&self) -> Wait {
        match self.0.wait.load(Ordering::Relaxed) {
            0 => Wait::None,
            1 => Wait::Waiting,
            3 => Wait::Timed,
            _ => Wait::TooLong,
        }
    }

    /// Begins or ends waiting.
    pub fn set_wait(&self, wait: Wait) {
        self.0.wait.store(wait as u8, Ordering::Relaxed);
    }

    /// Whoever waits is to be woken when it has been too long.
    pub fn wake_when_too_long(&self, cx: &Context<'_>) {
        let mut waiter = self.0.waiter.lock();
        if !waiter.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waiter = Some(cx.waker().clone());
        }
    }

    /// It has been too long.
    pub fn too_long(&self) {
        self.set_wait(Wait::TooLong);
        if let Some(waiter) = &*self.0.waiter.lock() {
            waiter.wake_by_ref();
        }
    }

    /// An answer begins, or is whole, that only the connection's end delimits: cut short, it must not end in order.
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
            2 => Phase::Busy,
            _ => Phase::Upload,
        }
    }

    /// The phase and how long it has lasted.
    pub fn look(&self) -> (Phase, Duration) {
        let since = Duration::from_millis(self.0.state.load(Ordering::Relaxed) >> 2);
        (self.phase(), self.0.epoch.elapsed().saturating_sub(since))
    }
}

impl Upload {
    /// It waits for its client, or no longer does.
    pub fn flows(&self, flow: Flow) {
        let pulse = &self.pulse;
        if !self.is_current() || pulse.0.upload.load(Ordering::Relaxed) != Stage::Due as u8 {
            return;
        }
        match (pulse.phase(), flow) {
            (Phase::Busy, Flow::Waits) => pulse.enter(Phase::Upload, Instant::now()),
            (Phase::Upload, Flow::Moves) => pulse.enter(Phase::Busy, Instant::now()),
            (Phase::Idle | Phase::Head | Phase::Busy | Phase::Upload, _) => {}
        }
    }

    fn is_current(&self) -> bool {
        self.request == self.pulse.requests()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.is_current() {
            return;
        }
        let before = self.pulse.0.upload.swap(Stage::None as u8, Ordering::Relaxed);
        if before == Stage::Outlasts as u8 {
            self.pulse.enter(Phase::Idle, Instant::now());
        }
    }
}
