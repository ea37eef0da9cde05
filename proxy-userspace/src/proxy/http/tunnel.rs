//! Exchanges that become byte tunnels: CONNECT, and answers of 101.

use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use smallvec::SmallVec;

use super::body::Settlement;
use super::exchange::resolve;
use super::survey::Survey;
use super::{Body, answer, attempt, headers};
use crate::domain::outcome::Outcome;
use crate::proxy::cluster::{Backend, Cluster, Lease};
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::session::{Origin, Session};
use crate::proxy::tcp;
use crate::proxy::worker::Worker;
use crate::proxy::world::World;
use crate::transport::Io;

/// Answers CONNECT: a connection to an endpoint of the named service, and from then on bytes both ways.
pub(super) async fn connect(
    worker: &Worker,
    session: &Session,
    world: &World,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Fault> {
    headers::check_target(request.uri(), world.terms.limits.target_bytes)?;
    headers::check_hops(Survey::of(request.headers()), request.headers())?;
    let cluster = match session.origin {
        Origin::Dialled(address) => worker.cluster_of(world, address),
        Origin::Explicit => {
            let authority = request.uri().authority().map(http::uri::Authority::as_str);
            let authority =
                authority.ok_or_else(|| Fault::new(Kind::NoHost, "CONNECT needs a host and a port"))?;
            resolve(worker, world, authority).await?
        }
    };
    let (lease, server) = open(worker, world, &cluster).await?;
    let client = hyper::upgrade::on(&mut request);
    carry(worker, world, lease, client, async move { Some(server) });
    Ok(answer::empty(StatusCode::OK))
}

/// A connection to one endpoint of `cluster`; one that does not take it costs nothing but the time.
///
/// # Errors
///
/// The last endpoint's fault, when none of those tried took it.
pub(in crate::proxy) async fn open(
    worker: &Worker,
    world: &World,
    cluster: &Arc<Cluster>,
) -> Result<(Lease, Io), Fault> {
    let mut tried: SmallVec<[Arc<Backend>; 2]> = SmallVec::new();
    let mut left = world.terms.limits.attempts;
    loop {
        let mut lease = worker.lease(cluster, &tried, Instant::now())?;
        left -= 1;
        match attempt::connect(worker, world, lease.backend()).await {
            Ok(io) => {
                lease.answered(Instant::now(), Outcome::Carried);
                return Ok((lease, io));
            }
            Err(failed) => {
                tried.push(lease.backend().clone());
                lease.finish(Instant::now(), failed.outcome);
                if left == 0 || matches!(failed.fault.kind, Kind::Refused(_)) {
                    return Err(failed.fault);
                }
                cluster.stats.retries.up();
            }
        }
    }
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
