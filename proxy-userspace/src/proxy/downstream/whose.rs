//! Whose network an explicit client uses: the node's, or its own pod's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::timeout_at;
use tokio_util::task::AbortOnDropHandle;

use crate::config::Served;
use crate::domain::pods::Said;
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::listener::{CloseReason, ConnectionPermit, Listener};
use crate::proxy::pod_clients::{Found, PodClients, Whose};
use crate::proxy::routing::ClientPod;
use crate::proxy::worker::Worker;
use crate::transport::{Activity, PodNetns};

/// How long the cluster may take to say which address a new pod has.
const TOLD: Duration = Duration::from_secs(3);

/// Whose requests a connection's are, as far as permissions and names go: see [`Session`](crate::proxy::exchange::session::Session).
pub(super) type KnownAs = (IpAddr, ClientPod);

/// The pod from whose network namespace the requests of `client` go on, which has come to `listener` on the node; `None` if they
/// go on from the node.
///
/// # Errors
///
/// The answer for the client: it is not on this node, or its pod cannot be determined. A client never uses the network of
/// another pod.
pub(super) async fn source(
    worker: &Worker,
    pods: &PodClients,
    listener: &Listener,
    stream: &TcpStream,
    client: SocketAddr,
) -> Result<Option<Found>, Fault> {
    // Nobody else completes a handshake from an address that is local here.
    if client.ip().to_canonical().is_loopback() || worker.dialer.is_local(client.ip()) {
        pods.clients[Whose::Node as usize].inc();
        return Ok(None);
    }
    let own = stream.local_addr().map_err(|cause| Fault::new(Kind::ClientUnknown, cause.to_string()))?;
    let known = worker.router.routing.clients.pods.load_full();
    let owner = known.pod(client.ip()).map(|(_, pod)| &*pod.cgroup_uid);
    let serves_others =
        worker.router.snapshot_at(listener).is_some_and(|it| matches!(it.config.clients, Served::Any));
    // A client of another node is served all the same: there is nothing to wait for.
    match pods.pod(client, own, owner, !serves_others || owner.is_some()).await {
        Ok(pod) => Ok(Some(pod)),
        Err(_) if serves_others => Ok(None),
        Err(why) => Err(why),
    }
}

/// The pod at whose loopback address `client` has come to `listener`, and an address of it; `None` if the connection is not the
/// pod's, or the listener does not serve the pod. That is counted.
pub(super) async fn check(
    worker: &Worker,
    pods: &PodClients,
    listener: &Listener,
    pod: &Arc<PodNetns>,
    stream: &TcpStream,
    client: SocketAddr,
) -> Option<(Found, SocketAddr, KnownAs)> {
    let own = stream.local_addr().ok()?;
    let found = match pods.is_of(pod, client, own).await {
        Ok(found) => found,
        Err(why) => {
            tracing::debug!(netns = pod.cookie(), %why, "a connection at a pod's loopback address is not the pod's");
            listener.count_closed(CloseReason::NotItsPod);
            return None;
        }
    };
    // The socket's peer is an address of the loopback interface, the same one for all pods.
    let own = pod.own(client.is_ipv6()).or_else(|| pod.own(client.is_ipv4()));
    let said = address(worker, &found, client.is_ipv6()).await;
    let (shown, is_permitted) = match said {
        Said::Address(said) => (said, listener.permits(said)),
        // Without a source that lists pods, the pod's own address is all there is. It permits the connection and nothing more.
        Said::Nothing => own.map_or((nobody(client), false), |own| (own, listener.permits(own))),
        Said::NotYet => (own.unwrap_or(nobody(client)), listener.permits(nobody(client))),
    };
    if !is_permitted {
        listener.count_closed(CloseReason::NotAllowed);
        return None;
    }
    let permitted_as = if let Said::Address(said) = said { said } else { nobody(client) };
    let known_as = (permitted_as, ClientPod::of_cgroup(found.uid.as_ref(), pod.cookie()));
    Some((found, SocketAddr::new(shown, client.port()), known_as))
}

/// How the pod that connected to the node from `client` is identified; `None` if `listener` does not serve it, which is counted.
pub(super) async fn known_as(
    worker: &Worker,
    listener: &Listener,
    found: &Found,
    client: SocketAddr,
) -> Option<KnownAs> {
    let by_cgroup = || ClientPod::of_cgroup(found.uid.as_ref(), found.netns.cookie());
    let known_as = match address(worker, found, client.ip().to_canonical().is_ipv6()).await {
        Said::Address(said) => (said, by_cgroup()),
        Said::NotYet => (nobody(client), by_cgroup()),
        // Its address is all there is, as with weir's sockets on the node.
        Said::Nothing => (client.ip(), ClientPod::at(client.ip())),
    };
    if !listener.permits(known_as.0) {
        listener.count_closed(CloseReason::NotAllowed);
        return None;
    }
    Some(known_as)
}

/// What the cluster says of the pod's address, soon: it may be new.
async fn address(worker: &Worker, found: &Found, v6: bool) -> Said {
    let routing = &worker.router.routing;
    let (until, mut moved) = (Instant::now() + TOLD, routing.moved.subscribe());
    loop {
        let said = routing.clients.pods.load().address(found.uid.as_deref(), v6);
        if said != Said::NotYet || timeout_at(until.into(), moved.changed()).await.is_err() {
            return said;
        }
    }
}

/// An address that only rules for all addresses include.
fn nobody(client: SocketAddr) -> IpAddr {
    match client.ip().to_canonical() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Charges the connection to the pod that the kernel says it is of, and not to the one that has its address.
pub(super) fn charge(worker: &Worker, permit: &ConnectionPermit, client: SocketAddr, found: &Found) {
    let holder = worker.shared.holders.of_cgroup(found.uid.as_deref(), client.ip(), &found.netns);
    permit.charge_to(&holder);
}

/// Ends the connection that does `activity` when the pod ends, as long as the handle is there.
pub(super) fn end_with(pod: Arc<PodNetns>, activity: Activity) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::task::spawn_local(async move {
        pod.ended().await;
        activity.displace();
    }))
}
