//! The destination of an exchange.

use std::net::SocketAddr;
use std::time::Instant;

use http::Request;

use super::attempt::Destination;
use super::session::Origin;
use super::{Exchange, headers, identify, overrides};
use crate::proxy::fault::Fault;
use crate::proxy::routing::resolve::Settled;
use crate::proxy::routing::snapshot::Snapshot;
use crate::proxy::upstream::RequestBody;
use crate::proxy::worker::Worker;

/// The destination of the request. A diverted request goes to the service it dialled, whatever its Host says; an
/// explicit one goes where the dtabs, its own entries included, bind its host. A request that waited for the first list
/// of services uses the snapshot that was in force then.
pub(super) async fn bind(
    worker: &Worker,
    exchange: &mut Exchange,
    request: &mut Request<RequestBody>,
) -> Result<Destination, Fault> {
    match exchange.session.origin {
        Origin::Diverted(address) => Ok(dialled(worker, exchange, address)),
        Origin::Explicit => {
            let (snapshot, session) = (&exchange.snapshot, &exchange.session);
            let scan = exchange.head.scan;
            let own = overrides::take(scan, session, &snapshot.config, request.headers_mut())?;
            let token = identify::token(snapshot, request, exchange.head.spoken);
            let asked =
                identify::Asked::by((worker, session), snapshot, request, &exchange.head, token.as_ref())
                    .await?;
            let bind = |snapshot: &Snapshot| asked.bind(worker, snapshot, own.as_ref());
            let Settled { snapshot, route, place } = worker
                .router
                .place(snapshot, &**session, bind)
                .await
                .inspect_err(|why| worker.count_not_led(why))?;
            let (cluster, policy, outside) = (place.cluster.clone(), place.requests, place.outside);
            if !exchange.head.has_host() {
                headers::say_host(request.headers_mut(), &cluster.name);
            }
            headers::say_destination(scan, request.headers_mut(), &route, place);
            // A look-up may have taken a while.
            let waited = outside || snapshot.is_some();
            if let Some(later) = snapshot {
                exchange.snapshot = later;
            }
            let now = if waited { Instant::now() } else { exchange.record.started };
            Ok(Destination { cluster, policy, now })
        }
    }
}

/// The service that owns `address`, which the connection of `exchange` dialled, or else that address itself.
pub fn dialled(worker: &Worker, exchange: &Exchange, address: SocketAddr) -> Destination {
    let session = &exchange.session;
    let cluster = worker.router.cluster_of(&exchange.snapshot, address, &session.external, &**session);
    Destination { policy: cluster.policy().dialled, cluster, now: exchange.record.started }
}
