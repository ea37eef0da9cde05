//! Exchanges that become byte tunnels: CONNECT, and answers of 101.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use super::body::Settlement;
use super::survey::Survey;
use super::{Body, answer, headers, identify, overrides};
use crate::proxy::cluster::Lease;
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::session::{Origin, Session};
use crate::proxy::worker::Worker;
use crate::proxy::world::World;
use crate::proxy::{tcp, upstream};
use crate::transport::Io;

/// Answers CONNECT: a connection to an endpoint of the named service, and from then on bytes both ways.
pub(super) async fn connect(
    worker: &Worker,
    session: &Session,
    world: &Arc<World>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Fault> {
    headers::check_target(request.uri(), world.terms.limits.target_bytes)?;
    let survey = Survey::of(request.headers());
    headers::check_hops(survey, request.headers())?;
    let (cluster, calls) = match session.origin {
        Origin::Dialled(address) => {
            let cluster = worker.cluster_of(world, session, address);
            let calls = cluster.plan.dialled;
            (cluster, calls)
        }
        Origin::Explicit => {
            // RFC 9110 §9.3.6: there is no default port.
            let authority = request.uri().authority().filter(|it| it.port().is_some());
            let wanted = || Fault::new(Kind::NoHost, "CONNECT needs a host and a port");
            let authority = authority.cloned().ok_or_else(wanted)?;
            let own = overrides::take(survey, session, &world.terms.overrides, request.headers_mut())?;
            let route = identify::host_route(worker, world, authority.as_str(), own.as_ref())?;
            let place = worker.settle(world, &route).await?;
            (place.cluster, place.calls)
        }
    };
    let (lease, server) = upstream::open(worker, world, &cluster, calls, &session.client).await?;
    let client = hyper::upgrade::on(&mut request);
    carry(worker, world, lease, client, async move { Some(server) });
    Ok(answer::empty(StatusCode::OK))
}

/// Passes a 101 on, and joins the two connections behind it.
pub(super) fn switched(
    worker: &Worker,
    world: &World,
    client: OnUpgrade,
    mut response: Response<Incoming>,
    settlement: Settlement,
) -> Response<Body> {
    let server = hyper::upgrade::on(&mut response);
    carry(worker, world, settlement.lease, client, async move { server.await.ok().and_then(whole) });
    response.map(|_| Body::Empty)
}

/// Copies between the two sides, once both are here, until they are done.
fn carry(
    worker: &Worker,
    world: &World,
    lease: Lease,
    client: OnUpgrade,
    server: impl Future<Output = Option<Io>> + 'static,
) {
    let limits = world.terms.limits.clone();
    let shared = worker.shared.clone();
    worker.spawn(async move {
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
