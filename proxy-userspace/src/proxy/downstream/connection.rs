//! The life of a connection.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time;

use super::detect::{Detected, detect_protocol};
use super::preface::{self, Spoken};
use super::{h1, h2, tls, whose};
use crate::config::Limits;
use crate::domain::catalog::AppProtocol;
use crate::domain::hops;
use crate::domain::outcome::Outcome;
use crate::domain::sniff::Sniffed;
use crate::domain::ssrf::{Exempt, Refusal, refuse};
use crate::domain::tunnel::Side;
use crate::intercept::{Original, Unknown};
use crate::proxy::exchange::attempt::{self, Bytes};
use crate::proxy::exchange::session::{Onward, Origin, Session};
use crate::proxy::exchange::{self, Exchange};
use crate::proxy::fault::Kind;
use crate::proxy::listener::{CloseReason, ConnectionPermit, Listener, ListenerKind};
use crate::proxy::pod_clients::{Found, PodClients};
use crate::proxy::routing::snapshot::Snapshot;
use crate::proxy::upstream::cluster::Lease;
use crate::proxy::worker::Worker;
use crate::transport::{Io, Phase, PodNetns, hop_limit, set_keepalive};

/// Serves one connection that was accepted in a pod's network namespace, at most until the pod ends.
pub(super) async fn serve_in_pod(
    worker: Rc<Worker>,
    listener: Arc<Listener>,
    permit: ConnectionPermit,
    stream: TcpStream,
    client: SocketAddr,
    pod: Arc<PodNetns>,
) {
    permit.activity().is_on(&stream);
    if prepare(&worker, &stream).is_err() {
        return; // The client is gone.
    }
    let numbers = || Some(&worker.shared.pods.as_ref()?.numbers);
    let original = stream.local_addr().ok().and_then(|local| numbers()?.dialled(local));
    let Some((dialled, opaque)) = original else { return listener.count_closed(CloseReason::NoOriginal) };
    // The socket's peer is an address of the loopback interface, the same one for all pods.
    let own = pod.own(client.is_ipv6() && !dialled.is_ipv4());
    let client = own.map_or(client, |own| SocketAddr::new(own, client.port()));
    tokio::select! {
        // First: what the end of the pod has closed must not be kept for others by an answer that ends now.
        biased;
        () = pod.ended() => {}
        () = to_dialled(worker, listener, permit, stream, client, (dialled, opaque), Some(pod.clone())) => {}
    }
}

/// Serves one connection from accept to close. Its session then releases its `permit`. `pod` is where it was accepted, if that
/// was at a pod's loopback address.
pub(in crate::proxy) async fn serve(
    worker: Rc<Worker>,
    listener: Arc<Listener>,
    permit: ConnectionPermit,
    stream: TcpStream,
    client: SocketAddr,
    pod: Option<Arc<PodNetns>>,
) {
    permit.activity().is_on(&stream);
    if prepare(&worker, &stream).is_err() {
        return; // The client is gone.
    }
    match listener.kind {
        ListenerKind::Outgoing => {
            let passed = hop_limit(&SockRef::from(&stream), client.is_ipv6()).map_or(0, hops::passed);
            let (listener, client, onward) = match &worker.shared.pods {
                None => (listener, client, Onward::default()),
                // Boxed: it would make every connection's task larger.
                Some(pods) => {
                    let ends = (&stream, client);
                    match Box::pin(explicit(&worker, pods, listener, &permit, ends, pod)).await {
                        Some(explicit) => explicit,
                        None => return,
                    }
                }
            };
            let session = Session::new(listener, permit, client, Origin::Explicit, passed, onward);
            let limit = worker.router.snapshot().config.limits.header_read;
            let Some(spoken) = session.unless_shed(preface::spoken(stream, limit)).await else { return };
            match spoken {
                Ok((Spoken::Http1 | Spoken::Undecided, io)) => h1::serve(worker, session, io).await,
                Ok((Spoken::Http2, io)) => Box::pin(h2::serve(worker, session, io)).await,
                Ok((Spoken::Tls, io)) => Box::pin(tls::serve(worker, session, io)).await,
                Err(cause) if cause.kind() == io::ErrorKind::TimedOut => {
                    session.listener.count_closed(CloseReason::BadHead);
                }
                Err(_) => {} // The client is gone.
            }
        }
        ListenerKind::Transparent => diverted(worker, listener, permit, stream, client).await,
        // The control plane accepts those itself, and those in pods are `wire`'s.
        ListenerKind::Admin | ListenerKind::Probes | ListenerKind::Incoming => {}
    }
}

