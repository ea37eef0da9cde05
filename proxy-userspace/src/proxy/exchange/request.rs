//! The life of a request.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::attempt::{self, Failed, Reached};
use super::body::Settlement;
use super::head::Head;
use super::headers::{self, Upgrade};
use super::replay::Replay;
use super::scan::{Length, Survey};
use super::{Body, answer, expect, identify, max_forwards, overrides, retry_after, tunnel};
use crate::domain::outcome::Outcome;
use crate::domain::policy::Calls;
use crate::domain::retry::Next;
use crate::proxy::exchange::session::{Origin, Session};
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::routing::resolve::Settled;
use crate::proxy::routing::snapshot::World;
use crate::proxy::upstream::cluster::Cluster;
use crate::proxy::upstream::dial;
use crate::proxy::upstream::race::{Dial, Tried};
use crate::proxy::worker::Worker;
use crate::transport::Phase;

/// Answers one request: with an endpoint's answer, or with weir's own that says why there is none. There is always one,
/// and the type says so here rather than in a future around this one, which would double what a connection holds.
pub(in crate::proxy) async fn handle(
    worker: Rc<Worker>,
    session: Rc<Session>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let now = Instant::now();
    session.door.requests.up();
    session.pulse.begin(now);
    let world = worker.world();
    // It stays here until it is sent: each move would copy 300 bytes to memory that is not in the cache.
    let mut request = request.map(|body| Body::request(body, &session.pulse));
    let connects = *request.method() == Method::CONNECT && session.origin == Origin::Explicit;
    let outcome = if connects {
        tunnel::connect(&worker, &session, &world, &mut request).await
    } else {
        exchange(&worker, &session, &world, &mut request, now).await
    };
    let mut response = outcome.unwrap_or_else(|fault| {
        worker.shared.faults[fault.kind.slot()].up();
        answer::fault(&fault, overrides::is_stranger(&session, &world.terms))
    });
    if !matches!(response.body(), Body::Answer(_)) {
        session.pulse.answered(Instant::now());
    }
    if session.door.via() {
        headers::append_via(response.version(), response.headers_mut());
    }
    *response.version_mut() = Version::HTTP_11;
    // What follows a CONNECT that was refused may be meant for the tunnel: it must not be taken for requests. A tunnel has
    // no next request.
    let status = response.status();
    let refused = connects && !status.is_success();
    let is_tunnel = || status == StatusCode::SWITCHING_PROTOCOLS || (connects && status.is_success());
    if refused || (worker.shared.drain.is_closing() && !is_tunnel()) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// One request, from its head to the head of its answer.
async fn exchange(
    worker: &Worker,
    session: &Rc<Session>,
    world: &Arc<World>,
    request: &mut Request<Body>,
    now: Instant,
) -> Result<Response<Body>, Fault> {
    let Exchange { head, client, mut replays } = Exchange::identify(worker, session, world, request)?;
    if let Some(answer) = max_forwards::last(worker, session, world, &head, request)? {
        return Ok(answer);
    }
    let Choice { cluster, calls, mut now, world: later } =
        bind(worker, session, world, request, head, now).await?;
    let world = later.as_ref().unwrap_or(world);
    let mut tried = Tried::new();
    let mut tries = dial::tries(world, calls);
    loop {
        let mut lease = worker.lease(&cluster, &session.client, &tried, now)?;
        let replay = (replays > 0 && tries.may_repeat()).then(|| Replay::of(request));
        let (limit, total) = (tries.connect(world.terms.limits.connect), tries.left());
        let dial = Dial { client: &session.client, limit, hop_limit: None, total, tried: &mut tried };
        match attempt::send(worker, world, session, &mut lease, calls, dial, request).await {
            Ok((response, ready)) => {
                let keep = world.terms.limits.pool_connections;
                let settlement =
                    Settlement { lease, ready, worker: worker.id, pulse: session.pulse.clone(), keep };
                return reply(worker, session, world, client, response, settlement);
            }
            Err(failed) => {
                let Failed { fault, outcome, reached } = *failed;
                tried.push(lease.backend().clone());
                now = Instant::now();
                let took = now.saturating_duration_since(lease.started());
                lease.finish(now, outcome);
                // Another try has the whole time for its answer.
                session.pulse.enter(Phase::Busy, now);
                // What was never sent may go elsewhere; what was may only if repeating it changes nothing.
                let again = match (reached, replay) {
                    _ if matches!(fault.kind, Kind::Refused(_)) => false,
                    (Reached::Nobody, _) => {
                        let again = dial::again(&mut tries, took, &cluster, &tried).await;
                        now = Instant::now();
                        again
                    }
                    (Reached::Unsent, _) => tries.reached() == Next::Now,
                    (Reached::Unanswered, Some(replay)) => {
                        replays -= 1;
                        *request = replay.request();
                        tries.reached() == Next::Now
                    }
                    (Reached::Unanswered | Reached::Answering, _) => false,
                };
                if !again {
                    return Err(fault);
                }
                cluster.stats.retries.up();
            }
        }
    }
}

/// The facts of one request.
struct Exchange {
    /// What its head said.
    head: Head,
    /// What its answer depends on.
    client: Client,
    /// How often it may be sent again after it was sent: once, if it is idempotent and without a body.
    replays: usize,
}

/// What the answer for a client depends on.
struct Client {
    /// The version it speaks.
    spoken: Version,
    /// Whether it asks for a byte tunnel.
    asked: Asked,
}

/// Whether a request asks for its connection to become a byte tunnel, with the client's side of that.
enum Asked {
    /// It does not.
    Nothing,
    /// By `Upgrade`: an answer of 101 does it.
    Upgrade(OnUpgrade),
    /// By CONNECT, of the proxy that it dialled: any success does it (RFC 9110 §9.3.6).
    Connect(OnUpgrade),
}

impl Exchange {
    /// Checks the head of `request` and makes it one that may go to an endpoint.
    fn identify(
        worker: &Worker,
        session: &Session,
        world: &World,
        request: &mut Request<Body>,
    ) -> Result<Self, Fault> {
        let head = Head::read(request, session.origin, world.terms.limits.target_bytes)?;
        let (found, spoken) = (head.found, head.spoken);
        *request.version_mut() = Version::HTTP_11;
        // Room for what is added, at once.
        request.headers_mut().reserve(headers::ADDED);
        headers::check_upgrade(found, spoken, request.headers_mut());
        let upgrade = headers::strip_hop_by_hop(found, session.origin, request.headers_mut());
        let asked = Asked::by(request, upgrade);
        if session.door.via() {
            headers::append_via(spoken, request.headers_mut());
        }
        let repeatable = request.method().is_idempotent()
            && request.body().is_replayable()
            && matches!(asked, Asked::Nothing);
        expect::hold_back(worker, world, session, head.expectation, request);
        Ok(Self { head, client: Client { spoken, asked }, replays: usize::from(repeatable) })
    }
}

impl Asked {
    fn by(request: &mut Request<Body>, upgrade: Upgrade) -> Self {
        let connects = *request.method() == Method::CONNECT;
        if !connects && upgrade == Upgrade::None {
            return Self::Nothing;
        }
        match request.extensions_mut().remove::<OnUpgrade>() {
            None => Self::Nothing,
            Some(client) if connects => Self::Connect(client),
            Some(client) => Self::Upgrade(client),
        }
    }
}

/// Where a request goes.
struct Choice {
    cluster: Arc<Cluster>,
    /// How its endpoints are tried.
    calls: Calls,
    /// The time then: finding out may take a look-up.
    now: Instant,
    /// The world that it was bound in, where the request waited for that.
    world: Option<Arc<World>>,
}

/// Where the request goes. A diverted one goes to the service it dialled, whatever its Host says; any other where the
/// dtabs lead its host, its own entries included.
async fn bind(
    worker: &Worker,
    session: &Session,
    world: &Arc<World>,
    request: &mut Request<Body>,
    head: Head,
    now: Instant,
) -> Result<Choice, Fault> {
    match session.origin {
        Origin::Dialled(address) => {
            let cluster = worker.cluster_of(world, session, address);
            let calls = cluster.policy().dialled;
            Ok(Choice { calls, cluster, now, world: None })
        }
        Origin::Explicit => {
            let found = head.found;
            let own = overrides::take(found, session, &world.terms, request.headers_mut())?;
            let token = identify::token(world, request);
            let asked = identify::Asked::by((worker, session), world, request, &head, token.as_ref()).await?;
            let bind = |world: &World| asked.bind(worker, world, own.as_ref());
            let Settled { world, route, place } = worker.place(world, &session.client, bind).await?;
            let (cluster, calls, outside) = (place.cluster.clone(), place.calls, place.outside);
            if !head.has_host() {
                headers::say_host(request.headers_mut(), &cluster.name);
            }
            headers::say_destination(found, request.headers_mut(), &route, place);
            // Looking a name up may have taken a while.
            let now = if outside || world.is_some() { Instant::now() } else { now };
            Ok(Choice { cluster, calls, now, world })
        }
    }
}

/// The endpoint's answer, made one that may go to the client, with a body that settles the lease at its end.
fn reply(
    worker: &Worker,
    session: &Rc<Session>,
    world: &World,
    client: Client,
    mut response: Response<Incoming>,
    mut settlement: Settlement,
) -> Result<Response<Body>, Fault> {
    let (now, status) = (Instant::now(), response.status());
    let survey = Survey::of(response.headers());
    if headers::check_codings(survey, response.headers()).is_err() {
        // To drop the field but not the coding would give the client something else than was sent.
        return Err(misframed(settlement, now, "the endpoint used a transfer coding other than chunked"));
    }
    if headers::settle_length(survey, response.headers_mut()).is_err() {
        return Err(misframed(settlement, now, "the endpoint's Content-Length is not one number"));
    }
    if survey.coding && survey.length != Length::None {
        // RFC 9112 §6.3: the coding counts; but who says both may mean the other, and what follows would be no answer.
        settlement.keep = 0;
    }
    let closes = headers::closes(survey, response.version(), response.headers());
    let keeps_upgrade = headers::strip_hop_by_hop(survey, session.origin, response.headers_mut());
    let emptied = survey.l5d
        && overrides::is_stranger(session, &world.terms)
        && overrides::clear_answer(response.headers_mut());
    let tunnel = match (client.asked, keeps_upgrade, status) {
        (Asked::Upgrade(client), Upgrade::Wanted, StatusCode::SWITCHING_PROTOCOLS) => Some(client),
        (.., StatusCode::SWITCHING_PROTOCOLS) => {
            return Err(misframed(settlement, now, "the endpoint switched protocols without being asked"));
        }
        (Asked::Connect(client), ..) if status.is_success() => Some(client),
        (Asked::Connect(_), ..) if closes => {
            // As above: what follows is not for the endpoint either, which closes its connection.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            None
        }
        _ => None,
    };
    settlement.lease.answered(now, Outcome::Answered(status.as_u16()));
    if let Some(wait) = retry_after::of(status, response.headers()) {
        settlement.lease.leave_alone(now, wait, world.terms.limits.retry_after);
    }
    if let Some(client) = tunnel {
        return Ok(tunnel::switched(worker, session, world, client, response, settlement));
    }
    let (parts, incoming) = response.into_parts();
    if emptied {
        // The rest of it is not read: its connection ends.
        settlement.lease.complete(now);
        return Ok(Response::from_parts(parts, Body::Empty));
    }
    Ok(Response::from_parts(parts, Body::answer(incoming, settlement, client.spoken)))
}

/// The endpoint answered, but not as HTTP has it.
fn misframed(settlement: Settlement, now: Instant, why: &'static str) -> Fault {
    settlement.lease.finish(now, Outcome::BadFraming);
    Fault::new(Kind::Framing, why)
}
