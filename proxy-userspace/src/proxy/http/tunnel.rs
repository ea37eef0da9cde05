//! Exchanges that become byte tunnels: CONNECT, and answers of 101. A diverted CONNECT is for the proxy that was dialled,
//! which answers it itself.

use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use super::body::Settlement;
use super::survey::Survey;
use super::{Body, answer, headers, identify, overrides};
use crate::proxy::cluster::Lease;
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::route::Place;
use crate::proxy::session::Session;
use crate::proxy::worker::Worker;
use crate::proxy::world::World;
use crate::proxy::{tcp, upstream};
use crate::transport::Io;

/// Answers an explicit client's CONNECT: a connection to an endpoint of the named service, and from then on bytes both ways.
pub(super) async fn connect(
    worker: &Worker,
    session: &Rc<Session>,
    world: &Arc<World>,
    request: &mut Request<Body>,
) -> Result<Response<Body>, Fault> {
    headers::check_target(request.uri(), world.terms.limits.target_bytes)?;
    let survey = Survey::of(request.headers());
    headers::check_hops(survey, request.headers())?;
    if !request.body().is_end_stream() {
        // Bytes that one hop takes for a body and the next for the tunnel's (RFC 9110 §9.3.6) help nobody but an attacker.
        return Err(Fault::new(Kind::BadBody, "CONNECT has no body"));
    }
    // RFC 9110 §9.3.6: there is no default port.
    let authority = request.uri().authority().filter(|it| it.port().is_some());
    let wanted = || Fault::new(Kind::NoHost, "CONNECT needs a host and a port");
    let authority = authority.cloned().ok_or_else(wanted)?;
    let own = overrides::take(survey, session, &world.terms.overrides, request.headers_mut())?;
    let route = identify::host_route(worker, world, authority.as_str(), own.as_ref())?;
    let Place { cluster, calls, .. } = worker.settle(world, &route).await?;
    let (lease, server) = upstream::open(worker, world, &cluster, calls, &session.client).await?;
    let client = hyper::upgrade::on(request);
    carry(worker, session, world, lease, client, async move { Some(server) });
    Ok(answer::empty(StatusCode::OK))
}

/// Passes on an answer that makes a tunnel of its connection, and joins the two connections behind it.
pub(super) fn switched(
    worker: &Worker,
    session: &Rc<Session>,
    world: &World,
    client: OnUpgrade,
    mut response: Response<Incoming>,
    settlement: Settlement,
) -> Response<Body> {
    let server = hyper::upgrade::on(&mut response);
    carry(worker, session, world, settlement.lease, client, async move { server.await.ok().and_then(whole) });
    response.map(|_| Body::Empty)
}

/// Copies between the two sides, once both are here, until they are done. The client's connection stays one of its
/// listener's for so long.
fn carry(
    worker: &Worker,
    session: &Rc<Session>,
    world: &World,
    lease: Lease,
    client: OnUpgrade,
    server: impl Future<Output = Option<Io>> + 'static,
) {
    let limits = world.terms.limits.clone();
    let (shared, session) = (worker.shared.clone(), session.clone());
    worker.spawn(async move {
        let _session = session;
        let (Ok(client), Some(server)) = (client.await, server.await) else { return };
        let Some(client) = whole(client) else { return };
        tcp::carry(&shared, &limits, lease, client, server).await;
    });
}

/// The connection under an upgraded one, with what hyper had read ahead put back.
fn whole(upgraded: Upgraded) -> Option<Io> {
    let parts = upgraded.downcast::<TokioIo<Io>>().ok()?;
    let mut io = parts.io.into_inner();
    io.put_back(parts.read_buf);
    Some(io)
}
