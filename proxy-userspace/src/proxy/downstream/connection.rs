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

use super::first_head::FirstHead;
use super::h1;
use crate::config::Limits;
use crate::domain::catalog::AppProtocol;
use crate::domain::hops;
use crate::domain::outcome::Outcome;
use crate::domain::refuse::{Exempt, Refusal, refuse};
use crate::domain::sniff::{SNIFF_MAX, Sniffed, sniff};
use crate::domain::tunnel::Side;
use crate::intercept::{Original, Unknown};
use crate::proxy::exchange::session::{Origin, Session};
use crate::proxy::fault::Kind;
use crate::proxy::listener::{Door, Entry, Turned, Way};
use crate::proxy::routing::snapshot::World;
use crate::proxy::tcp;
use crate::proxy::upstream::cluster::Lease;
use crate::proxy::upstream::dial;
use crate::proxy::worker::Worker;
use crate::transport::{Io, Phase, ask_when_silent, hop_limit};

/// Lives one connection from accept to close. Its session gives back its `entry` with that.
pub(in crate::proxy) async fn live(
    worker: Rc<Worker>,
    door: Arc<Door>,
    entry: Entry,
    stream: TcpStream,
    client: SocketAddr,
) {
    if prepare(&worker, &stream).is_err() {
        return; // The client is gone.
    }
    match door.way {
        Way::Outgoing => {
            let mut session = Session::new(door, entry, client, Origin::Explicit);
            session.passed = hop_limit(&SockRef::from(&stream), client.is_ipv6()).map_or(0, hops::passed);
            h1::serve(worker, session, Io::new(stream)).await;
        }
        Way::Transparent => diverted(worker, door, entry, stream, client).await,
        Way::Admin | Way::Probes => {} // The control plane accepts those itself.
    }
}

/// Small answers must not wait for the client's acknowledgement, and a client that is gone must not be waited for.
fn prepare(worker: &Worker, stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let connector = worker.shared.connector();
    ask_when_silent(&SockRef::from(stream), connector.unacknowledged, connector.keep_alive)
}

/// A connection that the eBPF program sent here.
async fn diverted(worker: Rc<Worker>, door: Arc<Door>, entry: Entry, stream: TcpStream, client: SocketAddr) {
    let original = match original(&worker, &stream, client) {
        Ok(original) => original,
        Err(why) => return door.turn_away(why),
    };
    let dialled = original.dialled;
    let world = worker.world();
    if loops(&worker, &world, dialled) {
        worker.shared.refusals[Refusal::OwnListener.slot()].up();
        tracing::warn!(%client, %dialled, "a diverted connection had dialled weir itself");
        return door.turn_away(Turned::Loop);
    }
    let session = Session::new(door, entry, client, Origin::Dialled(dialled));
    let declared = match original.opaque {
        // The pod's own wish, whoever it dialled.
        true => AppProtocol::Opaque,
        false => world.owner(dialled).map_or(AppProtocol::Sniff, |owner| owner.protocol),
    };
    // The connection may live for days, and must not keep this world that long.
    let limits = world.terms.limits.clone();
    drop(world);
    let mut io = Io::new(stream);
    let protocol = match declared {
        AppProtocol::Opaque | AppProtocol::Direct | AppProtocol::Http2 => Sniffed::Opaque,
        AppProtocol::Http1 | AppProtocol::Sniff => match look(&limits, &session.door, &mut io).await {
            Some(Looked::Unparsed) => Sniffed::Opaque,
            Some(Looked::As(_)) if declared == AppProtocol::Http1 => Sniffed::Http1,
            Some(Looked::As(sniffed)) => sniffed,
            None => return, // It is gone.
        },
    };
    match protocol {
        Sniffed::Http1 => h1::serve(worker, session, io).await,
        // Boxed: the few that are silent at first would make every connection's task larger.
        Sniffed::Undecided => Box::pin(first_to_speak(worker, session, dialled, &limits, io)).await,
        Sniffed::Tls | Sniffed::Http2 | Sniffed::Opaque => {
            session.door.requests.up();
            if let Some((lease, server)) = open(&worker, &session, dialled, &mut io).await {
                tcp::carry(&worker.shared, &limits, lease, io, server).await;
            }
        }
    }
}

/// What is filed about a connection; or why it is turned away.
fn original(worker: &Worker, stream: &TcpStream, client: SocketAddr) -> Result<Original, Turned> {
    let originals = worker.shared.originals.as_ref().ok_or(Turned::NoOriginal)?;
    let local = stream.local_addr().map_err(|_| Turned::NoOriginal)?;
    originals.take(stream, client, local).map_err(|why| match why {
        Unknown::NotFiled => Turned::NoOriginal,
        Unknown::NoNumber => Turned::NoSyn,
        Unknown::Foreign(filer) => {
            tracing::debug!(%client, ?filer, "an entry was filed by one who does not have the client's address");
            Turned::ForeignOriginal
        }
    })
}

