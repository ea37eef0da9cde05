//! The life of a connection.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time;

use super::fault::{Fault, Kind};
use super::http;
use super::session::{Door, Origin, Session, Turned, Way};
use super::tcp;
use super::worker::Worker;
use super::world::World;
use crate::domain::catalog::AppProtocol;
use crate::domain::outcome::Outcome;
use crate::domain::refuse::{Exempt, Refusal, refuse};
use crate::domain::sniff::{SNIFF_MAX, Sniffed, sniff};
use crate::transport::{Io, Pulse};

/// Lives one connection from accept to close.
pub(super) async fn live(worker: Rc<Worker>, door: Arc<Door>, stream: TcpStream, client: SocketAddr) {
    // Small answers must not wait for the client's acknowledgement.
    if stream.set_nodelay(true).is_err() {
        return; // The client is gone.
    }
    match door.way {
        Way::Outgoing => {
            let session = Session {
                door,
                client,
                origin: Origin::Explicit,
                cgroup: 0,
                pulse: Pulse::new(Instant::now()),
            };
            http::serve(worker, session, Io::new(stream)).await;
        }
        Way::Transparent => diverted(worker, door, stream, client).await,
    }
}

/// A connection that the eBPF program sent here.
async fn diverted(worker: Rc<Worker>, door: Arc<Door>, stream: TcpStream, client: SocketAddr) {
    let Some(original) = original(&worker, &stream, client) else {
        return door.turn_away(Turned::NoOriginal);
    };
    let dialled = original.dialled;
    let world = worker.world();
    if loops(&world, dialled) {
        tracing::warn!(%client, %dialled, "a diverted connection had dialled weir itself");
        return door.turn_away(Turned::Loop);
    }
    let pulse = Pulse::new(Instant::now());
    let session = Session { door, client, origin: Origin::Dialled(dialled), cgroup: original.cgroup, pulse };
    let declared = world.owner(dialled).map_or(AppProtocol::Sniff, |owner| owner.protocol);
    let mut io = Io::new(stream);
    let protocol = match declared {
        AppProtocol::Opaque | AppProtocol::Http2 => Sniffed::Opaque,
        AppProtocol::Http1 => Sniffed::Http1,
        AppProtocol::Sniff => match look(&world, &mut io).await {
            Some(sniffed) => sniffed,
            None => return, // It closed without a byte.
        },
    };
    match protocol {
        Sniffed::Http1 => http::serve(worker, session, io).await,
        Sniffed::Undecided => first_to_speak(worker, session, &world, io).await,
        Sniffed::Tls | Sniffed::Http2 | Sniffed::Opaque => opaque(&worker, &session, &world, io).await,
    }
}

fn original(worker: &Worker, stream: &TcpStream, client: SocketAddr) -> Option<crate::intercept::Original> {
    worker.shared.originals.as_ref()?.take(client, stream.local_addr().ok()?)
}

/// Whether `dialled` is one of weir's own listeners, which nothing that is diverted has any business with.
fn loops(world: &World, dialled: SocketAddr) -> bool {
    refuse(dialled, world.grounds(), Exempt::Written) == Some(Refusal::OwnListener)
}

/// Reads until the protocol shows, or the client has been silent for `limits.sniff`. `None` when it closed without
/// a byte. What was read is put back.
async fn look(world: &World, io: &mut Io) -> Option<Sniffed> {
    let mut seen = BytesMut::with_capacity(1024);
    let deadline = Instant::now() + world.terms.limits.sniff;
    let sniffed = loop {
        match time::timeout_at(deadline.into(), io.read_buf(&mut seen)).await {
            Err(_) => break Sniffed::Undecided,
            Ok(Err(_)) => return None,
            Ok(Ok(0)) if seen.is_empty() => return None,
            Ok(Ok(0)) => break Sniffed::Opaque,
            Ok(Ok(_)) => {}
        }
        match sniff(&seen) {
            Sniffed::Undecided if seen.len() < SNIFF_MAX => {}
            Sniffed::Undecided => break Sniffed::Opaque,
            decided => break decided,
        }
    };
    io.put_back(seen.freeze());
    Some(sniffed)
}

/// The client has been silent: perhaps the server speaks first. Connects to it, and whoever speaks decides: the
/// server, and the connection is opaque; the client, and its bytes say what it is.
async fn first_to_speak(worker: Rc<Worker>, session: Session, world: &World, mut client: Io) {
    let Origin::Dialled(dialled) = session.origin else { return };
    let cluster = worker.cluster_of(world, dialled);
    let (lease, mut server) = match http::open_tunnel(&worker, world, &cluster).await {
        Ok(open) => open,
        Err(fault) => return refused(&worker, &session, &client, &fault),
    };
    let (mut seen, mut said) = (BytesMut::new(), BytesMut::new());
    let sniffed = loop {
        tokio::select! {
            read = client.read_buf(&mut seen) => match read.map(|n| (n, sniff(&seen))) {
                Ok((1.., Sniffed::Undecided)) if seen.len() < SNIFF_MAX => {}
                Ok((1.., decided)) => break decided,
                Ok((0, _)) | Err(_) => break Sniffed::Opaque,
            },
            _ = server.read_buf(&mut said) => break Sniffed::Opaque,
            () = time::sleep(world.terms.limits.tunnel_idle) => return,
        }
    };
    client.put_back(seen.freeze());
    server.put_back(said.freeze());
    if sniffed == Sniffed::Http1 {
        lease.finish(Instant::now(), Outcome::Carried);
        return http::serve(worker, session, client).await;
    }
    session.door.requests.up();
    tcp::carry(&worker.shared, &world.terms.limits, lease, client, server).await;
}

/// A connection whose bytes are none of weir's business.
async fn opaque(worker: &Worker, session: &Session, world: &World, client: Io) {
    let Origin::Dialled(dialled) = session.origin else { return };
    session.door.requests.up();
    let cluster = worker.cluster_of(world, dialled);
    match http::open_tunnel(worker, world, &cluster).await {
        Ok((lease, server)) => tcp::carry(&worker.shared, &world.terms.limits, lease, client, server).await,
        Err(fault) => refused(worker, session, &client, &fault),
    }
}

/// There is no connection to give: the client's is reset, which is what it would have met without weir.
fn refused(worker: &Worker, session: &Session, client: &Io, fault: &Fault) {
    tracing::debug!(client = %session.client, %fault, "diverted connection not carried");
    worker.shared.faults[fault.kind.slot()].up();
    if matches!(fault.kind, Kind::Refused(_)) {
        session.door.turn_away(Turned::Refused);
    }
    client.reset_on_close();
}
