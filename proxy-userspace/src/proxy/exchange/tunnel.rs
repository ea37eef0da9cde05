//! Exchanges that become byte tunnels: CONNECT, and answers of 101. A diverted CONNECT is for the proxy that was
//! dialled, which answers it itself.

use std::future::pending;
use std::time::Instant;

use http::uri::{Authority, Uri};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;

use super::attempt::{self, Bytes, Destination};
use super::identify::Asked;
use super::response_body::{ResponseBody, ResponseGuard};
use super::scan::HeaderScan;
use super::stream::{Client, ClientSide, whole};
use super::{Exchange, answer, headers, overrides};
use crate::config::TunnelRules;
use crate::domain::dtab::Dtab;
use crate::domain::hops;
use crate::domain::ssrf::Exempt;
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::memory::Refused;
use crate::proxy::routing::resolve::Settled;
use crate::proxy::routing::route::RouteTarget;
use crate::proxy::routing::snapshot::Snapshot;
use crate::proxy::upstream::RequestBody;
use crate::proxy::upstream::cluster::Lease;
use crate::proxy::worker::Worker;
use crate::transport::{Carrier, Io, MessageBody};

/// Whether `request` is a CONNECT, and not an extended one (RFC 8441), which asks for an upgrade.
pub(super) fn is_connect(request: &Request<RequestBody>) -> bool {
    *request.method() == Method::CONNECT && request.extensions().get::<h2::ext::Protocol>().is_none()
}

/// Answers an explicit client's CONNECT: connects to an endpoint of the named service, and then forwards bytes both
/// ways.
pub(super) async fn connect(
    worker: &Worker,
    exchange: &mut Exchange,
    request: &mut Request<RequestBody>,
) -> Result<Response<ResponseBody>, Fault> {
    let config = &exchange.snapshot.config;
    headers::check_target(request.uri(), config.limits.target_bytes)?;
    let scan = HeaderScan::new(request.headers());
    headers::check_hops(scan, request.headers())?;
    if scan.hosts > 1 {
        return Err(Fault::new(Kind::NoHost, "the request has more than one Host"));
    }
    if !request.body().is_end_stream() {
        // Bytes that one hop reads as a body and the next as tunnel data (RFC 9110 §9.3.6) only help an attacker.
        return Err(Fault::new(Kind::BadBody, "CONNECT has no body"));
    }
    let authority = authority(request.uri())?.clone();
    let own = overrides::take(scan, &exchange.session, config, request.headers_mut())?;
    let (lease, server) = open(worker, exchange, authority.as_str(), own.as_ref()).await?;
    if let Some(client) = ClientSide::take(request, &mut exchange.stream) {
        forward(worker, exchange, lease, client, async move { Some(server) });
    }
    Ok(answer::empty(StatusCode::OK))
}

/// Connects to an endpoint of `authority`, a host and a port, for an explicit client whose bytes are carried unread.
///
/// # Errors
///
/// Why there is no connection.
pub(in crate::proxy) async fn open(
    worker: &Worker,
    exchange: &mut Exchange,
    authority: &str,
    own: Option<&Dtab>,
) -> Result<(Lease, Io), Fault> {
    let session = exchange.session.clone();
    if session.passed > hops::MOST {
        let why = format!("the tunnel has passed {} weirs: it runs in a circle", session.passed);
        return Err(Fault::new(Kind::Loop, why));
    }
    let host = worker.router.host(&session.pod, &exchange.snapshot, authority).await?;
    let asked = Asked::Host(host);
    let bind = |snapshot: &Snapshot| asked.bind(worker, snapshot, own);
    let Settled { snapshot, place, .. } = worker
        .router
        .place(&exchange.snapshot, &*session, bind)
        .await
        .inspect_err(|why| worker.count_not_led(why))?;
    if let Some(later) = snapshot {
        exchange.snapshot = later;
    }
    check_port(&exchange.snapshot.config.tunnels, &place)?;
    let destination = Destination { cluster: place.cluster, policy: place.requests, now: Instant::now() };
    // A weir that the client reaches through the tunnel continues the count from here.
    let mut bytes = Bytes { hop_limit: Some(hops::onward(session.passed)) };
    attempt::deliver(worker, exchange, &destination, &mut bytes).await
}

/// Whether bytes may be carried there: a proxy that opens a tunnel to any port of any host is a relay for mail and worse
/// (RFC 9110 §9.3.6). What the operator or the cluster wrote down may have any port.
fn check_port(rules: &TunnelRules, place: &RouteTarget) -> Result<(), Fault> {
    // The answers of the cluster's DNS for a Service are endpoints of it.
    if !place.outside || place.written || place.cluster.exempt == Exempt::OnNode {
        return Ok(());
    }
    let members = place.cluster.members();
    match members.all.iter().map(|it| it.backend.address.port()).find(|&port| !rules.ports.contains(port)) {
        None => Ok(()),
        Some(port) => {
            let detail = format!(
                "{} is outside the catalog, and its port {port} is not in outgoing.connectPorts",
                place.cluster.name
            );
            Err(Fault::new(Kind::ConnectPort, detail))
        }
    }
}

