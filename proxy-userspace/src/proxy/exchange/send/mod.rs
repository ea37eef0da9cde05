//! Sends a request on a connection to one endpoint.

mod http2;

use std::borrow::Cow;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Extensions, Method, Request, Response, Version};
use http_body::Body as _;
use hyper::client::conn::TrySendError;
use tokio::time::timeout;

use super::attempt::{Cargo, Failed};
use super::replay;
use super::session::Origin;
use super::{Asked, Exchange, interim};
use crate::config::Limits;
use crate::domain::outcome::Outcome;
use crate::domain::policy::{self, RequestPolicy};
use crate::domain::retry::Reached;
use crate::proxy::clock::Wait;
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::upstream::cluster::Lease;
use crate::proxy::upstream::{Conn, Dial, Key, NotConnected, PooledConnection, Protocol, RequestBody};
use crate::proxy::worker::Worker;
use crate::transport::MessageBody;

/// A reused connection that closes this soon after a request may have been closed as idle before the request arrived.
const CROSSING: Duration = Duration::from_secs(1);

/// A request to be sent. It is not moved until then: each move would copy 300 bytes to memory that is not in the cache.
pub(super) struct Sending<'a> {
    request: &'a mut Request<RequestBody>,
    /// Whether it may be sent again after it was sent.
    may_repeat: bool,
    /// The request of before, if it was sent and may be sent again.
    again: Option<Box<Request<RequestBody>>>,
    protocol: Protocol,
    /// Whether it asks for an upgrade that an extended CONNECT can ask for: it is a GET without a body (RFC 8441 §5).
    upgrades: bool,
}

impl<'a> Sending<'a> {
    /// The request of `exchange`, in the protocol that its endpoints are asked in.
    pub(super) fn new(
        exchange: &Exchange,
        policy: RequestPolicy,
        asked: &Asked,
        request: &'a mut Request<RequestBody>,
    ) -> Self {
        let upgrades = matches!(asked, Asked::Upgrade(..))
            && *request.method() == Method::GET
            && request.body().is_end_stream();
        let protocol = protocol_of(exchange, policy, asked);
        Self { request, may_repeat: false, again: None, protocol, upgrades }
    }
}

impl Cargo for Sending<'_> {
    type Delivered = (Response<MessageBody>, PooledConnection);

    fn keep(&mut self, may_repeat: bool) {
        // Of a request that is sent by HTTP/2 the head is kept anyway.
        self.may_repeat = may_repeat && self.protocol != Protocol::Http2;
    }

    fn restore(&mut self) {
        if let Some(again) = self.again.take() {
            *self.request = *again;
        }
    }

    /// Takes the request and sends it, on a pooled connection or a new one, and waits for the head of the answer. A
    /// pooled connection that failed before the request was written is not an attempt: the next one is used.
    async fn deliver(
        &mut self,
        worker: &Worker,
        exchange: &Exchange,
        policy: RequestPolicy,
        lease: &mut Lease,
        mut dial: Dial<'_>,
    ) -> Result<Self::Delivered, Box<Failed>> {
        if self.protocol == Protocol::Http2 {
            // Boxed: it would make the task of every HTTP/1 connection larger.
            return Box::pin(self.deliver_http2(worker, exchange, policy, lease, dial)).await;
        }
        let rules = exchange.snapshot.dial_rules();
        let key = Key::plain(self.protocol, exchange.session.source());
        loop {
            let mut connection = match worker.dialer.checkout(rules, lease, key) {
                Some(pooled) => pooled,
                None => opened(worker.dialer.open(rules, lease, key, dial.again()).await, lease)?,
            };
            let address = lease.backend().address;
            let read_before = connection.peer.reads();
            connection.peer.owes_response(lease.started());
            let extensions = self.kept(&connection);
            let Conn::Http1(sender) = &mut connection.conn else {
                return Err(Box::new(Failed::broken(address, Reached::Unsent)));
            };
            let answer = pin!(sender.try_send_request(std::mem::take(self.request)));
            let cut = connection.cut_on_drop();
            let answer = match policy.response() {
                None => in_time(answer, exchange, Some(&connection)).await,
                Some(limit) => in_own_time(answer, exchange, Some(&connection), limit).await,
            };
            match &answer {
                Some(_) => cut.disarm(),
                None => drop(cut),
            }
            match answer {
                Some(Ok(response)) => {
                    connection.reused = true;
                    return Ok((response.map(MessageBody::from), connection));
                }
                Some(Err(mut error)) => match error.take_message() {
                    Some(unsent) => {
                        *self.request = unsent;
                        if !connection.reused {
                            return Err(Box::new(Failed::broken(address, Reached::Unsent)));
                        }
                    }
                    None => {
                        let unanswered = connection.peer.reads() == read_before;
                        let failed = sent(lease, &connection, unanswered, rules.limits, &error);
                        return Err(Box::new(self.repeatable(failed, &connection, extensions)));
                    }
                },
                None => return Err(Box::new(late(exchange, policy, address))),
            }
        }
    }
}

