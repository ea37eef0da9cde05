//! One attempt: a request on a connection to one endpoint.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::Body;
use crate::config::Limits;
use crate::domain::outcome::Outcome;
use crate::domain::policy::Calls;
use crate::proxy::exchange::session::Session;
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::routing::snapshot::World;
use crate::proxy::upstream::cluster::Lease;
use crate::proxy::upstream::dial::{self, NotConnected};
use crate::proxy::upstream::pool::{Protocol, Ready};
use crate::proxy::upstream::race::Dial;
use crate::proxy::worker::Worker;
use crate::transport::{Peer, Phase, Pulse, Wait};

/// Bytes hyper buffers of a body, for each direction of a connection.
const BUFFER: usize = 64 * 1024;

/// How soon after a request a kept connection ends that was closed as idle: the close was on its way already.
const CROSSING: Duration = Duration::from_secs(1);

/// An attempt without an answer.
#[derive(Debug)]
pub(super) struct Failed {
    /// What the client gets, should this have been the last attempt.
    pub fault: Fault,
    /// What it says of the endpoint.
    pub outcome: Outcome,
    /// How far the request came.
    pub reached: Reached,
}

/// How far a request came that has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// There was no connection. The request is where it was, and no endpoint has seen anything.
    Nobody,
    /// Not a byte of it was sent. It is where it was, and may go elsewhere whatever it is.
    Unsent,
    /// It was sent, and no byte of an answer came: for all anyone knows, it was not seen.
    Unanswered,
    /// Some came, or the endpoint had all its time: it was seen, and must not be repeated.
    Answering,
}

/// Takes `request` and sends it to the lease's endpoint, on a connection that is ready or on a new one, and waits for the
/// head of the answer. A ready connection that died before the request was written is not an attempt: the next one is taken.
pub(super) async fn send(
    worker: &Worker,
    world: &World,
    session: &Session,
    lease: &mut Lease,
    calls: Calls,
    mut dial: Dial<'_>,
    request: &mut Request<Body>,
) -> Result<(Response<Incoming>, Ready), Box<Failed>> {
    let protocol = Protocol::of(session.origin);
    loop {
        let ready =
            lease.backend().pool(worker.id).take(protocol, lease.started(), world.terms.limits.pool_idle);
        let mut ready = match ready {
            Some(ready) => ready,
            None => open(worker, world, lease, protocol, dial.again()).await.map_err(Box::new)?,
        };
        let address = lease.backend().address;
        let heard_before = ready.peer.reads();
        ready.peer.owes(lease.started());
        let answer = pin!(ready.sender.try_send_request(std::mem::take(request)));
        let answer = match calls.response() {
            None => in_time(answer, &session.pulse).await,
            Some(limit) => in_own_time(answer, &session.pulse, limit).await,
        };
        match answer {
            Some(Ok(response)) => {
                ready.reused = true;
                return Ok((response, ready));
            }
            Some(Err(mut error)) => match error.take_message() {
                Some(unsent) => {
                    *request = unsent;
                    if !ready.reused {
                        return Err(Box::new(broken(address, Reached::Unsent)));
                    }
                }
                None => {
                    let unanswered = ready.peer.reads() == heard_before;
                    let reached = if unanswered { Reached::Unanswered } else { Reached::Answering };
                    let failed = unanswered_by(&ready.peer, address, &world.terms.limits, error.error());
                    let mut failed = Failed { reached, ..failed };
                    if failed.outcome == Outcome::Reset && unanswered && ready.reused && crossed(lease) {
                        failed.outcome = Outcome::Stale;
                    }
                    return Err(Box::new(failed));
                }
            },
            None => {
                let limit = calls.response().unwrap_or(world.terms.limits.response);
                return Err(Box::new(too_slow(address, limit)));
            }
        }
    }
}

/// Whether a connection that ends now may have been closed before its endpoint saw the lease's request.
fn crossed(lease: &Lease) -> bool {
    lease.started().elapsed() < CROSSING
}

/// What `answer` gives, unless nothing passes in either direction for `limits.response`. The connection's own timer tells
/// (`serve`): one for each request would cost it four hundred instructions.
async fn in_time<T>(mut answer: Pin<&mut impl Future<Output = T>>, pulse: &Pulse) -> Option<T> {
    pulse.set_wait(Wait::Waiting);
    let answer = poll_fn(|cx| {
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        pulse.wake_when_too_long(cx);
        if pulse.wait() == Wait::TooLong { Poll::Ready(None) } else { Poll::Pending }
    });
    let answer = answer.await;
    pulse.set_wait(Wait::None);
    answer
}

