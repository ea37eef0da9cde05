//! Connecting to an endpoint: the last place where weir decides whether it may.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tokio::time;

use super::cluster::{Backend, Cluster, Lease};
use super::fault::{Fault, Kind};
use super::worker::Worker;
use super::world::World;
use crate::domain::outcome::Outcome;
use crate::domain::policy::Calls;
use crate::domain::refuse::refuse;
use crate::domain::retry::{Next, Tries};
use crate::transport::{ConnectError, Io};

/// There is no connection.
#[derive(Debug)]
pub(super) struct NotConnected {
    /// What the client gets, if no other endpoint takes it.
    pub(super) fault: Fault,
    /// What it says of the endpoint.
    pub(super) outcome: Outcome,
}

/// A TCP connection to `backend` within `limit`, unless it is a destination weir refuses.
pub(super) async fn connect(
    worker: &Worker,
    world: &World,
    backend: &Backend,
    limit: Duration,
) -> Result<Io, NotConnected> {
    let address = backend.address;
    if let Some(why) = refuse(address, world.grounds(), backend.exempt) {
        let fault = Fault::new(Kind::Refused(why), format!("weir does not connect to {address}: {why}"));
        return Err(NotConnected { fault, outcome: Outcome::Abandoned });
    }
    backend.stats.connects.up();
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

/// How often a request may be tried.
pub(super) fn tries(world: &World, calls: Calls) -> Tries {
    let limits = &world.terms.limits;
    let attempts = calls.attempts.map_or(limits.attempts, |attempts| attempts.get().into());
    Tries::new(attempts, limits.connect_total)
}

/// Whether there is another attempt after one without a connection, which took so long to find out. Waits before it where
/// it has to.
pub(super) async fn again(
    tries: &mut Tries,
    took: Duration,
    cluster: &Cluster,
    tried: &[Arc<Backend>],
) -> bool {
    match tries.unreached(took, cluster.has_untried(tried)) {
        Next::Now => true,
        // Boxed: the few that wait would make every connection's task larger.
        Next::After(pause) => {
            Box::pin(time::sleep(pause)).await;
            true
        }
        Next::Never => false,
    }
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
    let mut tries = tries(world, calls);
    loop {
        let mut lease = worker.lease(cluster, client, &tried, Instant::now())?;
        match connect(worker, world, lease.backend(), tries.connect(world.terms.limits.connect)).await {
            Ok(io) => {
                lease.answered(Instant::now(), Outcome::Carried);
                return Ok((lease, io));
            }
            Err(NotConnected { fault, outcome }) => {
                tried.push(lease.backend().clone());
                let now = Instant::now();
                let took = now.saturating_duration_since(lease.started());
                lease.finish(now, outcome);
                if matches!(fault.kind, Kind::Refused(_)) || !again(&mut tries, took, cluster, &tried).await {
                    return Err(fault);
                }
                cluster.stats.retries.up();
            }
        }
    }
}