/// The listener that the requests of an explicit client are counted at, its address, and from where they go on. `None` if the
/// connection is to be closed.
async fn explicit(
    worker: &Worker,
    pods: &PodClients,
    listener: Arc<Listener>,
    permit: &ConnectionPermit,
    (stream, client): (&TcpStream, SocketAddr),
    pod: Option<Arc<PodNetns>>,
) -> Option<(Arc<Listener>, SocketAddr, Onward)> {
    let found = match pod {
        None => match whose::source(worker, pods, &listener, stream, client).await {
            Ok(Some(found)) => {
                whose::charge(worker, permit, client, &found);
                let known_as = whose::known_as(worker, &listener, &found, client).await?;
                Ok(Some((found, client, known_as)))
            }
            other => other.map(|_| None),
        },
        Some(pod) => {
            // The socket keeps the pod's network namespace.
            let found = tokio::select! {
                biased;
                () = pod.ended() => None,
                found = whose::check(worker, pods, &listener, &pod, stream, client) => found,
            };
            let found = found?;
            whose::charge(worker, permit, client, &found.0);
            Ok(Some(found))
        }
    };
    match found {
        Ok(None) => Some((listener, client, Onward::default())),
        Ok(Some((Found { netns, .. }, client, known_as))) => {
            let ends_with_pod = Some(whose::end_with(netns.clone(), permit.activity().clone()));
            let onward =
                Onward { netns: Some(netns), refused: None, known_as: Some(known_as), ends_with_pod };
            Some((listener, client, onward))
        }
        Err(why) => {
            // Charged to the address and not to a pod: the address may be forged.
            permit.charge_to(&worker.shared.holders.nobody(client.ip()));
            let refused = Some(Box::new(why));
            Some((listener.without_router(), client, Onward { refused, ..Onward::default() }))
        }
    }
}

/// Small answers must not wait for the client's acknowledgement, keep-alive must detect a client that is gone, and a slow
/// one must not fill the kernel's buffers.
pub(super) fn prepare(worker: &Worker, stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (connector, socket) = (worker.dialer.connecting.connector.load(), SockRef::from(stream));
    connector.buffers.bound_unsent(&socket)?;
    set_keepalive(&socket, connector.unacknowledged, connector.keep_alive)
}

/// A connection that the eBPF program sent here.
async fn diverted(
    worker: Rc<Worker>,
    listener: Arc<Listener>,
    permit: ConnectionPermit,
    stream: TcpStream,
    client: SocketAddr,
) {
    let original = match original(&worker, &stream, client) {
        Ok(original) => original,
        Err(why) => return listener.count_closed(why),
    };
    let (dialled, opaque) = (original.dialled, original.opaque);
    to_dialled(worker, listener, permit, stream, client, (dialled, opaque), None).await;
}

/// A diverted connection that had dialled an address; its pod may want it forwarded without protocol detection.
async fn to_dialled(
    worker: Rc<Worker>,
    listener: Arc<Listener>,
    permit: ConnectionPermit,
    stream: TcpStream,
    client: SocketAddr,
    (dialled, opaque): (SocketAddr, bool),
    netns: Option<Arc<PodNetns>>,
) {
    let snapshot = worker.router.snapshot();
    if loops(&worker, &snapshot, dialled) {
        worker.dialer.connecting.refused(Refusal::OwnListener);
        if worker.shared.loops.logs(permit.holder().id, Instant::now()) {
            tracing::warn!(%client, %dialled, "a diverted connection had dialled weir itself");
        }
        return listener.count_closed(CloseReason::Loop);
    }
    let onward = Onward { netns, ..Onward::default() };
    let session = Session::new(listener, permit, client, Origin::Diverted(dialled), 0, onward);
    let declared = match opaque {
        // Set by the pod's own annotation, for every destination.
        true => AppProtocol::Opaque,
        false => snapshot.owner(dialled).map_or(AppProtocol::Sniff, |owner| owner.protocol),
    };
    // The connection may last for days, and must not keep this snapshot alive that long.
    let limits = snapshot.config.limits.clone();
    drop(snapshot);
    let mut io = Io::new(stream);
    let protocol = match declared {
        AppProtocol::Opaque | AppProtocol::Direct => Sniffed::Opaque,
        AppProtocol::Http1 | AppProtocol::Http2 | AppProtocol::Sniff => {
            let detected = detect_protocol(&limits, &session.listener, &mut io);
            match session.unless_shed(detected).await {
                Some(Some(Detected::Unparsed)) => Sniffed::Opaque,
                Some(Some(Detected::As(sniffed))) => as_declared(declared, sniffed),
                Some(None) | None => return, // It is gone, or is to go.
            }
        }
    };
    match protocol {
        Sniffed::Http1 => h1::serve(worker, session, io).await,
        Sniffed::Http2 => Box::pin(h2::serve(worker, session, io)).await,
        // Boxed: few clients are silent at first, and it would make every connection's task larger.
        Sniffed::Undecided => Box::pin(detect_server_first(worker, session, dialled, &limits, io)).await,
        Sniffed::Tls | Sniffed::Opaque => {
            if protocol == Sniffed::Tls {
                tls::log_name(&session, dialled, io.unread_bytes());
            }
            session.listener.requests.inc();
            let forwarded = async {
                if let Some((lease, server)) = open(&worker, &session, dialled, &mut io).await {
                    let io = io.telling(session.activity.clone());
                    session.forward(&worker.shared.tunnels, &limits, lease, io, server).await;
                }
            };
            session.carrying(&worker.shared.memory, forwarded).await.unwrap_or_default();
        }
    }
}

