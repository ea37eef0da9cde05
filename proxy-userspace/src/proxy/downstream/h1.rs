//! A client's HTTP/1 connection.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Sleep, sleep};

use crate::config::Limits;
use crate::drain::Drain;
use crate::proxy::exchange::session::Session;
use crate::proxy::exchange::{self, bad_head};
use crate::proxy::listener::{CloseReason, ListenerKind};
use crate::proxy::worker::{WakerSlot, Worker};
use crate::transport::{Activity, Io, Phase, Sending};

/// How long an idle connection is kept open during a drain, for a request that is already on its way.
const LINGER: Duration = Duration::from_secs(1);

/// The shortest and the longest interval at which a client is checked while weir does not read from it. The interval grows
/// while nothing happens.
const LOOK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Serves `io` until its client leaves or is too slow. It ends with the worker's runtime after the drain.
pub(super) async fn serve(worker: Rc<Worker>, session: Rc<Session>, io: Io) {
    let limits = worker.router.snapshot().config.limits.clone();
    let (activity, listener) = (session.activity.clone(), session.listener.clone());
    let drain = worker.shared.drain.clone();
    let (workers, sessions) = (worker.clone(), session.clone());
    let answers = bad_head::answers(&worker, &session, &limits);
    let io = TokioIo::new(io.telling(activity.clone()).looking_for_end().answering_bad_heads(answers));
    let builder = builder(&limits, listener.kind);
    let service = service_fn(move |request: Request<Incoming>| {
        exchange::handle(worker.clone(), session.clone(), request, None)
    });
    let mut connection = pin!(builder.serve_connection(io, service).with_upgrades());
    let timer = pin!(sleep(shortest(&limits)));
    let slot = workers.connections.slot();
    let workers = &*workers;
    let mut watch = Watch {
        session: &sessions,
        activity: &activity,
        worker: workers,
        limits,
        drain: &drain,
        slot,
        closing: None,
        timer,
        set: false,
        hurried: false,
        owned: false,
    };
    loop {
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => Some(ended),
            () = watch.timed_out() => None,
        };
        match ended {
            Some(Err(error)) if error.is_parse() || error.is_parse_too_large() => {
                return listener.count_closed(CloseReason::BadHead);
            }
            Some(_) => return, // It is done, or its client left.
            None if activity.is_shed() => return listener.count_closed(CloseReason::Memory),
            None if activity.is_displaced() && activity.phase() != Phase::Idle => return,
            None if activity.phase() == Phase::Head => return listener.count_closed(CloseReason::BadHead),
            // It closes after the last answer has been written: the client may read slowly.
            None if activity.phase() == Phase::Idle => {
                if activity.is_asked_for_room() && !activity.is_displaced() {
                    listener.count_closed(CloseReason::MadeRoom);
                }
                connection.as_mut().graceful_shutdown();
                activity.enter(Phase::Busy, Instant::now());
            }
            None if activity.is_asked_for_room() => return listener.count_closed(CloseReason::MadeRoom),
            None if activity.has_ended() => return listener.count_closed(CloseReason::HalfClosed),
            None => return,
        }
    }
}

fn builder(limits: &Limits, kind: ListenerKind) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .auto_date_header(false)
        .preserve_header_case(kind == ListenerKind::Transparent)
        // A client may close its sending side and still read. Whether it has is looked for below hyper, which reads
        // nothing while an answer is awaited.
        .half_close(true)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes.max(64 * 1024))
        .max_headers(limits.header_count);
    builder
}

/// Detects that a connection has been in one phase for too long. It wakes at least as often as its shortest limit,
/// since the phase may change to one with a shorter limit while it sleeps.
struct Watch<'a> {
    session: &'a Session,
    activity: &'a Activity,
    worker: &'a Worker,
    /// The limits when the timer last fired.
    limits: Limits,
    drain: &'a Drain,
    slot: WakerSlot<'a>,
    closing: Option<Instant>,
    timer: Pin<&'a mut Sleep>,
    /// Whether this task's waker (it never changes) is registered with the timer: true once the timer was polled,
    /// unless the task's coop budget was used up.
    set: bool,
    /// Whether the timer was shortened because of the client's sending side.
    hurried: bool,
    /// Whether this task can be asked to make room.
    owned: bool,
}

impl Watch<'_> {
    /// Returns when a limit has been exceeded.
    async fn timed_out(&mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.slot.take(cx);
        self.activity.stamp();
        let closes = self.drain.is_closing() && self.closing.is_none();
        if closes {
            self.closing = Some(Instant::now());
        }
        if !self.owned {
            self.owned = true;
            self.activity.may_make_room(cx.waker());
        }
        if self.activity.makes_room() {
            return Poll::Ready(());
        }
        let memory = &self.worker.shared.memory;
        if let Some(held) = memory.cuts(|| self.session.holder().id, self.activity) {
            memory.cut(held, self.activity);
            return Poll::Ready(());
        }
        let hurries = !self.hurried && self.activity.sending() != Sending::Open;
        let at_once = closes || hurries;
        // Polling a timer costs as much as setting it.
        if self.set && !at_once && !self.timer.is_elapsed() {
            return Poll::Pending;
        }
        while at_once || self.timer.as_mut().poll(cx).is_ready() {
            self.follow();
            let left = self.left();
            if left.is_zero() {
                return Poll::Ready(());
            }
            let next = left.min(if self.closing.is_some() { LINGER } else { shortest(&self.limits) });
            let next = next.min(self.until_look(at_once, cx));
            self.timer.as_mut().reset(tokio::time::Instant::now() + next);
            if self.timer.as_mut().poll(cx).is_pending() {
                break;
            }
        }
        self.set = has_budget_remaining();
        Poll::Pending
    }

    /// The time until the next check whether the client has left while weir does not read from it; if `at_once` is false,
    /// the check is due now.
    fn until_look(&mut self, at_once: bool, cx: &Context<'_>) -> Duration {
        let sending = self.activity.sending();
        self.hurried = sending != Sending::Open;
        match sending {
            Sending::Open | Sending::Ended => Duration::MAX,
            Sending::Unread | Sending::EndsLater => {
                if !at_once {
                    self.activity.look();
                    cx.waker().wake_by_ref();
                }
                (self.activity.lasted() / 8).clamp(LOOK.0, LOOK.1)
            }
        }
    }

    /// Adopts changed limits: a connection may last for days.
    fn follow(&mut self) {
        let snapshot = self.worker.router.snapshot();
        if snapshot.config.limits != self.limits {
            self.limits = snapshot.config.limits.clone();
        }
    }

    /// How long the connection may stay in its present state.
    fn left(&self) -> Duration {
        if let Some(left) = self.session.clocks.left(&self.limits, shortest(&self.limits)) {
            return left;
        }
        let lasted = self.activity.lasted();
        match (self.activity.phase(), self.closing) {
            (Phase::Head, _) => self.limits.header_read.saturating_sub(lasted),
            (Phase::Busy, _) => self.limits.tunnel_idle.saturating_sub(lasted),
            (Phase::Idle, None) => self.limits.idle.saturating_sub(lasted),
            (Phase::Idle, Some(since)) => LINGER.saturating_sub(lasted.min(since.elapsed())),
        }
    }
}

/// The shortest limit of any phase.
fn shortest(limits: &Limits) -> Duration {
    limits.header_read.min(limits.idle).min(limits.body).min(limits.response)
}
