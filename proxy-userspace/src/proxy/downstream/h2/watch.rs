//! What ends a client's HTTP/2 connection, or one of its streams, without a frame: the limits, and the drain.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use h2::{Ping, PingPong};
use tokio::task::coop::has_budget_remaining;
use tokio::time::Sleep;

use crate::config::Limits;
use crate::drain::Drain;
use crate::proxy::exchange::session::Session;
use crate::proxy::worker::{WakerSlot, Worker};
use crate::transport::{FrameMeter, Phase};

/// How long a connection without streams is kept after a GOAWAY, for a stream that is already on its way and for the
/// client to close it.
const LINGER: Duration = Duration::from_secs(1);

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// weir drains: no further stream.
    Drained,
    /// No stream was open for `limits.idle`.
    Idle,
    /// No stream is open, and its listener is short of room.
    Room,
    /// It has no stream any more after a GOAWAY.
    Over,
    /// The client did not answer a PING.
    PingLost,
    /// A header block took too long.
    SlowHead,
}

/// The one timer of a connection. It wakes at least as often as the shortest limit, since what it measures changes while
/// it sleeps.
pub(super) struct Watch<'a> {
    worker: &'a Worker,
    session: Rc<Session>,
    /// The limits when the timer last fired.
    limits: Limits,
    meter: FrameMeter,
    drain: Drain,
    slot: WakerSlot<'a>,
    /// When a GOAWAY was due.
    closing: Option<Instant>,
    /// Whether this task can be asked to make room.
    owned: bool,
    pings: Option<PingPong>,
    /// When a PING was sent that was not answered yet.
    pinged: Option<Instant>,
    timer: Pin<&'a mut Sleep>,
    /// Whether this task's waker is registered with the timer: true once the timer was polled, unless the task's coop
    /// budget was used up.
    set: bool,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        worker: &'a Worker,
        session: Rc<Session>,
        limits: Limits,
        meter: FrameMeter,
        pings: Option<PingPong>,
        timer: Pin<&'a mut Sleep>,
    ) -> Self {
        let (drain, slot) = (worker.shared.drain.clone(), worker.connections.slot());
        Self {
            worker,
            session,
            limits,
            meter,
            drain,
            slot,
            closing: None,
            owned: false,
            pings,
            pinged: None,
            timer,
            set: false,
        }
    }

    /// Ready when something is due. Streams that have exceeded a limit are woken.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Due> {
        self.slot.take(cx);
        if self.closing.is_none() && self.drain.is_closing() {
            return Poll::Ready(self.close(Due::Drained));
        }
        let activity = &self.session.activity;
        if !self.owned {
            self.owned = true;
            activity.may_make_room(cx.waker());
        }
        if self.closing.is_none() && activity.is_asked_for_room() && activity.phase() == Phase::Idle {
            return Poll::Ready(self.close(Due::Room));
        }
        if self.pinged.is_some()
            && let Some(pings) = &mut self.pings
            && pings.poll_pong(cx).is_ready()
        {
            self.pinged = None;
        }
        // Polling a timer costs as much as setting it.
        if self.set && !self.timer.is_elapsed() {
            return Poll::Pending;
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            self.follow();
            let now = Instant::now();
            let next = match self.left(now) {
                Ok(left) => left.min(shortest(&self.limits)).max(Duration::from_millis(1)),
                Err(due @ Due::Idle) => return Poll::Ready(self.close(due)),
                Err(due) => return Poll::Ready(due),
            };
            self.timer.as_mut().reset(tokio::time::Instant::from_std(now + next));
        }
        self.set = has_budget_remaining();
        Poll::Pending
    }

    /// A GOAWAY is sent: from now on the connection is kept for its streams alone.
    fn close(&mut self, due: Due) -> Due {
        self.closing = Some(Instant::now());
        self.timer.as_mut().reset(tokio::time::Instant::now() + LINGER);
        self.set = false;
        due
    }

    /// Adopts changed limits: a connection may last for days.
    fn follow(&mut self) {
        let snapshot = self.worker.router.snapshot();
        if snapshot.config.limits != self.limits {
            self.limits = snapshot.config.limits.clone();
        }
    }

    /// How long until something may be due, or what is due now.
    fn left(&mut self, now: Instant) -> Result<Duration, Due> {
        let since = |then: Instant| now.saturating_duration_since(then);
        let mut next = self.session.clocks.expire(&self.limits, shortest(&self.limits));
        let mut within = |left: Duration| next = Some(next.map_or(left, |next| next.min(left)));
        if let Some(block) = self.meter.block_since() {
            let left = self.limits.header_read.saturating_sub(since(block));
            if left.is_zero() {
                return Err(Due::SlowHead);
            }
            within(left);
        }
        match (self.session.activity.phase(), self.closing) {
            (Phase::Busy, _) => within(self.ping(now)?),
            (Phase::Idle | Phase::Head, closing) => {
                let (limit, due) = match closing {
                    None => (self.limits.idle, Due::Idle),
                    Some(_) => (LINGER, Due::Over),
                };
                let lasted = self.session.activity.lasted();
                let lasted = closing.map_or(lasted, |closing| lasted.min(since(closing)));
                let left = limit.saturating_sub(lasted);
                if left.is_zero() {
                    return Err(due);
                }
                within(left);
            }
        }
        Ok(next.unwrap_or(LINGER))
    }

    /// Asks a client that has been silent for a while whether it is there. Returns how long until the next look.
    fn ping(&mut self, now: Instant) -> Result<Duration, Due> {
        let (silent, limits) = (now.saturating_duration_since(self.meter.last()), &self.limits.http2);
        let Some(pings) = self.pings.as_mut().filter(|_| !limits.ping.is_zero()) else {
            return Ok(shortest(&self.limits));
        };
        match self.pinged {
            // What arrived since is as good as an answer.
            Some(pinged) if self.meter.last() > pinged => Ok(limits.ping.saturating_sub(silent)),
            Some(pinged) => {
                let left = limits.ping_timeout.saturating_sub(now.saturating_duration_since(pinged));
                if left.is_zero() { Err(Due::PingLost) } else { Ok(left) }
            }
            None if silent < limits.ping => Ok(limits.ping - silent),
            None => {
                if pings.send_ping(Ping::opaque()).is_ok() {
                    self.pinged = Some(now);
                }
                Ok(limits.ping_timeout)
            }
        }
    }
}

/// The shortest limit that may begin while the timer sleeps.
pub(super) fn shortest(limits: &Limits) -> Duration {
    let http2 = &limits.http2;
    let ping = if http2.ping.is_zero() { limits.idle } else { http2.ping.min(http2.ping_timeout) };
    let limits = limits.header_read.min(limits.idle).min(limits.body).min(limits.response);
    limits.min(http2.window_wait).min(ping)
}
