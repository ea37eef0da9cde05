//! Connections to pods of other nodes, encrypted: mutual TLS from the client's pod to the endpoint's own address and port, where
//! the weir of its node takes it (`downstream/wire.rs`).
//!
//! A failed handshake is never tried again in plain: the address is known to take TLS.

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection};

use super::cluster::Cluster;
use super::wire_stats::Plain;
use super::{Connecting, Dial, NotConnected};
use crate::domain::identity::ServiceAccount;
use crate::domain::ssrf::Exempt;
use crate::identity::{Failure, tls};
use crate::intercept::WIRE_PORTS;
use crate::transport::{ConnectError, Connector, Io, Peer, PodNetns};

/// The source ports of such connections.
pub(in crate::proxy) const PORTS: RangeInclusive<u16> = WIRE_PORTS..=u16::MAX;

/// How one connection is encrypted.
pub(super) struct Secured {
    config: Arc<ClientConfig>,
    pod: Arc<PodNetns>,
    /// As whom, and with whom.
    accounts: (Arc<ServiceAccount>, ServiceAccount),
}

impl Connecting {
    /// How the connection from the pod to `endpoint` of the cluster is encrypted; `None` if it is not. Counts why.
    ///
    /// # Errors
    ///
    /// Why it cannot be encrypted, where it has to be.
    pub(super) fn secures(
        &self,
        from: Option<&Arc<PodNetns>>,
        endpoint: SocketAddr,
        cluster: &Cluster,
    ) -> Result<Option<Secured>, NotConnected> {
        let Some((pod, links)) = from.zip(self.identities.links()) else { return Ok(None) };
        let why = match (links.peer(endpoint.ip()), pod.account()) {
            (None, _) => Plain::UnknownPeer,
            (Some(_), None) => Plain::NoIdentity,
            (Some(peer), Some(own)) => match links.client(&own, peer) {
                Some(config) => {
                    let accounts = (own, peer.clone());
                    return Ok(Some(Secured { config, pod: pod.clone(), accounts }));
                }
                None => Plain::NoIdentity,
            },
        };
        // What is outside the cluster takes none.
        if cluster.exempt == Exempt::No || links.may_be_plain(endpoint.ip()) {
            self.wire.outgoing_plain[why as usize].inc();
            return Ok(None);
        }
        self.wire.outgoing_refused[why as usize].inc();
        Err(NotConnected::plain(endpoint, why))
    }

    /// Whether an address of the cluster takes TLS: then not several are tried side by side.
    pub(super) fn has_peer(&self, cluster: &Cluster) -> bool {
        let Some(links) = self.identities.links() else { return false };
        cluster.members().active().iter().any(|it| links.peer(it.backend.address.ip()).is_some())
    }

    /// Whether the address takes TLS.
    pub(super) fn is_peer(&self, address: IpAddr) -> bool {
        self.identities.links().is_some_and(|links| links.peer(address).is_some())
    }

    /// Connects to `endpoint` and encrypts the connection, within the limit of `dial`.
    pub(super) async fn secure(
        &self,
        secured: Secured,
        dial: &Dial<'_>,
        endpoint: SocketAddr,
        peer: Peer,
    ) -> Result<Io, ConnectError> {
        let begun = Instant::now();
        let any = match endpoint.is_ipv4() {
            true => IpAddr::from([0; 4]),
            false => IpAddr::from([0; 16]),
        };
        let connector = Connector { hop_limit: dial.hop_limit, ..self.connector() };
        // Before it connects: the other side does not wait long for the first message.
        let name = ServerName::IpAddress(endpoint.ip().into());
        let session = ClientConnection::new(secured.config.clone(), name)
            .map_err(|cause| ConnectError::Local(io::Error::other(cause)))?;
        let connecting =
            connector.connect_from_port(endpoint, dial.limit, secured.pod.clone(), (any, PORTS), |_| Ok(()));
        let (stream, ()) = connecting.await?;
        let io = Io::new(stream);
        let left: Duration = dial.limit.saturating_sub(begun.elapsed());
        let shaken = tokio::select! {
            biased;
            () = secured.pod.ended() => return Err(ConnectError::Local(io::Error::other("the client's pod has ended"))),
            shaken = timeout(left, shake(io, session)) => shaken,
        };
        let shaken = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match shaken {
            Ok(Some(io)) => {
                let (own, other) = &secured.accounts;
                self.wire.outgoing.inc();
                self.wire.endpoints.count(&format!("{own} to {other}"));
                Ok(io.onward_to(peer))
            }
            Ok(None) => {
                let why = "the pod's weir says that the application does not accept connections";
                Err(ConnectError::Failed(io::Error::new(io::ErrorKind::ConnectionRefused, why)))
            }
            Err(cause) => Err(self.no_tls(&secured.accounts, endpoint, &cause)),
        }
    }

    /// A handshake with `endpoint` failed.
    fn no_tls(
        &self,
        (own, other): &(Arc<ServiceAccount>, ServiceAccount),
        endpoint: SocketAddr,
        cause: &io::Error,
    ) -> ConnectError {
        let why = Failure::of(cause);
        self.wire.outgoing_failed[why as usize].inc();
        let said = format!("no TLS with this pod, which identity.wire.peers says to be {other}: {cause}");
        match self.wire.outgoing_said.is_news(why, Instant::now()) {
            true => tracing::warn!(%endpoint, %own, why = why.label(), "{said}"),
            false => tracing::debug!(%endpoint, %own, why = why.label(), "{said}"),
        }
        ConnectError::Failed(io::Error::new(cause.kind(), said))
    }
}

/// Shakes hands, and waits until the other side has a connection to its application; `None` if it gets none.
async fn shake(io: Io, session: ClientConnection) -> io::Result<Option<Io>> {
    let mut io = io.secured(session).await?;
    if io.application_protocol() != Some(tls::PROTOCOL) {
        // Its certificate is right: the application itself, maybe, which has been given the pod's.
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the peer is no weir: it speaks TLS of another protocol",
        ));
    }
    match io.read_u8().await? {
        tls::CONNECTED => Ok(Some(io)),
        tls::REFUSED => Ok(None),
        _ => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the peer speaks another version of the protocol"))
        }
    }
}
