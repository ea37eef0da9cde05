//! Whose network an explicit client uses: the node's, or its own pod's.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::config::Served;
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::listener::{CloseReason, Listener};
use crate::proxy::pod_clients::{PodClients, Whose};
use crate::proxy::worker::Worker;
use crate::transport::{Activity, PodNetns};

/// The pod from whose network namespace the requests of `client` go on, which has come to `listener` on the node; `None` if they
/// go on from the node.
///
/// # Errors
///
/// What the client is answered instead: it is none of this node, or it cannot be told whose it is. Nobody is lent another's
/// network.
pub(super) async fn source(
    worker: &Worker,
    pods: &PodClients,
    listener: &Listener,
    stream: &TcpStream,
    client: SocketAddr,
) -> Result<Option<Arc<PodNetns>>, Fault> {
    // Nobody else completes a handshake from an address that is local here.
    if client.ip().to_canonical().is_loopback() || worker.dialer.is_local(client.ip()) {
        pods.clients[Whose::Node as usize].inc();
        return Ok(None);
    }
    let own = stream.local_addr().map_err(|cause| Fault::new(Kind::ClientUnknown, cause.to_string()))?;
    let known = worker.router.routing.clients.pods.load_full();
    let owner = known.pod(client.ip()).map(|(_, pod)| &*pod.cgroup_uid);
    match pods.pod(client, own, owner).await {
        Ok(pod) => Ok(Some(pod)),
        Err(why) => match worker.router.snapshot_at(listener).map(|it| it.config.clients) {
            Some(Served::Any) => Ok(None),
            Some(Served::Node) | None => Err(why),
        },
    }
}

/// The address of the pod at whose loopback address `client` has come to `listener`; `None` if the connection is not the pod's, or
/// the listener does not serve the pod. That is counted.
pub(super) async fn check(
    pods: &PodClients,
    listener: &Listener,
    pod: &Arc<PodNetns>,
    stream: &TcpStream,
    client: SocketAddr,
) -> Option<SocketAddr> {
    let own = stream.local_addr().ok()?;
    if let Err(why) = pods.is_of(pod, client, own).await {
        tracing::debug!(netns = pod.cookie(), %why, "a connection at a pod's loopback address is not the pod's");
        listener.count_closed(CloseReason::NotItsPod);
        return None;
    }
    // The socket's peer is an address of the loopback interface, the same one for all pods.
    let address = pod.own(client.is_ipv6()).or_else(|| pod.own(client.is_ipv4()));
    match address.filter(|address| listener.permits(*address)) {
        Some(address) => Some(SocketAddr::new(address, client.port())),
        None => {
            listener.count_closed(CloseReason::NotAllowed);
            None
        }
    }
}

/// Ends the connection that does `activity` when the pod ends, as long as the handle is there.
pub(super) fn end_with(pod: Arc<PodNetns>, activity: Activity) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::task::spawn_local(async move {
        pod.ended().await;
        activity.displace();
    }))
}