impl Sending<'_> {
    /// What is kept of the request beside the head that `connection` keeps, if it may be sent again.
    fn kept(&self, connection: &PooledConnection) -> Option<Extensions> {
        self.may_repeat.then(|| {
            connection.peer.keep_head();
            self.request.extensions().clone()
        })
    }

    /// Makes the request ready to be sent again, if it may be: what `connection` has not sent as a whole, nothing can send again.
    #[cold]
    fn repeatable(
        &mut self,
        mut failed: Failed,
        connection: &PooledConnection,
        extensions: Option<Extensions>,
    ) -> Failed {
        let head = extensions.zip(connection.peer.take_head());
        self.again = head.and_then(|(extensions, head)| replay::read(&head, extensions)).map(Box::new);
        if self.again.is_none() && failed.reached == Reached::Unanswered {
            failed.reached = Reached::Answering;
        }
        failed
    }
}

/// The connection that was opened for `lease`, if one was.
fn opened(
    new: Result<Option<PooledConnection>, NotConnected>,
    lease: &Lease,
) -> Result<PooledConnection, Box<Failed>> {
    let new = new.map_err(|none| Box::new(none.into()))?;
    new.ok_or_else(|| Box::new(Failed::broken(lease.backend().address, Reached::Unsent)))
}

/// The protocol in which the endpoints of a request are asked: what a policy or their service says, or else what the
/// client speaks. What asks for an upgrade goes by HTTP/1.1 unless they say HTTP/2: only then is it known that the endpoint
/// may take an extended CONNECT.
fn protocol_of(exchange: &Exchange, policy: RequestPolicy, asked: &Asked) -> Protocol {
    let is_http2 = match (asked, policy.protocol) {
        (Asked::Connect(_), _) | (Asked::Nothing | Asked::Upgrade(..), Some(policy::Protocol::Http1)) => {
            false
        }
        (Asked::Nothing | Asked::Upgrade(..), Some(policy::Protocol::Http2)) => true,
        (Asked::Upgrade(..), _) => false,
        (Asked::Nothing, None | Some(policy::Protocol::Auto)) => exchange.head.spoken == Version::HTTP_2,
    };
    match exchange.session.origin {
        _ if is_http2 => Protocol::Http2,
        Origin::Explicit => Protocol::Http1,
        Origin::Diverted(_) => Protocol::Http1Cased,
    }
}

/// The request was sent, or part of it, and `error` came instead of an answer.
fn sent(
    lease: &Lease,
    connection: &PooledConnection,
    unanswered: bool,
    limits: &Limits,
    error: &TrySendError<Request<RequestBody>>,
) -> Failed {
    let address = lease.backend().address;
    // A reused connection that ends now may have been closed before its endpoint saw the request.
    let crossed = connection.reused && unanswered && lease.started().elapsed() < CROSSING;
    if connection.peer.has_ended() && !crossed {
        return half_closed(address, "closed the connection".into());
    }
    let mut failed = if connection.peer.is_silent() {
        silent(address, limits.silence)
    } else if connection.peer.is_flooding() {
        flooding(address, limits)
    } else {
        failed(address, error.error())
    };
    failed.reached = if unanswered { Reached::Unanswered } else { Reached::Answering };
    if failed.outcome == Outcome::Reset && crossed {
        failed.outcome = Outcome::Stale;
    }
    failed
}

/// The result of `answer`, unless nothing passes in either direction for `limits.response`. The connection's timer
/// detects that (`downstream`): a timer per request would cost four hundred instructions.
async fn in_time<T>(
    mut answer: Pin<&mut impl Future<Output = T>>,
    exchange: &Exchange,
    connection: Option<&PooledConnection>,
) -> Option<T> {
    exchange.clock.set_wait(Wait::Waiting);
    let answer = poll_fn(|cx| poll(answer.as_mut(), exchange, connection, cx)).await;
    exchange.clock.set_wait(Wait::None);
    forget_interim(exchange);
    answer
}

