//! One exchange: a request and its answer, or one opaque connection.
//!
//! Everything that belongs to a request is in its [`Exchange`]. hyper parses and writes messages. What hyper accepts is
//! checked further in `head` and `headers`: a message with ambiguous framing never reaches an endpoint.

mod answer;
pub mod attempt;
pub mod bad_head;
mod bind;
mod expect;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod grpc;
mod head;
mod headers;
mod http2;
mod identify;
pub mod interim;
mod max_forwards;
mod overrides;
mod record;
mod replay;
mod reply;
mod response_body;
mod retry_after;
mod scan;
mod send;
pub mod session;
pub mod stream;
mod translate;
pub mod tunnel;
mod websocket;

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::header::{CONNECTION, SEC_WEBSOCKET_KEY};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body;

pub use self::bind::dialled;
use self::head::Head;
use self::headers::Upgrade;
use self::record::Record;
pub use self::response_body::ResponseBody;
use self::response_body::ResponseGuard;
use self::send::Sending;
use self::session::{Origin, Session};
use self::stream::{ClientSide, OnStream};
use super::clock::Clock;
use super::fault::{Fault, Kind};
use super::routing::snapshot::Snapshot;
use super::upstream::RequestBody;
use super::worker::Worker;
use crate::config::Limits;
use crate::transport::Received;

/// Everything about one request, or about one opaque connection.
#[derive(Debug)]
pub struct Exchange {
    /// The connection that it is on.
    pub session: Rc<Session>,
    /// The snapshot that decides it: a reload never affects a request halfway.
    pub snapshot: Arc<Snapshot>,
    /// How long nothing has happened in it.
    pub clock: Clock,
    /// What is logged and counted about it.
    pub record: Record,
    /// The stream of HTTP/2 that it is on.
    stream: Option<stream::Tunnel>,
    /// Whether its client understands an answer of gRPC.
    is_grpc: bool,
    /// Its head as received; empty where none was read.
    head: Head,
    /// How often it may be sent again after it was sent: once, if it is idempotent and has no body.
    repeats: u8,
    /// Its listener's router is no longer in the configuration, or its client is refused.
    orphaned: bool,
}

/// Whether a request asks to turn its connection into a byte tunnel, with the client's side of the tunnel.
enum Asked {
    /// No.
    Nothing,
    /// By `Upgrade`: an answer of 101 switches. Where weir has made the key of a WebSocket, the proof that the answer must
    /// have.
    Upgrade(ClientSide, Option<Box<HeaderValue>>),
    /// By CONNECT, to the proxy that it dialled: any 2xx switches (RFC 9110 §9.3.6).
    Connect(ClientSide),
}

