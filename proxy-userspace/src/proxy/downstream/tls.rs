//! A client of the explicit proxy that begins with TLS, without a CONNECT before it.
//!
//! Nearly always that is a mistake: an `https_proxy` that says `https://`, or a DNS name that points to weir. So it is
//! closed by default, with an alert that every TLS library reports. With `outgoing.tls: sni` the host in the
//! ClientHello is reached as by CONNECT: for applications that cannot use a proxy. It chooses among names, as a Host
//! does, and proves nothing.
//!
//! Not here: diverted TLS, whose destination is what was dialled, whatever it names.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tracing::Level;

use super::client_hello::{self, ClientHello};
use crate::config::{Limits, TlsClients};
use crate::domain::sniff::SNIFF_MAX;
use crate::proxy::exchange::session::Session;
use crate::proxy::exchange::{Exchange, tunnel};
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::listener::CloseReason;
use crate::proxy::worker::Worker;
use crate::transport::Io;

/// The port that a client of TLS means.
const HTTPS: u16 = 443;

/// How long the client of a refused connection has to read the alert.
const LINGER: Duration = Duration::from_secs(1);

/// Descriptions of fatal alerts (RFC 8446 §6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alert {
    AccessDenied = 49,
    DecodeError = 50,
    InternalError = 80,
    UnrecognizedName = 112,
}

/// Serves a connection that begins with TLS.
pub(super) async fn serve(worker: Rc<Worker>, session: Rc<Session>, mut io: Io) {
    let mut exchange = Exchange::begin(&worker, session.clone(), None);
    let Some(limits) = carries(&exchange) else {
        let why = session.refused.as_ref().map(|why| why.detail.as_ref());
        let why = why.unwrap_or("TLS without a CONNECT before it is not carried here (outgoing.tls)");
        return refuse(&session, io, Alert::AccessDenied, why).await;
    };
    let name = match timeout(limits.header_read, client_hello(&mut io)).await {
        Ok(Ok(ClientHello::Named(name))) => name,
        Ok(Ok(ClientHello::Unnamed)) => {
            return refuse(&session, io, Alert::UnrecognizedName, "its ClientHello names no host").await;
        }
        Ok(Ok(ClientHello::Invalid(why))) => return refuse(&session, io, Alert::DecodeError, &why).await,
        Ok(Ok(ClientHello::Partial) | Err(_)) => return, // The client is gone.
        Err(_) => return session.listener.count_closed(CloseReason::BadHead),
    };
    session.listener.requests.inc();
    let authority = format!("{name}:{HTTPS}");
    let opened = tokio::select! {
        biased;
        opened = tunnel::open(&worker, &mut exchange, &authority, None) => opened,
        () = io.reset() => return,
    };
    exchange.clock.answered(Instant::now());
    match opened {
        Ok((lease, server)) => {
            // The tunnel may last for days, and must not keep this snapshot alive that long.
            drop(exchange);
            session.activity.is_from(server.peer());
            session.activity.carries_bytes(Instant::now());
            let io = io.telling(session.activity.clone());
            let forwarded = session.forward(&worker.shared.tunnels, &limits, lease, io, server);
            session.carrying(&worker.shared.memory, forwarded).await.unwrap_or_default();
        }
        Err(fault) => {
            worker.shared.count(&fault);
            exchange.record.fault(&fault);
            tell(io, alert_for(&fault)).await;
        }
    }
}

/// The limits of a connection that begins with TLS, where its router carries such.
fn carries(exchange: &Exchange) -> Option<Limits> {
    let config = &exchange.snapshot.config;
    (config.tunnels.tls == TlsClients::Sni && !exchange.is_orphaned()).then(|| config.limits.clone())
}

/// Reads the whole ClientHello, and unreads it.
async fn client_hello(io: &mut Io) -> io::Result<ClientHello> {
    let (mut seen, mut reader) = (BytesMut::with_capacity(2048), client_hello::Reader::default());
    let hello = loop {
        let n = io.read_buf(&mut seen).await?;
        match reader.read(&seen[seen.len() - n..]) {
            ClientHello::Partial if n > 0 => {}
            hello => break hello,
        }
    };
    io.unread(seen.freeze());
    Ok(hello)
}

/// Closes a connection that is not carried.
async fn refuse(session: &Session, io: Io, alert: Alert, why: &str) {
    tracing::debug!(client = %session.client, why, "a client that speaks TLS was closed");
    session.listener.count_closed(CloseReason::Tls);
    tell(io, alert).await;
}

/// Sends an alert and closes. What the client has sent is read, or its kernel would discard the alert with a reset.
async fn tell(mut io: Io, alert: Alert) {
    let told = async {
        let record = [0x15, 3, 3, 0, 2, 2, alert as u8];
        io.write_all(&record).await?;
        io.shutdown().await?;
        let mut unread = [0; 1024];
        let mut read = 0;
        while read < SNIFF_MAX {
            match io.read(&mut unread).await? {
                0 => break,
                n => read += n,
            }
        }
        io::Result::Ok(())
    };
    let _ = timeout(LINGER, told).await;
}

fn alert_for(fault: &Fault) -> Alert {
    match fault.kind {
        Kind::Refused(_) | Kind::ConnectPort => Alert::AccessDenied,
        Kind::Unbound | Kind::BadHost(_) => Alert::UnrecognizedName,
        _ => Alert::InternalError,
    }
}

/// Logs the host that the ClientHello of a diverted connection asks for, where the bytes read so far say it.
pub(super) fn log_name(session: &Session, dialled: SocketAddr, seen: &[u8]) {
    if !tracing::enabled!(Level::DEBUG) {
        return;
    }
    if let ClientHello::Named(sni) = client_hello::Reader::default().read(seen) {
        tracing::debug!(client = %session.client, %dialled, sni, "TLS is carried");
    }
}
