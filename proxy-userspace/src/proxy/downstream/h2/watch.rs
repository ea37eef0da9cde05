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
    /// weir drains, or the connection's router is gone: no further stream.
    Drained,
    /// No stream was open for `limits.idle`.
    Idle,
    /// Its listener is short of room.
    Room,
    /// It has no stream any more after a GOAWAY.
    Over,
    /// The client did not answer a PING.
    PingLost,
    /// A header block took too long.
    SlowHead,
    /// Memory is short.
    Memory,
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
    /// Whether the router of its listener was no longer in the configuration when the timer last fired.
    orphaned: bool,
    /// When a GOAWAY was due.
    closing: Option<Instant>,
    /// Whether this task can be asked to make room.
    owned: bool,
    pings: Option<PingPong>,
    silence: Silence,
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
            orphaned: false,
            closing: None,
            owned: false,
            pings,
            silence: Silence::default(),
            timer,
            set: false,
        }
    }

    /// Ready when something is due. Streams that have exceeded a limit are woken.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Due> {
        self.slot.take(cx);
        if self.closing.is_none() && (self.drain.is_closing() || self.orphaned) {
            return Poll::Ready(self.close(Due::Drained));
        }
        let activity = &self.session.activity;
        if !self.owned {
            self.owned = true;
            activity.may_make_room(cx.waker());
        }
        if activity.is_shed() {
            return Poll::Ready(Due::Memory);
        }
        let memory = &self.worker.shared.memory;
        if let Some(held) = memory.cuts(|| self.session.holder().id, activity) {
            memory.cut(held, activity);
            return Poll::Ready(Due::Memory);
        }
        let is_asked = activity.is_asked_for_room() && activity.phase() == Phase::Idle;
        if self.closing.is_none() && (is_asked || self.session.is_short_of_room()) {
            return Poll::Ready(self.close(Due::Room));
        }
        if self.silence.in_flight
            && let Some(pings) = &mut self.pings
            && pings.poll_pong(cx).is_ready()
        {
            self.silence = Silence::default();
        }
        // Polling a timer costs as much as setting it.
        if self.set && !self.timer.is_elapsed() {
            return Poll::Pending;
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            self.follow();
            if self.closing.is_none() && self.orphaned {
                return Poll::Ready(self.close(Due::Drained));
            }
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

    /// The connection was polled: what its streams have read counts as its own.
    pub(super) fn note(&self) {
        self.session.activity.passed(self.meter.last());
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
        self.orphaned = self.worker.router.snapshot_at(&self.session.listener).is_none();
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
        let limits = &self.limits.http2;
        let Some(pings) = self.pings.as_mut().filter(|_| !limits.ping.is_zero()) else {
            return Ok(shortest(&self.limits));
        };
        match self.silence.next(now, self.meter.last(), limits.ping, limits.ping_timeout) {
            Next::Wait(left) => Ok(left),
            Next::Lost => Err(Due::PingLost),
            Next::Ping => {
                // It fails where the last one was never answered: then this is for the two of them.
                let _ = pings.send_ping(Ping::opaque());
                self.silence = Silence { pinged: Some(now), in_flight: true };
                Ok(limits.ping_timeout)
            }
        }
    }
}

/// What was asked of a silent client.
#[derive(Clone, Copy, Debug, Default)]
struct Silence {
    /// When it was last asked by a PING, if it has sent nothing since.
    pinged: Option<Instant>,
    /// Whether a PING has no answer yet: the client may go on without one.
    in_flight: bool,
}

/// What to do about a client's silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Look again after this time, which is not zero.
    Wait(Duration),
    /// Ask it.
    Ping,
    /// It was asked, and is gone.
    Lost,
}

impl Silence {
    /// What to do at `now` about a client from which bytes came `last` then. Whatever comes after a PING is as good as
    /// an answer.
    fn next(&mut self, now: Instant, last: Instant, ping: Duration, timeout: Duration) -> Next {
        self.pinged = self.pinged.filter(|pinged| *pinged >= last);
        let (since, limit, due) = match self.pinged {
            Some(pinged) => (pinged, timeout, Next::Lost),
            None => (last, ping, Next::Ping),
        };
        match limit.saturating_sub(now.saturating_duration_since(since)) {
            Duration::ZERO => due,
            left => Next::Wait(left),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_asked_once_for_each_silence_and_lost_when_it_stays_silent() {
        const PING: Duration = Duration::from_secs(10);
        const TIMEOUT: Duration = Duration::from_secs(3);
        let began = Instant::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let wait = |seconds: u64| Next::Wait(Duration::from_secs(seconds));
        // When it is looked, when bytes last came, and what follows.
        for steps in [
            // It says nothing.
            &[(0, 0, wait(10)), (9, 0, wait(1)), (10, 0, Next::Ping), (11, 0, wait(2)), (13, 0, Next::Lost)]
                [..],
            // It answers, or sends something else; then it is silent again.
            &[
                (10, 0, Next::Ping),
                (12, 12, wait(10)),
                (21, 12, wait(1)),
                (22, 12, Next::Ping),
                (25, 12, Next::Lost),
            ],
            &[(10, 0, Next::Ping), (40, 11, Next::Ping), (43, 11, Next::Lost)],
            &[(10, 0, Next::Ping), (13, 12, wait(9)), (22, 20, wait(8))],
        ] {
            let mut silence = Silence::default();
            for (now, last, expected) in steps {
                let next = silence.next(at(*now), at(*last), PING, TIMEOUT);
                assert_eq!(next, *expected, "at {now} s, after bytes at {last} s");
                if next == Next::Ping {
                    silence = Silence { pinged: Some(at(*now)), in_flight: true };
                }
            }
        }
    }
}
