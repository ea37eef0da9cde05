//! The clock of one exchange: how long nothing has happened in it, and which side it waits for.
//!
//! A connection has one timer, and the clocks of its exchanges are registered with it ([`Clocks`]). A clock is a few
//! numbers in memory; they are compared with the limits only when that timer fires. So an exchange sets no timer of its
//! own, unless a policy gives it its own limit.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::config::Limits;
use crate::transport::Activity;

/// The clock of one exchange. Clones share it.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The connection's activity, which records when bytes pass.
    activity: Activity,
    /// When the stage began, in the connection's milliseconds.
    since: AtomicU64,
    stage: AtomicU8,
    wait: AtomicU8,
    waiter: Mutex<Option<Waker>>,
}

/// The stage of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The request has no body, or its body is complete. The answer is awaited or passes.
    Answer = 0,
    /// As [`Stage::Answer`], while the request's body still passes.
    Upload = 1,
    /// As [`Stage::Upload`], and more of the request's body is due from the client.
    Starved = 2,
    /// The answer is complete, but more of the body is due: the endpoint answered early.
    Outlasted = 3,
    /// The exchange is over.
    Over = 4,
}

/// Whether an endpoint's answer is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// No.
    None = 0,
    /// Yes.
    Waiting = 1,
    /// The wait took too long.
    TooLong = 2,
    /// Yes; `Timed` waits enforce their own deadline.
    Timed = 3,
    /// No; the answer waits for its client to open the stream's flow-control window.
    Window = 4,
    /// No; the exchange has exceeded a limit, and its stream is to be reset.
    Expired = 5,
}

/// The progress of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// More of it is due from the client.
    Waits,
    /// Data was available to pass on, or the body is complete.
    Moves,
}

/// A request's body, while more of it is to be passed on.
#[derive(Debug)]
pub struct Upload(Clock);

/// The clocks of one connection's exchanges.
#[derive(Debug, Default)]
pub struct Clocks {
    clocks: RefCell<SmallVec<[Clock; 1]>>,
    /// At how many of them those that are over are removed: twice as many as were left the last time. So each costs the
    /// same, however many there are.
    sweep_at: Cell<usize>,
}

/// Fewer clocks than this are not swept for a new stream.
const FEW: usize = 8;

impl Clocks {
    /// The clock of an exchange that begins at `now` on the connection with this `activity`.
    pub fn begin(&self, activity: &Activity, now: Instant) -> Clock {
        let at = activity.begin(now);
        let mut clocks = self.clocks.borrow_mut();
        // A clock with no other reference is reset and reused: this saves an allocation per request.
        if let [only] = &mut clocks[..]
            && only.is_over()
            && let Some(inner) = Arc::get_mut(&mut only.0)
        {
            inner.reset(at);
            return only.clone();
        }
        clocks.retain(|it| !it.is_over());
        clocks.push(Clock::new(activity, at));
        clocks[clocks.len() - 1].clone()
    }

    /// The clock of an exchange that begins at `now` on a stream of HTTP/2, which has an `activity` of its own: what
    /// passes on another stream is no progress of this one.
    pub fn begin_stream(&self, activity: &Activity, now: Instant) -> Clock {
        let at = activity.begin(now);
        let clock = Clock::new(activity, at);
        let is_due = {
            let mut clocks = self.clocks.borrow_mut();
            clocks.push(clock.clone());
            clocks.len() > self.sweep_at.get().max(FEW)
        };
        if is_due {
            self.sweep();
        }
        clock
    }

    fn sweep(&self) {
        let mut clocks = self.clocks.borrow_mut();
        clocks.retain(|it| !it.is_over());
        clocks.shrink_to_fit();
        self.sweep_at.set(2 * clocks.len());
    }