/// The result of `answer`, or `None` when the connection's timer has found that the wait takes too long. If `connection`
/// is not shared, passes on to it the end of the client's sending side, and its interim answers to a client of HTTP/1.1.
fn poll<T>(
    answer: Pin<&mut impl Future<Output = T>>,
    exchange: &Exchange,
    connection: Option<&PooledConnection>,
    cx: &mut Context<'_>,
) -> Poll<Option<T>> {
    let clock = &exchange.clock;
    if let Some(connection) = connection
        && let Some(heads) = connection.peer.take_interim()
    {
        if exchange.head.spoken == Version::HTTP_11 {
            exchange.session.activity.interject(&interim::of_http1(&heads, exchange.is_stranger()));
        }
        // They are written before the answer, which may be there already.
        cx.waker().wake_by_ref();
        return Poll::Pending;
    }
    if let Poll::Ready(answer) = answer.poll(cx) {
        return Poll::Ready(Some(answer));
    }
    clock.wake_when_too_long(cx);
    if let Some(connection) = connection {
        connection.peer.wake_for_interim(cx);
        if clock.has_ended() {
            connection.end();
        }
    }
    if clock.wait() == Wait::TooLong { Poll::Ready(None) } else { Poll::Pending }
}

/// As [`in_time`], for a request with its own limit, which needs its own timer.
async fn in_own_time<T>(
    mut answer: Pin<&mut impl Future<Output = T>>,
    exchange: &Exchange,
    connection: Option<&PooledConnection>,
    limit: Duration,
) -> Option<T> {
    let clock = &exchange.clock;
    clock.set_wait(Wait::Timed);
    let mut left = limit;
    let answer = loop {
        let waits = poll_fn(|cx| poll(answer.as_mut(), exchange, connection, cx));
        if let Ok(answer) = timeout(left, waits).await {
            break answer;
        }
        // While more of the request's body is due, weir waits for the client, not for the endpoint.
        left = limit.saturating_sub(clock.silent_for(Instant::now()).unwrap_or_default());
        if left.is_zero() {
            break None;
        }
    };
    clock.set_wait(Wait::None);
    forget_interim(exchange);
    answer
}

/// Forgets interim answers that could not be written yet: they must not be written behind the answer.
fn forget_interim(exchange: &Exchange) {
    let _ = exchange.session.activity.take_interjected();
}

/// The endpoint's node is silent; the request may be lost.
fn silent(address: SocketAddr, limit: Duration) -> Failed {
    let detail = format!("the node of {address} has acknowledged nothing for {limit:?}");
    Failed { fault: Fault::new(Kind::Silent, detail), outcome: Outcome::Silent, reached: Reached::Unanswered }
}

/// The endpoint sends too many interim answers.
fn flooding(address: SocketAddr, limits: &Limits) -> Failed {
    let Limits { interim_answers: most, interim_bytes: bytes, .. } = limits;
    let detail = format!(
        "{address} sent more than {most} interim answers (1xx), or {bytes} bytes of them, and no answer"
    );
    let fault = Fault::new(Kind::Interim, detail);
    Failed { fault, outcome: Outcome::BadFraming, reached: Reached::Answering }
}

/// The client had closed its sending side, and so had weir. The endpoint decides what it does then, so that nothing is
/// said against it, and nothing is tried again.
fn half_closed(address: SocketAddr, what: Cow<'static, str>) -> Failed {
    let detail = format!("the client has closed its sending side, and {address} {what}");
    let fault = Fault::new(Kind::HalfClosed, detail);
    Failed { fault, outcome: Outcome::Abandoned, reached: Reached::Answering }
}

/// The endpoint has the request and did not answer in time.
fn late(exchange: &Exchange, policy: RequestPolicy, address: SocketAddr) -> Failed {
    let limits = &exchange.snapshot.config.limits;
    if exchange.clock.activity().has_ended() {
        let within = format!("did not answer within {:?}", limits.half_closed);
        return half_closed(address, within.into());
    }
    too_slow(address, policy.response().unwrap_or(limits.response))
}

/// The endpoint has the request and does not answer.
fn too_slow(address: SocketAddr, limit: Duration) -> Failed {
    let fault = Fault::new(Kind::ResponseTimeout, format!("{address} did not answer within {limit:?}"));
    Failed { fault, outcome: Outcome::Timeout, reached: Reached::Answering }
}

/// The failure for a hyper error.
fn failed(address: SocketAddr, error: &hyper::Error) -> Failed {
    let reached = Reached::Unanswered;
    if error.is_parse() || error.is_parse_too_large() {
        let fault = Fault::new(Kind::Framing, format!("what {address} answered is not HTTP: {error}"));
        return Failed { fault, outcome: Outcome::BadFraming, reached };
    }
    // The client's own body broke while it was being forwarded: the endpoint is not at fault.
    if error.is_user() || error.is_body_write_aborted() {
        let fault = Fault::new(Kind::BadBody, "the request's body broke off, or is not what its head said");
        return Failed { fault, outcome: Outcome::Abandoned, reached };
    }
    Failed::broken(address, reached)
}