/// The target of CONNECT: a host and a port only (authority-form, RFC 9112 §3.2.3).
///
/// # Errors
///
/// [`Kind::BadTarget`] for a URL, a path, `*`, or user information; [`Kind::NoHost`] without a port.
fn authority(target: &Uri) -> Result<&Authority, Fault> {
    let bad = |why| Fault::new(Kind::BadTarget, why);
    let authority = match (target.scheme(), target.authority(), target.path_and_query()) {
        (None, Some(authority), None) => authority,
        (None, None, _) => return Err(bad("CONNECT takes a host and a port, not a path")),
        _ => return Err(bad("CONNECT takes a host and a port, not a URL")),
    };
    if authority.as_str().contains('@') {
        return Err(bad("CONNECT takes a host and a port, without user information"));
    }
    // RFC 9110 §9.3.6: there is no default port. The port number is checked with the host.
    let host = authority.host();
    if authority.as_str()[host.len()..].trim_start_matches(':').is_empty() {
        return Err(Fault::new(Kind::NoHost, "CONNECT needs a host and a port"));
    }
    Ok(authority)
}

/// Forwards an answer that turns its connection into a tunnel, and joins the two connections.
pub(super) fn switched(
    worker: &Worker,
    exchange: &Exchange,
    client: ClientSide,
    mut response: Response<MessageBody>,
    guard: ResponseGuard,
) -> Response<ResponseBody> {
    let server = hyper::upgrade::on(&mut response);
    let (head, body) = response.into_parts();
    match body.into_stream() {
        Some(received) => {
            let tunnel = guard.connection.into_tunnel(received);
            forward(worker, exchange, guard.lease, client, async move { tunnel });
        }
        None => {
            forward(worker, exchange, guard.lease, client, async move { server.await.ok().and_then(whole) })
        }
    }
    Response::from_parts(head, ResponseBody::Empty)
}

/// Copies between the two sides, once both are upgraded, until they end. The client's connection holds its permit that
/// long.
fn forward<S: Carrier + 'static>(
    worker: &Worker,
    exchange: &Exchange,
    lease: Lease,
    client: ClientSide,
    server: impl Future<Output = Option<S>> + 'static,
) {
    let limits = exchange.snapshot.config.limits.clone();
    let (shared, session) = (worker.shared.clone(), exchange.session.clone());
    // A stream ends with its connection, which has a task of its own.
    let is_connection = matches!(client, ClientSide::Http1(_));
    if is_connection {
        exchange.clock.answered(Instant::now());
        session.activity.carries_bytes(Instant::now());
    }
    worker.spawn(async move {
        let carried = async {
            let (Some(client), Some(server)) = (client.ready().await, server.await) else { return };
            // Before its buffers are made.
            if shared.memory.refuses(|| session.holder().id) {
                return shared.memory.refused[Refused::Connection as usize].inc();
            }
            match client {
                Client::Connection(client) => {
                    session.activity.is_from(server.peer());
                    let forwarded = session.forward(&shared.tunnels, &limits, lease, *client, server);
                    session.carrying(&shared.memory, forwarded).await.unwrap_or_default();
                }
                // Its connection ends as a whole.
                Client::Stream(client) => {
                    session.forward(&shared.tunnels, &limits, lease, client, server).await;
                }
            }
        };
        let ended = async {
            match &session.netns {
                None => pending().await,
                Some(pod) => pod.ended().await,
            }
        };
        let displaced = async {
            if !is_connection {
                pending::<()>().await;
            }
            session.activity.displaced().await;
        };
        tokio::select! {
            biased;
            () = ended => {}
            () = displaced => {}
            () = carried => {}
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_names_a_host_and_a_port_and_nothing_else() {
        let cases = [
            ("hello:80", Ok("hello:80")),
            ("10.96.0.10:443", Ok("10.96.0.10:443")),
            ("[fd00::1]:443", Ok("[fd00::1]:443")),
            ("hello", Err(Kind::NoHost)),
            ("hello:", Err(Kind::NoHost)),
            ("[fd00::1]", Err(Kind::NoHost)),
            ("http://hello:80", Err(Kind::BadTarget)),
            ("http://hello:80/", Err(Kind::BadTarget)),
            ("http://hello:80/x", Err(Kind::BadTarget)),
            ("https://hello:443/x?y", Err(Kind::BadTarget)),
            ("ws://hello:80", Err(Kind::BadTarget)),
            ("me@hello:80", Err(Kind::BadTarget)),
            ("me:secret@hello:80", Err(Kind::BadTarget)),
            ("/", Err(Kind::BadTarget)),
            ("/hello:80", Err(Kind::BadTarget)),
            ("//hello:80", Err(Kind::BadTarget)),
            ("/?hello:80", Err(Kind::BadTarget)),
            ("*", Err(Kind::BadTarget)),
        ];
        for (target, expected) in cases {
            let uri: Uri = target.parse().unwrap();
            assert_eq!(authority(&uri).map(Authority::as_str).map_err(|it| it.kind), expected, "{target}");
        }
    }
}