    /// Wakes the stream of each exchange that has exceeded `limits`, which then is [`Wait::Expired`]. Returns how long
    /// the timer may sleep until another one may have.
    pub fn expire(&self, limits: &Limits, shortest: Duration) -> Option<Duration> {
        let now = Instant::now();
        self.sweep();
        let clocks = self.clocks.borrow();
        let left = clocks.iter().map(|it| {
            let left = it.left(limits, shortest, now);
            if left.is_zero() {
                it.expire();
                return shortest;
            }
            left
        });
        left.min()
    }

    /// How long the timer may sleep until an exchange exceeds `limits`: zero when one has. `None` when no exchange
    /// runs. A task that waits too long for an answer is woken, and its wait begins again.
    pub fn left(&self, limits: &Limits, shortest: Duration) -> Option<Duration> {
        let now = Instant::now();
        let clocks = self.clocks.borrow();
        clocks.iter().filter(|it| !it.is_over()).map(|it| it.left(limits, shortest, now)).min()
    }
}

impl Clock {
    /// Begins at `at`, in the connection's milliseconds.
    fn new(activity: &Activity, at: u64) -> Self {
        let since = AtomicU64::new(at);
        Self(Arc::new(Inner {
            activity: activity.clone(),
            since,
            stage: AtomicU8::new(Stage::Answer as u8),
            wait: AtomicU8::new(Wait::None as u8),
            waiter: Mutex::new(None),
        }))
    }

    /// Another attempt begins at `now`: its answer gets the full time.
    pub fn restart(&self, now: Instant) {
        self.0.since.store(self.0.activity.millis(now), Ordering::Relaxed);
    }

    /// The request has a body; it is being passed on until the returned value is dropped.
    pub fn upload(&self) -> Upload {
        self.set(Stage::Upload);
        Upload(self.clone())
    }

    /// The answer is complete. Idempotent.
    pub fn answered(&self, now: Instant) {
        match self.stage() {
            Stage::Answer => {
                self.0.activity.answered();
                self.end(now);
            }
            Stage::Upload | Stage::Starved => {
                self.0.activity.answered();
                self.set(Stage::Outlasted);
                self.restart(now);
            }
            Stage::Outlasted | Stage::Over => {}
        }
    }

    /// The exchange is over, however far it got. Nobody is woken for it any more. Idempotent.
    pub fn abandon(&self) {
        *self.0.waiter.lock() = None;
        if !self.is_over() {
            self.end(Instant::now());
        }
    }

    /// The connection's activity.
    pub fn activity(&self) -> &Activity {
        &self.0.activity
    }

    /// Whether an answer is awaited.
    pub fn wait(&self) -> Wait {
        match self.0.wait.load(Ordering::Relaxed) {
            0 => Wait::None,
            1 => Wait::Waiting,
            3 => Wait::Timed,
            4 => Wait::Window,
            5 => Wait::Expired,
            _ => Wait::TooLong,
        }
    }

    /// Whether the exchange is over: its answer and its request's body are complete.
    pub fn is_over(&self) -> bool {
        self.stage() == Stage::Over
    }

    /// Begins or ends waiting.
    pub fn set_wait(&self, wait: Wait) {
        self.0.wait.store(wait as u8, Ordering::Relaxed);
    }