/// Answers one request, which came on a `stream` of HTTP/2 or on a connection of HTTP/1: with an endpoint's answer, or
/// with weir's own that gives the reason. There is always an answer, and the return type states it; a wrapper future
/// would double the memory of a connection.
pub async fn handle(
    worker: Rc<Worker>,
    session: Rc<Session>,
    request: Request<impl Received>,
    stream: Option<OnStream>,
) -> Result<Response<ResponseBody>, Infallible> {
    session.listener.requests.inc();
    let mut exchange = Exchange::begin(&worker, session, stream);
    let mut request = request.map(|body| RequestBody::new(body.received(), &exchange.clock));
    exchange.is_grpc = http2::is_grpc(&request);
    let connects = tunnel::is_connect(&request) && exchange.session.origin == Origin::Explicit;
    let admitted = worker.shared.memory.admit(|| exchange.session.holder().id);
    let outcome = if exchange.orphaned {
        Err(exchange.not_served())
    } else if let Err(fault) = admitted {
        Err(fault)
    } else if connects {
        tunnel::connect(&worker, &mut exchange, &mut request).await
    } else {
        answer(&worker, &mut exchange, &mut request).await
    };
    let mut response = outcome.unwrap_or_else(|fault| {
        worker.shared.count(&fault);
        exchange.record.fault(&fault);
        answer::fault(&fault, exchange.is_stranger(), exchange.is_grpc)
    });
    if !matches!(response.body(), ResponseBody::Endpoint(_)) {
        exchange.clock.answered(Instant::now());
    }
    if exchange.session.listener.via() {
        headers::append_via(response.version(), response.headers_mut());
    }
    *response.version_mut() = Version::HTTP_11;
    // Bytes after a refused CONNECT may be meant for the tunnel: they must not be parsed as requests. A tunnel has no
    // next request.
    let status = response.status();
    let refused = connects && !status.is_success();
    let is_tunnel = || status == StatusCode::SWITCHING_PROTOCOLS || (connects && status.is_success());
    let ends = || worker.shared.drain.is_closing() || exchange.session.is_short_of_room();
    if refused || exchange.orphaned || (ends() && !is_tunnel()) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// One request, from its head to the head of its answer.
async fn answer(
    worker: &Worker,
    exchange: &mut Exchange,
    request: &mut Request<RequestBody>,
) -> Result<Response<ResponseBody>, Fault> {
    let asked = exchange.identify(worker, request)?;
    if let Some(answer) = max_forwards::last(worker, exchange, request)? {
        return Ok(answer);
    }
    let destination = bind::bind(worker, exchange, request).await?;
    let mut sending = Sending::new(exchange, destination.policy, &asked, request);
    let (lease, (response, connection)) =
        attempt::deliver(worker, exchange, &destination, &mut sending).await?;
    let guard = ResponseGuard {
        lease,
        connection,
        worker: worker.dialer.worker,
        clock: exchange.clock.clone(),
        record: exchange.record.clone(),
        keep: exchange.snapshot.config.limits.pool_connections,
    };
    reply::reply(worker, exchange, asked, response, guard)
}

impl Exchange {
    /// An exchange that begins now.
    pub fn begin(worker: &Worker, session: Rc<Session>, stream: Option<OnStream>) -> Self {
        let now = Instant::now();
        let (clock, stream) = match stream {
            None => (session.clocks.begin(&session.activity, now), None),
            Some(OnStream { clock, tunnel }) => (clock, Some(tunnel)),
        };
        let snapshot = worker.router.snapshot_at(&session.listener);
        Self {
            orphaned: snapshot.is_none(),
            snapshot: snapshot.unwrap_or_else(|| worker.router.snapshot()),
            clock,
            record: Record::begin(session.client, &session.listener, now),
            stream,
            is_grpc: false,
            head: Head::default(),
            repeats: 0,
            session,
        }
    }

    /// Whether its listener's router is no longer in the configuration, or its client is refused.
    pub fn is_orphaned(&self) -> bool {
        self.orphaned
    }

    /// Why it is not served, if no router serves it.
    fn not_served(&self) -> Fault {
        match &self.session.refused {
            Some(why) => Fault::new(why.kind, why.detail.clone()),
            None => {
                Fault::new(Kind::Overload, "the router of this listener was taken out of the configuration")
            }
        }
    }

    /// Whether its client gets only the status's standard meaning; see [`overrides`].
    fn is_stranger(&self) -> bool {
        // No rules are left that would say otherwise. Who is refused is told why.
        (self.orphaned && self.session.refused.is_none())
            || overrides::is_stranger(self.session.permitted_as, self.session.origin, &self.snapshot.config)
    }

    /// Reads and checks the head of `request`, and prepares it for an endpoint.
    fn identify(&mut self, worker: &Worker, request: &mut Request<RequestBody>) -> Result<Asked, Fault> {
        let (session, limits) = (&self.session, &self.snapshot.config.limits);
        let (head, upgrade) = prepare(request, session.origin, limits, session.listener.via())?;
        session.activity.requested(head.length, request.body().size_hint().exact());
        let asked = Asked::by(request, upgrade, &mut self.stream, head.spoken);
        let is_repeatable = request.method().is_idempotent()
            && request.body().is_replayable()
            && matches!(asked, Asked::Nothing);
        expect::hold_back(worker, limits, &session.activity, head.expectation, request);
        self.repeats = u8::from(is_repeatable);
        self.head = head;
        Ok(asked)
    }
}

/// Reads and checks the head of `request`, of any version, and makes it the HTTP/1.1 head that goes on, with weir in its
/// Via if `via`. Returns what the head said, and whether an upgrade is asked for.
fn prepare<B: Body>(
    request: &mut Request<B>,
    origin: Origin,
    limits: &Limits,
    via: bool,
) -> Result<(Head, Upgrade), Fault> {
    if request.version() == Version::HTTP_2 {
        http2::read(request, origin, limits)?;
    }
    let head = Head::read(request, origin, limits.target_bytes)?;
    headers::check_length(head.scan, !request.body().is_end_stream(), request.headers())?;
    *request.version_mut() = Version::HTTP_11;
    // Reserves room for added fields at once.
    request.headers_mut().reserve(headers::ADDED);
    headers::check_upgrade(head.scan, head.spoken, request.headers_mut());
    let upgrade = headers::strip_hop_by_hop(head.scan, origin, request.headers_mut());
    if via {
        headers::append_via(head.spoken, request.headers_mut());
    }
    if head.spoken == Version::HTTP_2 {
        http2::frame(request);
    }
    Ok((head, upgrade))
}

impl Asked {
    fn by(
        request: &mut Request<RequestBody>,
        upgrade: Upgrade,
        stream: &mut Option<stream::Tunnel>,
        spoken: Version,
    ) -> Self {
        let connects = *request.method() == Method::CONNECT;
        if !connects && upgrade == Upgrade::None {
            return Self::Nothing;
        }
        match ClientSide::take(request, stream) {
            None => Self::Nothing,
            Some(client) if connects => Self::Connect(client),
            Some(client) => {
                let has_own_key = spoken == Version::HTTP_2 && websocket::is_asked_for(request.headers());
                let own_key = request.headers().get(SEC_WEBSOCKET_KEY).filter(|_| has_own_key);
                Self::Upgrade(client, own_key.map(|key| Box::new(websocket::accept(key))))
            }
        }
    }
}