/// Whether `dialled` is one of weir's own listeners, which nothing that is diverted has any business with.
fn loops(worker: &Worker, world: &World, dialled: SocketAddr) -> bool {
    let is_local = |ip| worker.kernel.is_local(ip);
    refuse(dialled, world.grounds(), Exempt::Written, is_local) == Some(Refusal::OwnListener)
}

/// What a look at the first bytes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    /// They begin this.
    As(Sniffed),
    /// They are HTTP/1, with a head that hyper cannot parse.
    Unparsed,
}

/// Reads until the protocol shows, and the whole first head where that is HTTP/1, or the client has been silent for
/// `limits.sniff`. One that closes without a byte may still listen (half-close), and then its server speaks. `None` when
/// the connection is broken. What was read is put back. CONNECT is for whoever was dialled, a proxy itself, and so is what
/// follows it.
async fn look(limits: &Limits, door: &Door, io: &mut Io) -> Option<Looked> {
    let mut seen = BytesMut::with_capacity(1024);
    let deadline = Instant::now() + limits.sniff;
    let mut decided = Sniffed::Undecided;
    let looked = loop {
        match time::timeout_at(deadline.into(), io.read_buf(&mut seen)).await {
            Ok(Err(_)) => return None,
            Ok(Ok(1..)) => {}
            // hyper waits for the rest of the head, or says that there is none.
            Ok(Ok(0)) | Err(_) if decided == Sniffed::Http1 => break Looked::As(Sniffed::Http1),
            Err(_) if seen.is_empty() => break Looked::As(Sniffed::Undecided),
            // Whoever sends a piece and then waits is waiting for an answer to that piece.
            Ok(Ok(0)) | Err(_) => break Looked::As(Sniffed::Opaque),
        }
        decided = match sniff(&seen) {
            Sniffed::Undecided if seen.len() >= SNIFF_MAX => Sniffed::Opaque,
            Sniffed::Http1 if seen.starts_with(b"CONNECT ") => Sniffed::Opaque,
            sniffed => sniffed,
        };
        match decided {
            Sniffed::Undecided => {}
            Sniffed::Http1 => match FirstHead::of(&seen, limits) {
                FirstHead::Partial => {}
                FirstHead::Held => break Looked::As(decided),
                FirstHead::Unparsed => {
                    door.unparsed_heads.up();
                    break Looked::Unparsed;
                }
            },
            Sniffed::Tls | Sniffed::Http2 | Sniffed::Opaque => break Looked::As(decided),
        }
    };
    io.put_back(seen.freeze());
    Some(looked)
}

/// The client has been silent: perhaps the server speaks first. Connects to it, and whoever speaks decides: the
/// server, and the connection is opaque; the client, and its bytes say what it is.
async fn first_to_speak(
    worker: Rc<Worker>,
    session: Session,
    dialled: SocketAddr,
    limits: &Limits,
    mut client: Io,
) {
    let Some((lease, mut server)) = open(&worker, &session, dialled, &mut client).await else { return };
    let mut said = BytesMut::new();
    let spoke = tokio::select! {
        spoke = client.readable() => spoke.map(|()| Side::Client),
        spoke = server.read_buf(&mut said) => spoke.map(|_| Side::Server),
        () = time::sleep(limits.tunnel_idle) => return,
    };
    server.put_back(said.freeze());
    let sniffed = match spoke {
        Ok(Side::Client) => look(limits, &session.door, &mut client).await,
        Ok(Side::Server) | Err(_) => Some(Looked::As(Sniffed::Opaque)),
    };
    if sniffed == Some(Looked::As(Sniffed::Http1)) {
        // That it took the connection is all that is known.
        lease.finish(Instant::now(), Outcome::Abandoned);
        session.pulse.enter(Phase::Head, Instant::now());
        return h1::serve(worker, session, client).await;
    }
    session.door.requests.up();
    tcp::carry(&worker.shared, limits, lease, client, server).await;
}

/// A connection to an endpoint of what was dialled. There may be none to give: then the client's is reset, which is
/// what it would have met without weir.
async fn open(
    worker: &Worker,
    session: &Session,
    dialled: SocketAddr,
    client: &mut Io,
) -> Option<(Lease, Io)> {
    let world = worker.world();
    let cluster = worker.cluster_of(&world, session, dialled);
    let (calls, asks) = (cluster.policy().dialled, &session.client);
    let fault = match dial::open(worker, &world, &cluster, calls, asks, None).await {
        Ok(open) => return Some(open),
        Err(fault) => fault,
    };
    tracing::debug!(client = %session.client, %fault, "diverted connection not carried");
    worker.shared.faults[fault.kind.slot()].up();
    if matches!(fault.kind, Kind::Refused(_)) {
        session.door.turn_away(Turned::Refused);
    }
    client.reset_on_close();
    None
}