    /// Registers the waiting task to be woken when the wait takes too long, or the client's end can be passed on.
    pub fn wake_when_too_long(&self, cx: &Context<'_>) {
        let mut waiter = self.0.waiter.lock();
        if !waiter.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waiter = Some(cx.waker().clone());
        }
    }

    /// Whether the client has closed its sending side directly behind the request, all of which was passed on: the
    /// endpoint is to learn that.
    pub fn has_ended(&self) -> bool {
        self.0.activity.has_ended()
            && self.stage() == Stage::Answer
            && self.0.activity.has_ended_behind_request()
    }

    /// How long nothing has happened; `None` while more of the body is due from the client.
    pub fn silent_for(&self, now: Instant) -> Option<Duration> {
        (self.stage() != Stage::Starved).then(|| self.lasted(now))
    }

    fn left(&self, limits: &Limits, shortest: Duration, now: Instant) -> Duration {
        let lasted = self.lasted(now);
        let half_closed = self.0.activity.has_ended().then_some(limits.half_closed);
        let of = |limit: Duration| half_closed.map_or(limit, |half_closed| limit.min(half_closed));
        match (self.stage(), self.wait()) {
            (_, Wait::Expired) => shortest,
            // What its client sends meanwhile opens no window.
            (_, Wait::Window) => limits.http2.window_wait.saturating_sub(self.waited(now)),
            // The answer has begun: client and endpoint may be silent for as long as both want.
            (Stage::Starved, Wait::None) => of(limits.tunnel_idle).saturating_sub(lasted),
            (Stage::Starved | Stage::Outlasted, _) => of(limits.body).saturating_sub(lasted),
            (_, Wait::Waiting) if lasted < of(limits.response) => of(limits.response) - lasted,
            (_, Wait::Waiting) => {
                // This ends the request, not the connection: it becomes a 504.
                self.too_long();
                of(limits.response)
            }
            // `Timed` waits have their own timer, which may be longer than any limit here.
            (_, Wait::Timed) => match half_closed {
                None => shortest,
                Some(limit) if lasted < limit => (limit - lasted).min(shortest),
                Some(limit) => {
                    self.too_long();
                    limit
                }
            },
            (_, Wait::None | Wait::TooLong) => of(limits.tunnel_idle).saturating_sub(lasted),
        }
    }

    fn too_long(&self) {
        self.set_wait(Wait::TooLong);
        self.wake();
    }

    fn expire(&self) {
        self.set_wait(Wait::Expired);
        self.wake();
    }

    /// Wakes the task that waits.
    pub fn wake(&self) {
        if let Some(waiter) = &*self.0.waiter.lock() {
            waiter.wake_by_ref();
        }
    }

    /// Time since the stage began, or since the last byte passed.
    fn lasted(&self, now: Instant) -> Duration {
        let since = self.0.since.load(Ordering::Relaxed).max(self.0.activity.since());
        Duration::from_millis(self.0.activity.millis(now).saturating_sub(since))
    }

    /// Time since the stage began.
    fn waited(&self, now: Instant) -> Duration {
        let since = self.0.since.load(Ordering::Relaxed);
        Duration::from_millis(self.0.activity.millis(now).saturating_sub(since))
    }

    fn end(&self, now: Instant) {
        self.set(Stage::Over);
        self.0.activity.end(now);
    }

    fn stage(&self) -> Stage {
        match self.0.stage.load(Ordering::Relaxed) {
            0 => Stage::Answer,
            1 => Stage::Upload,
            2 => Stage::Starved,
            3 => Stage::Outlasted,
            _ => Stage::Over,
        }
    }

    fn set(&self, stage: Stage) {
        self.0.stage.store(stage as u8, Ordering::Relaxed);
    }
}

impl Inner {
    fn reset(&mut self, at: u64) {
        *self.since.get_mut() = at;
        *self.stage.get_mut() = Stage::Answer as u8;
        *self.wait.get_mut() = Wait::None as u8;
    }
}

impl Upload {
    /// More of the body has arrived, on a stream of HTTP/2: the connection does not note it for each stream.
    pub fn moves(&self) {
        self.0.0.activity.bytes_went();
    }

    /// Sets whether the body waits for its client.
    pub fn flows(&self, flow: Flow) {
        let stage = match (self.0.stage(), flow) {
            (Stage::Upload, Flow::Waits) => Stage::Starved,
            (Stage::Starved, Flow::Moves) => Stage::Upload,
            _ => return,
        };
        self.0.set(stage);
        self.0.restart(Instant::now());
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        match self.0.stage() {
            Stage::Upload | Stage::Starved => {
                self.0.set(Stage::Answer);
                if self.0.0.activity.has_ended() {
                    self.0.wake();
                }
            }
            Stage::Outlasted => {
                self.0.end(Instant::now());
                self.0.wake();
            }
            Stage::Answer | Stage::Over => {}
        }
    }
}

#[cfg(test)]
mod tests;
