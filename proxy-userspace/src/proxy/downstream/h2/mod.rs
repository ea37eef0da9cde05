//! A client's HTTP/2 connection, on the `h2` crate.
//!
//! This task reads frames and accepts streams; each stream has a task of its own (`stream.rs`), with its own exchange and
//! clock. What a stream waits for concerns no other: a body is read from its endpoint as its own window allows.

mod body;
mod interim;
mod stream;
mod watch;

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{Builder, Connection};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::time::{sleep, timeout};

use self::watch::{Due, Watch};
use crate::config::Limits;
use crate::proxy::exchange::session::Session;
use crate::proxy::listener::{Abuse, CloseReason, Listener, ListenerKind};
use crate::proxy::worker::Worker;
use crate::transport::{FrameBounds, FrameMeter, Io, Metered, Phase};

/// How long a GOAWAY may take to be written before the connection is dropped.
const FAREWELL: Duration = Duration::from_secs(1);

/// Streams that a client may reset before they are accepted, which is as soon as this task runs.
const UNACCEPTED_RESETS: usize = 100;

/// Bytes that h2 buffers of an answer until its client's socket takes them, beside those of one frame of the endpoint's:
/// one frame of HTTP/2.
const SEND_BUFFER: usize = 16 * 1024;

type Served = Connection<Metered<Io>, Bytes>;

/// A stream that was accepted.
type Accepted = (Request<RecvStream>, h2::server::SendResponse<Bytes>);

/// What has happened on a connection instead of a further stream.
enum Event {
    Ended(Option<h2::Error>),
    Due(Due),
    Abuse(Abuse),
}

/// Serves `io` until its client leaves, is idle for too long or exceeds a bound. It ends with the worker's runtime after
/// the drain.
pub(super) async fn serve(worker: Rc<Worker>, session: Rc<Session>, io: Io) {
    let limits = worker.router.snapshot().config.limits.clone();
    let bounds = FrameBounds { idle: limits.http2.idle_frames, resets: limits.http2.resets };
    let meter = FrameMeter::new(bounds, Instant::now());
    let handshake = builder(&limits, session.listener.kind).handshake(Metered::new(io, meter.clone()));
    let Ok(Ok(connection)) = timeout(limits.header_read, handshake).await else {
        return session.listener.count_closed(CloseReason::BadHead);
    };
    session.activity.enter(Phase::Idle, Instant::now());
    let listener = session.listener.clone();
    listener.http2.connections.inc();
    let _open = listener.http2.open.held();
    // Boxed: it would make every connection's task larger.
    Box::pin(run(worker, session, limits, meter, connection)).await;
}

fn builder(limits: &Limits, kind: ListenerKind) -> Builder {
    let bytes = |size: usize| u32::try_from(size).unwrap_or(u32::MAX >> 1);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.http2.streams)
        .initial_window_size(bytes(limits.http2.stream_window))
        .initial_connection_window_size(bytes(limits.http2.connection_window))
        .max_header_list_size(bytes(limits.header_bytes))
        // h2 counts what small DATA frames lack of 256 bytes, while they wait.
        .data_frame_budget(limits.http2.connection_window)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(UNACCEPTED_RESETS)
        .max_local_error_reset_streams(Some(limits.http2.stream_errors));
    // Whether the server that a diverted client dialled takes one is not known. It asks by HTTP/1.1 then.
    if kind == ListenerKind::Outgoing {
        builder.enable_connect_protocol();
    }
    builder
}

async fn run(
    worker: Rc<Worker>,
    session: Rc<Session>,
    limits: Limits,
    meter: FrameMeter,
    mut connection: Served,
) {
    let (workers, listener) = (worker.clone(), session.listener.clone());
    let timer = pin!(sleep(watch::shortest(&limits)));
    let pings = connection.ping_pong();
    let mut watch = Watch::new(&workers, session.clone(), limits, meter.clone(), pings, timer);
    loop {
        match next(&mut connection, &mut watch, &meter).await {
            Ok((request, respond)) => {
                worker.spawn(stream::serve(worker.clone(), session.clone(), meter.clone(), request, respond));
            }
            Err(Event::Ended(None)) => return,
            Err(Event::Ended(Some(error))) => return count(&listener, &error, &meter),
            Err(Event::Due(due @ (Due::Drained | Due::Idle | Due::Room))) => {
                if due == Due::Room && !session.activity.is_displaced() {
                    listener.count_closed(CloseReason::MadeRoom);
                }
                listener.http2.goaways_sent.count(Reason::NO_ERROR);
                connection.graceful_shutdown();
            }
            // The client has left, or does not read.
            Err(Event::Due(Due::Over)) => return,
            Err(Event::Due(Due::Memory)) => return listener.count_closed(CloseReason::Memory),
            Err(Event::Due(Due::PingLost)) => return listener.http2.pings_lost.inc(),
            Err(Event::Due(Due::SlowHead)) => {
                return end(connection, &listener, Abuse::SlowHead, Reason::PROTOCOL_ERROR).await;
            }
            Err(Event::Abuse(abuse)) => {
                return end(connection, &listener, abuse, Reason::ENHANCE_YOUR_CALM).await;
            }
        }
    }
}

async fn next(connection: &mut Served, watch: &mut Watch<'_>, meter: &FrameMeter) -> Result<Accepted, Event> {
    poll_fn(|cx| {
        if let Poll::Ready(due) = watch.poll(cx) {
            return Poll::Ready(Err(Event::Due(due)));
        }
        let accepted = connection.poll_accept(cx);
        watch.note();
        if let Some(flood) = meter.flood() {
            return Poll::Ready(Err(Event::Abuse(flood.into())));
        }
        accepted.map(|accepted| match accepted {
            Some(Ok(accepted)) => Ok(accepted),
            Some(Err(error)) => Err(Event::Ended(Some(error))),
            None => Err(Event::Ended(None)),
        })
    })
    .await
}

/// Ends a connection at once, with this `reason`: its streams, too.
async fn end(mut connection: Served, listener: &Listener, abuse: Abuse, reason: Reason) {
    listener.http2.abuses[abuse as usize].inc();
    listener.http2.goaways_sent.count(reason);
    connection.abrupt_shutdown(reason);
    // Whether it arrives does not matter.
    let _ = timeout(FAREWELL, poll_fn(|cx| connection.poll_closed(cx))).await;
}

/// Counts how a connection was ended, where it did not just end.
fn count(listener: &Listener, error: &h2::Error, meter: &FrameMeter) {
    let Some(reason) = error.reason().filter(|_| error.is_go_away()) else { return };
    if error.is_remote() {
        return listener.http2.goaways_received.count(reason);
    }
    listener.http2.goaways_sent.count(reason);
    if let Some(abuse) = Abuse::of(error, meter) {
        listener.http2.abuses[abuse as usize].inc();
    }
}