/// The same for a request with a limit of its own, which the connection's timer does not know: it has a timer, too.
async fn in_own_time<T>(
    mut answer: Pin<&mut impl Future<Output = T>>,
    pulse: &Pulse,
    limit: Duration,
) -> Option<T> {
    pulse.set_wait(Wait::Timed);
    let mut left = limit;
    let answer = loop {
        if let Ok(answer) = timeout(left, answer.as_mut()).await {
            break Some(answer);
        }
        // While more of the request's body is due, its client is waited for and not the endpoint.
        left = match pulse.look() {
            (Phase::Upload, _) => limit,
            (_, lasted) => limit.saturating_sub(lasted),
        };
        if left.is_zero() {
            break None;
        }
    };
    pulse.set_wait(Wait::None);
    answer
}

/// A new connection to `backend`, unless it is a destination weir refuses.
async fn open(
    worker: &Worker,
    world: &World,
    lease: &mut Lease,
    protocol: Protocol,
    dial: Dial<'_>,
) -> Result<Ready, Failed> {
    let connected = dial::connect(worker, world, lease, dial).await;
    let nobody = |NotConnected { fault, outcome }| Failed { fault, outcome, reached: Reached::Nobody };
    let io = connected.map_err(nobody)?;
    let address = lease.backend().address;
    let mut builder = http1::Builder::new();
    builder.max_header_size(world.terms.limits.header_bytes).max_headers(world.terms.limits.header_count);
    builder.max_buf_size(world.terms.limits.header_bytes.max(BUFFER));
    builder.preserve_header_case(protocol == Protocol::Http1Cased);
    // RFC 9112 §5.1: a proxy removes that space. hyper's other leniencies stay off; docs/http.md says why, one by one.
    builder.allow_spaces_after_header_name_in_responses(true);
    let Some(peer) = io.peer().cloned() else { return Err(broken(address, Reached::Unsent)) };
    let io = TokioIo::new(io.discard_unread());
    let handshake = builder.handshake::<_, Body>(io).await;
    let (mut sender, connection) = handshake.map_err(|_| broken(address, Reached::Unsent))?;
    tokio::task::spawn_local(async move {
        // Its end reaches whoever waits for an answer; an unused connection may end as it likes.
        let _ = connection.with_upgrades().await;
    });
    sender.ready().await.map_err(|_| broken(address, Reached::Unsent))?;
    Ok(Ready { sender, protocol, peer, reused: false })
}

fn broken(address: SocketAddr, reached: Reached) -> Failed {
    let detail = format!("{address} closed the connection before it answered");
    Failed { fault: Fault::new(Kind::Reset, detail), outcome: Outcome::Reset, reached }
}

/// The request was sent to `peer`, or part of it, and no answer came.
fn unanswered_by(peer: &Peer, address: SocketAddr, limits: &Limits, error: &hyper::Error) -> Failed {
    if peer.is_silent() {
        silent(address, limits.silence)
    } else if peer.is_flooding() {
        flooding(address, limits)
    } else {
        failed(address, error)
    }
}

/// The endpoint's node is gone, and perhaps the request with it.
fn silent(address: SocketAddr, limit: Duration) -> Failed {
    let detail = format!("the node of {address} has acknowledged nothing for {limit:?}");
    Failed { fault: Fault::new(Kind::Silent, detail), outcome: Outcome::Silent, reached: Reached::Unanswered }
}

/// The endpoint sends interim answers, and no end of them.
fn flooding(address: SocketAddr, limits: &Limits) -> Failed {
    let Limits { interim_answers: most, interim_bytes: bytes, .. } = limits;
    let detail = format!(
        "{address} sent more than {most} interim answers (1xx), or {bytes} bytes of them, and no answer"
    );
    Failed {
        fault: Fault::new(Kind::Interim, detail),
        outcome: Outcome::BadFraming,
        reached: Reached::Answering,
    }
}

/// The endpoint has the request, and says nothing.
fn too_slow(address: SocketAddr, limit: Duration) -> Failed {
    let fault = Fault::new(Kind::ResponseTimeout, format!("{address} did not answer within {limit:?}"));
    Failed { fault, outcome: Outcome::Timeout, reached: Reached::Answering }
}

/// What hyper says of it.
fn failed(address: SocketAddr, error: &hyper::Error) -> Failed {
    let reached = Reached::Unanswered;
    if error.is_parse() || error.is_parse_too_large() {
        let fault = Fault::new(Kind::Framing, format!("what {address} answered is not HTTP: {error}"));
        return Failed { fault, outcome: Outcome::BadFraming, reached };
    }
    // The client's own body broke while it was being passed on: the endpoint is not to blame.
    if error.is_user() || error.is_body_write_aborted() {
        let fault = Fault::new(Kind::BadBody, "the request's body broke off, or is not what its head said");
        return Failed { fault, outcome: Outcome::Abandoned, reached };
    }
    broken(address, reached)
}
