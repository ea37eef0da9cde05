//! Connections of other weirs to a pod of this node (`identity.wire`): TLS ends here, and the application gets a connection from
//! its pod's own address, behind which it sees the caller.
//!
//! They are told by their source port, which others may have as well (a client behind a router that rewrites addresses, say):
//! what is no TLS of a weir's goes to the application as it is, and what is none of its client's bytes is not changed.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::Accepted;

use super::connection::prepare;
use super::wire_look::{Heard, Look};
use crate::config::Limits;
use crate::domain::tunnel::Side;
use crate::identity::{Admitted, Failure, HandshakeLimit, id_of, tls};
use crate::intercept::{Caller, WIRE_PORTS};
use crate::proxy::exchange::session::{Onward, Origin, Session};
use crate::proxy::listener::{CloseReason, ConnectionPermit, Listener};
use crate::proxy::upstream::{Plain, WireStats};
use crate::proxy::worker::Worker;
use crate::transport::{ConnectError, Io, Lender, PodNetns, copy};

/// How long a handshake waits for its turn, and how often it asks for it.
const TURN: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(20);

/// How long the first message is waited for of a source that has spoken TLS lately: a packet may get lost, or its node be busy.
const LATE: Duration = Duration::from_secs(2);

/// One such connection.
struct Incoming<'a> {
    worker: &'a Worker,
    session: &'a Session,
    pod: &'a Arc<PodNetns>,
    limits: &'a Limits,
    /// The endpoint's address, to which the client has connected.
    at: SocketAddr,
}

/// Both sides of it; the application sees the caller while the last one lives.
type Open = (Io, Io, Caller);

/// Serves a connection that was steered to weir in a pod, at most until the pod ends.
pub(super) async fn serve(
    worker: Rc<Worker>,
    listener: Arc<Listener>,
    permit: ConnectionPermit,
    stream: TcpStream,
    client: SocketAddr,
    pod: Arc<PodNetns>,
) {
    permit.activity().is_on(&stream);
    let local = stream.local_addr().map(canonical);
    let (Ok(()), Ok(at)) = (prepare(&worker, &stream), local) else { return }; // The client is gone.
    if at.ip().is_loopback() {
        // No other weir's: a process of the pod has dialled weir's listener itself, where weir would only find itself.
        let _ = stream.set_zero_linger();
        return listener.count_closed(CloseReason::Loop);
    }
    let limits = worker.router.snapshot().config.limits.clone();
    let onward = Onward { netns: Some(pod.clone()), ..Onward::default() };
    let session = Session::new(listener, permit, canonical(client), Origin::Diverted(at), 0, onward);
    let incoming = Incoming { worker: &worker, session: &session, pod: &pod, limits: &limits, at };
    let carried = async {
        let Some(Some(open)) = session.unless_shed(incoming.open(Io::new(stream))).await else { return };
        session.carrying(&worker.shared.memory, incoming.carry(open)).await.unwrap_or_default();
    };
    tokio::select! {
        biased;
        () = pod.ended() => {}
        () = carried => {}
    }
}

/// Of IPv4 where it is mapped; otherwise it keeps its scope.
fn canonical(at: SocketAddr) -> SocketAddr {
    match at.ip().to_canonical() {
        ip if ip == at.ip() => at,
        ip => SocketAddr::new(ip, at.port()),
    }
}

/// Shakes hands with `client`, whose first message was `accepted`.
async fn shake(mut client: Io, accepted: Accepted, config: Arc<ServerConfig>) -> io::Result<Io> {
    match accepted.into_connection(config) {
        Ok(session) => client.secured(session).await,
        Err((error, mut alert)) => {
            let mut said = Vec::new();
            alert.write_all(&mut said)?;
            client.write_all(&said).await?;
            Err(io::Error::new(io::ErrorKind::InvalidData, error))
        }
    }
}