/// What is spoken on a connection to a port with this declaration, whose first bytes say `sniffed`. On a port of HTTP/1
/// what is no HTTP is a bad request; clients of HTTP/2 speak first, so that silence there is a slow client. Other bytes
/// there may be TLS, and pass.
fn as_declared(declared: AppProtocol, sniffed: Sniffed) -> Sniffed {
    match (declared, sniffed) {
        (AppProtocol::Http1, Sniffed::Http2) => Sniffed::Http2,
        (AppProtocol::Http1, _) => Sniffed::Http1,
        (AppProtocol::Http2, Sniffed::Undecided) => Sniffed::Http2,
        (_, sniffed) => sniffed,
    }
}

/// The original destination recorded for a connection, or why the connection is closed.
fn original(worker: &Worker, stream: &TcpStream, client: SocketAddr) -> Result<Original, CloseReason> {
    let original_dsts = worker.shared.original_dsts.as_ref().ok_or(CloseReason::NoOriginal)?;
    let local = stream.local_addr().map_err(|_| CloseReason::NoOriginal)?;
    original_dsts.take(stream, client, local).map_err(|why| match why {
        Unknown::NotFiled => CloseReason::NoOriginal,
        Unknown::NoNumber => CloseReason::NoSyn,
        Unknown::Foreign(filer) => {
            tracing::debug!(%client, ?filer, "an entry was filed by one who does not have the client's address");
            CloseReason::ForeignOriginal
        }
    })
}

/// Whether `dialled` is one of weir's own listeners: diverted connections must not go there.
fn loops(worker: &Worker, snapshot: &Snapshot, dialled: SocketAddr) -> bool {
    let is_local = |ip| worker.dialer.is_local(ip);
    refuse(dialled, snapshot.local(), Exempt::Written, is_local) == Some(Refusal::OwnListener)
}

/// The client has been silent, so the server may speak first. Connects to it; the first to send decides: if the server
/// does, the connection is opaque; if the client does, its bytes are sniffed.
async fn detect_server_first(
    worker: Rc<Worker>,
    session: Rc<Session>,
    dialled: SocketAddr,
    limits: &Limits,
    mut client: Io,
) {
    let opened = session.unless_shed(open(&worker, &session, dialled, &mut client)).await.flatten();
    let Some((lease, mut server)) = opened else { return };
    let mut said = BytesMut::new();
    let spoke = tokio::select! {
        () = session.activity.shedding() => return session.listener.count_closed(CloseReason::Memory),
        spoke = client.readable() => spoke.map(|()| Side::Client),
        spoke = server.read_buf(&mut said) => spoke.map(|_| Side::Server),
        () = time::sleep(limits.tunnel_idle) => return,
    };
    server.unread(said.freeze());
    let sniffed = match spoke {
        Ok(Side::Client) => detect_protocol(limits, &session.listener, &mut client).await,
        Ok(Side::Server) | Err(_) => Some(Detected::As(Sniffed::Opaque)),
    };
    if let Some(Detected::As(http @ (Sniffed::Http1 | Sniffed::Http2))) = sniffed {
        // It is only known that the endpoint accepted the connection.
        lease.finish(Instant::now(), Outcome::Abandoned);
        session.activity.enter(Phase::Head, Instant::now());
        return match http {
            Sniffed::Http2 => h2::serve(worker, session, client).await,
            _ => h1::serve(worker, session, client).await,
        };
    }
    session.listener.requests.inc();
    let client = client.telling(session.activity.clone());
    let forwarded = session.forward(&worker.shared.tunnels, limits, lease, client, server);
    session.carrying(&worker.shared.memory, forwarded).await.unwrap_or_default();
}

/// A connection to an endpoint of what was dialled. Without one the client's connection is reset, as it would be
/// without weir.
async fn open(
    worker: &Worker,
    session: &Rc<Session>,
    dialled: SocketAddr,
    client: &mut Io,
) -> Option<(Lease, Io)> {
    let mut exchange = Exchange::begin(worker, session.clone(), None);
    let destination = exchange::dialled(worker, &exchange, dialled);
    let mut bytes = Bytes { hop_limit: None };
    let delivered = tokio::select! {
        biased;
        delivered = attempt::deliver(worker, &mut exchange, &destination, &mut bytes) => delivered,
        // Boxed: it would make every connection's task larger.
        () = Box::pin(client.reset()) => return None,
    };
    exchange.clock.answered(Instant::now());
    let fault = match delivered {
        Ok(open) => {
            session.activity.is_from(open.1.peer());
            session.activity.carries_bytes(Instant::now());
            return Some(open);
        }
        Err(fault) => fault,
    };
    worker.shared.count(&fault);
    exchange.record.fault(&fault);
    if matches!(fault.kind, Kind::Refused(_)) {
        session.listener.count_closed(CloseReason::Refused);
    }
    client.reset_on_close();
    None
}
