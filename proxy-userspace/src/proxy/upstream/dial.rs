//! Connecting to an endpoint: the last place where weir decides whether it may.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time;

use crate::domain::outcome::Outcome;
use crate::domain::policy::Calls;
use crate::domain::refuse::{Exempt, Refusal, refuse, refuse_connected};
use crate::domain::retry::{Next, Tries};
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::routing::snapshot::World;
use crate::proxy::upstream::cluster::{Backend, Cluster, Lease};
use crate::proxy::upstream::race::{self, Dial, Tried};
use crate::proxy::worker::Worker;
use crate::transport::{Bounds, ConnectError, Io, Peer};

/// There is no connection.
#[derive(Debug)]
pub(in crate::proxy) struct NotConnected {
    /// What the client gets, if no other endpoint takes it.
    pub(in crate::proxy) fault: Fault,
    /// What it says of the endpoint.
    pub(in crate::proxy) outcome: Outcome,
}

/// A TCP connection to the endpoint of `lease`, unless it is a destination weir refuses. Where it is one of several addresses
/// of a name outside, it may be another one of them, whose lease it is then.
pub(in crate::proxy) async fn connect(
    worker: &Worker,
    world: &World,
    lease: &mut Lease,
    mut dial: Dial<'_>,
) -> Result<Io, NotConnected> {
    let backend = lease.backend();
    permit(worker, world, backend)?;
    backend.stats.connects.up();
    let connected = if race::may_race(lease.cluster()) {
        // Boxed: it would make every connection's task larger.
        Box::pin(race::connect(worker, world, lease, &mut dial)).await
    } else {
        dial.connector(worker).connect(backend.address, dial.limit).await
    };
    let error = match connected {
        Ok(stream) => {
            check(worker, world, lease.backend(), &stream)?;
            let limits = &world.terms.limits;
            let interim = Bounds { answers: limits.interim_answers, bytes: limits.interim_bytes };
            let patience = worker.shared.connector().patience(limits.silence, interim);
            let peer = Peer::new(patience, lease.backend().doubts().clone());
            worker.watch.add(peer.clone());
            return Ok(Io::to(stream, peer));
        }
        Err(error) => error,
    };
    let outcome = race::outcome(&error);
    let (kind, cause) = match error {
        ConnectError::Timeout => (Kind::ConnectTimeout, format!("no connection within {:?}", dial.limit)),
        ConnectError::Failed(cause) => (Kind::Connect, cause.to_string()),
        ConnectError::Local(cause) => (Kind::Local, format!("this node: {cause}")),
    };
    Err(NotConnected { fault: Fault::new(kind, format!("{}: {cause}", lease.backend().address)), outcome })
}

/// Whether weir may connect to `backend`.
pub(in crate::proxy) fn permit(
    worker: &Worker,
    world: &World,
    backend: &Backend,
) -> Result<(), NotConnected> {
    let is_local = |ip| worker.kernel.is_local(ip);
    let why = refuse(backend.address, world.grounds(), backend.exempt, is_local);
    why.map_or(Ok(()), |why| Err(refused(worker, backend, why)))
}

/// Whether the connection to `backend` may be used: one that has not left this node is refused as its own addresses are,
/// whatever was known of that address before.
fn check(worker: &Worker, world: &World, backend: &Backend, stream: &TcpStream) -> Result<(), NotConnected> {
    let grounds = world.grounds();
    // Where a connection to this node is allowed, only weir's own listeners are to be found out.
    if backend.exempt != Exempt::No && !grounds.has_listener_at(backend.address.port()) {
        return Ok(());
    }
    let (Ok(own), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else { return Ok(()) };
    let why = refuse_connected(own, peer, grounds, backend.exempt);
    why.map_or(Ok(()), |why| Err(refused(worker, backend, why)))
}

fn refused(worker: &Worker, backend: &Backend, why: Refusal) -> NotConnected {
    worker.shared.refusals[why.slot()].up();
    let fault =
        Fault::new(Kind::Refused(why), format!("weir does not connect to {}: {why}", backend.address));
    NotConnected { fault, outcome: Outcome::Abandoned }
}

/// How often a request may be tried.
pub(in crate::proxy) fn tries(world: &World, calls: Calls) -> Tries {
    let limits = &world.terms.limits;
    let attempts = calls.attempts.map_or(limits.attempts, |attempts| attempts.get().into());
    Tries::new(attempts, limits.connect_total)
}

/// Whether there is another attempt after one without a connection, which took so long to find out. Waits before it where
/// it has to.
pub(in crate::proxy) async fn again(
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

/// A connection for `client` to one endpoint of `cluster`, with packets of this hop limit where one is given; an endpoint that does
/// not take it costs nothing but the time.
///
/// # Errors
///
/// The last endpoint's fault, when none of those tried took it.
pub(in crate::proxy) async fn open(
    worker: &Worker,
    world: &World,
    cluster: &Arc<Cluster>,
    calls: Calls,
    client: &SocketAddr,
    hop_limit: Option<u8>,
) -> Result<(Lease, Io), Fault> {
    let mut tried = Tried::new();
    let mut tries = tries(world, calls);
    loop {
        let mut lease = worker.lease(cluster, client, &tried, Instant::now())?;
        let limit = tries.connect(world.terms.limits.connect);
        let dial = Dial { client, limit, hop_limit, total: tries.left(), tried: &mut tried };
        match connect(worker, world, &mut lease, dial).await {
            Ok(io) => return Ok((lease, io)),
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