impl Incoming<'_> {
    fn stats(&self) -> &WireStats {
        &self.worker.dialer.connecting.wire
    }

    /// Finds out what the client is, and connects to the application. `None` if there is nothing to carry.
    async fn open(&self, mut client: Io) -> Option<Open> {
        let mut look = Look::new();
        match look.hear(&mut client, self.silence(), self.limits.header_read).await {
            Heard::Weir(accepted) => self.secured(client, *accepted, None).await,
            Heard::Other(why) => self.plain(client, look, why).await,
            Heard::Silence => self.silent(client, look).await,
            Heard::Gone => None,
        }
    }

    /// How long the client may be silent before the application is connected to, which may speak first.
    fn silence(&self) -> Duration {
        let links = self.worker.dialer.connecting.identities.links();
        let is_known = links.is_some_and(|it| it.limit().knows(self.session.client.ip(), Instant::now()));
        match is_known {
            true => self.limits.sniff.max(LATE),
            false => self.limits.sniff,
        }
    }

    /// The client has been silent, so that the application may have to speak first: whoever does decides. A weir whose first
    /// packet was lost is one of those.
    async fn silent(&self, mut client: Io, mut look: Look) -> Option<Open> {
        let (mut application, caller) = self.application_or_reset(&mut client).await?;
        let mut said = bytes::BytesMut::new();
        let spoke = tokio::select! {
            spoke = client.readable() => spoke.map(|()| Side::Client),
            spoke = application.read_buf(&mut said) => spoke.map(|_| Side::Server),
            () = tokio::time::sleep(self.limits.tunnel_idle) => return None,
        };
        application.unread(said.freeze());
        let heard = match spoke {
            Ok(Side::Client) => {
                look.hear(&mut client, self.limits.header_read, self.limits.header_read).await
            }
            Ok(Side::Server) | Err(_) => Heard::Other(Plain::Silent),
        };
        match heard {
            Heard::Weir(accepted) => self.secured(client, *accepted, Some((application, caller))).await,
            Heard::Other(why) => Some(self.passed(client, look, why, (application, caller))),
            Heard::Silence => Some(self.passed(client, look, Plain::Silent, (application, caller))),
            Heard::Gone => None,
        }
    }

    /// The connection goes on as it is.
    async fn plain(&self, mut client: Io, look: Look, why: Plain) -> Option<Open> {
        let application = self.application_or_reset(&mut client).await?;
        Some(self.passed(client, look, why, application))
    }

    fn passed(&self, mut client: Io, look: Look, why: Plain, (application, caller): (Io, Caller)) -> Open {
        self.stats().incoming_plain[why as usize].inc();
        client.unread(look.into_seen());
        (client, application, caller)
    }

    /// Shakes hands, and says whether there is an application.
    async fn secured(
        &self,
        client: Io,
        accepted: Accepted,
        application: Option<(Io, Caller)>,
    ) -> Option<Open> {
        let mut client = self.shaken(client, accepted).await?;
        let application = match application {
            Some(application) => Ok(application),
            None => self.application().await,
        };
        match application {
            Ok((application, caller)) => {
                client.write_all(&[tls::CONNECTED]).await.ok()?;
                self.stats().incoming.inc();
                Some((client, application, caller))
            }
            Err(why) => {
                self.stats().unanswered.inc();
                tracing::debug!(at = %self.at, ?why, "no connection to the application of another weir's caller");
                // It is told, and reads the end behind it.
                client.write_all(&[tls::REFUSED]).await.ok()?;
                client.shutdown().await.ok()?;
                None
            }
        }
    }

    /// The client, once it has proven who it is.
    async fn shaken(&self, mut client: Io, accepted: Accepted) -> Option<Io> {
        let links = self.worker.dialer.connecting.identities.links();
        let config = links.as_ref().zip(self.pod.account()).and_then(|(links, own)| links.server(&own));
        let (Some(links), Some(config)) = (links, config) else {
            client.reset_on_close();
            self.failed(Failure::NoIdentity, "the pod has no certificate");
            return None;
        };
        let Some(admitted) = self.admitted(links.limit()).await else {
            client.reset_on_close();
            self.failed(
                Failure::Limited,
                "too many TLS handshakes with the pod, or of this source, have failed",
            );
            return None;
        };
        let shaken = timeout(self.limits.header_read, shake(client, accepted, config)).await;
        match shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(client) => {
                admitted.is_proven(Instant::now());
                let id = client.peer_certificates().and_then(id_of);
                self.stats().callers.count(id.map(|id| id.to_string()).as_deref().unwrap_or_default());
                Some(client)
            }
            Err(cause) => {
                self.failed(Failure::of(&cause), &cause.to_string());
                None
            }
        }
    }

    /// Waits a little for a handshake's turn.
    async fn admitted<'l>(&self, limit: &'l HandshakeLimit) -> Option<Admitted<'l>> {
        let until = Instant::now() + TURN;
        loop {
            let now = Instant::now();
            let admitted = limit.admits(self.session.client.ip(), self.pod.cookie(), now);
            if admitted.is_some() || now >= until {
                return admitted;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn failed(&self, why: Failure, cause: &str) {
        let (stats, client, at) = (self.stats(), self.session.client, self.at);
        stats.incoming_failed[why as usize].inc();
        match stats.incoming_said.is_news(why, Instant::now()) {
            true => tracing::warn!(%client, %at, why = why.label(), cause, "no TLS with another weir"),
            false => tracing::debug!(%client, %at, why = why.label(), cause, "no TLS with another weir"),
        }
    }

    async fn application_or_reset(&self, client: &mut Io) -> Option<(Io, Caller)> {
        let application = self.application().await;
        if application.is_err() {
            // As it would be refused without weir.
            client.reset_on_close();
            self.session.listener.count_closed(CloseReason::Refused);
        }
        application.ok()
    }

    /// A connection to the application, from the pod's own address to the same one; the application sees the client as its peer.
    async fn application(&self) -> Result<(Io, Caller), ConnectError> {
        let none = || ConnectError::Local(io::Error::other("weir has no table of callers"));
        let callers =
            self.worker.shared.pods.as_ref().and_then(|pods| pods.callers.as_ref()).ok_or_else(none)?;
        let connector = self.worker.dialer.connecting.connector();
        let from = (self.at.ip(), WIRE_PORTS..=u16::MAX);
        let (v4, client) = (self.at.is_ipv4(), self.session.client);
        let tell = |port| callers.tell(self.pod.cookie(), port, v4, client);
        // Boxed: it would make every connection's task larger.
        let connecting =
            Box::pin(connector.connect_from_port(self.at, self.limits.connect, self.pod.clone(), from, tell));
        let (stream, caller) = connecting.await?;
        Ok((Io::new(stream), caller))
    }

    /// Copies between the two until both ends are closed.
    async fn carry(&self, (client, mut application, _caller): Open) {
        let tunnels = &self.worker.shared.tunnels;
        self.session.listener.requests.inc();
        self.session.activity.carries_bytes(Instant::now());
        let mut client = client.telling(self.session.activity.clone());
        let lender = Lender {
            pipes: &tunnels.pipes,
            holder: self.session.holder().id.number(),
            most: self.limits.pipes,
        };
        let (buffer, idle) = (self.limits.copy_buffer, self.limits.tunnel_idle);
        let copied = copy(&mut client, &mut application, buffer, lender, idle, || {}).await;
        tunnels.up.add(copied.up);
        tunnels.down.add(copied.down);
        let (at, caller) = (self.at, self.session.client);
        tracing::debug!(%at, %caller, ?copied, "a connection of another weir's ended");
    }
}
