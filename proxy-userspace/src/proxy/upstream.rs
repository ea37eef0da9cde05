//! Connecting to an endpoint: the last place where weir decides whether it may.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;

use super::cluster::{Backend, Cluster, Lease};
use super::fault::{Fault, Kind};
use super::worker::Worker;
use super::world::World;
use crate::domain::outcome::Outcome;
use crate::domain::policy::Calls;
use crate::domain::refuse::refuse;
use crate::transport::{ConnectError, Io};

/// There is no connection.
#[derive(Debug)]
pub(super) struct NotConnected {
    /// What the client gets, if no other endpoint takes it.
    pub(super) fault: Fault,
    /// What it says of the endpoint.
    pub(super) outcome: Outcome,
}

/// A TCP connection to `backend`, unless it is a destination weir refuses.
pub(super) async fn connect(worker: &Worker, world: &World, backend: &Backend) -> Result<Io, NotConnected> {
    let address = backend.address;
    if let Some(why) = refuse(address, world.grounds(), backend.exempt) {
        let fault = Fault::new(Kind::Refused(why), format!("weir does not connect to {address}: {why}"));
        return Err(NotConnected { fault, outcome: Outcome::Abandoned });
    }
    backend.stats.connects.up();
    let limit = world.terms.limits.connect;
    let (kind, outcome, cause) = match worker.shared.connector.connect(address, limit).await {
        Ok(stream) => return Ok(Io::new(stream)),
        Err(ConnectError::Timeout) => {
            (Kind::ConnectTimeout, Outcome::ConnectTimeout, format!("no connection within {limit:?}"))
        }
        Err(ConnectError::Failed(cause)) => (Kind::Connect, Outcome::ConnectFailed, cause.to_string()),
        Err(ConnectError::Local(cause)) => (Kind::Local, Outcome::Abandoned, format!("this node: {cause}")),
    };
    Err(NotConnected { fault: Fault::new(kind, format!("{address}: {cause}")), outcome })
}

/// How many endpoints a request may try.
pub(super) fn attempts(world: &World, calls: Calls) -> usize {
    calls.attempts.map_or(world.terms.limits.attempts, |attempts| attempts.get().into())
}

/// A connection for `client` to one endpoint of `cluster`; one that does not take it costs nothing but the time.
///
/// # Errors
///
/// The last endpoint's fault, when none of those tried took it.
pub(super) async fn open(
    worker: &Worker,
    world: &World,
    cluster: &Arc<Cluster>,
    calls: Calls,
    client: &SocketAddr,
) -> Result<(Lease, Io), Fault> {
    let mut tried: SmallVec<[Arc<Backend>; 2]> = SmallVec::new();
    let mut left = attempts(world, calls);
    loop {
        let mut lease = worker.lease(cluster, client, &tried, Instant::now())?;
        left -= 1;
        match connect(worker, world, lease.backend()).await {
            Ok(io) => {
                lease.answered(Instant::now(), Outcome::Carried);
                return Ok((lease, io));
            }
            Err(NotConnected { fault, outcome }) => {
                tried.push(lease.backend().clone());
                lease.finish(Instant::now(), outcome);
                if left == 0 || matches!(fault.kind, Kind::Refused(_)) {
                    return Err(fault);
                }
                cluster.stats.retries.up();
            }
        }
    }
}
