//! Connecting to an endpoint.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time;

use super::{Bounds, Patience, set_hop_limit};

/// How often TCP asks a silent far side before it gives up.
const PROBES: u32 = 3;

/// How upstream sockets are made.
#[derive(Clone, Copy, Debug)]
pub struct Connector {
    /// The SO_MARK that keeps the eBPF program from diverting weir's own connections back to weir; set
    /// only while interception is on, since it needs CAP_NET_ADMIN.
    pub mark: Option<u32>,
    /// The hop limit of its packets (IPv4: TTL); the kernel's own where none is set.
    pub hop_limit: Option<u8>,
    /// How long keep-alive probes may stay unanswered on a connection that is not in use.
    pub unacknowledged: Duration,
    /// How long such a connection may be silent before TCP asks whether the endpoint is there.
    pub keep_alive: Duration,
}

/// Why there is no connection. Nothing was sent, so another endpoint may always be tried.
#[derive(Debug)]
pub enum ConnectError {
    /// It was not there within the time.
    Timeout,
    /// The kernel said no (refused, unreachable, reset).
    Failed(io::Error),
    /// No socket could be made: this node's fault (descriptors, ports, permission), not the endpoint's.
    Local(io::Error),
}

impl Connector {
    /// Connects to `endpoint` within `limit`, without delay of small segments.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]
    pub async fn connect(self, endpoint: SocketAddr, limit: Duration) -> Result<TcpStream, ConnectError> {
        let socket = self.socket(endpoint).map_err(ConnectError::Local)?;
        match time::timeout(limit, socket.connect(endpoint)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(cause)) if is_local(&cause) => Err(ConnectError::Local(cause)),
            Ok(Err(cause)) => Err(ConnectError::Failed(cause)),
            Err(_) => Err(ConnectError::Timeout),
        }
    }

    fn socket(self, endpoint: SocketAddr) -> io::Result<TcpSocket> {
        let socket = if endpoint.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_nodelay(true)?;
        let options = SockRef::from(&socket);
        if let Some(mark) = self.mark {
            options.set_mark(mark)?;
        }
        if let Some(limit) = self.hop_limit {
            set_hop_limit(&options, limit, endpoint.is_ipv6())?;
        }
        set_keepalive(&options, self.unacknowledged, self.keep_alive)?;
        Ok(socket)
    }

    /// How the far side of a connection is found out that is `silence` long silent, or sends too much before an answer.
    pub fn patience(self, silence: Duration, interim: Bounds) -> Patience {
        Patience { silence, unused: (self.keep_alive, between(self.unacknowledged)), probes: PROBES, interim }
    }
}

/// Has TCP ask whether the far side is there when it has been silent for `keep_alive`, and give up when it says nothing
/// for `unacknowledged`. TCP_USER_TIMEOUT would also end a connection whose far side is well and only does not read for so
/// long, and anyone may pause as they like.
///
/// # Errors
///
/// What the kernel says.
pub fn set_keepalive(socket: &SockRef<'_>, unacknowledged: Duration, keep_alive: Duration) -> io::Result<()> {
    let interval = between(unacknowledged);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(keep_alive).with_interval(interval).with_retries(PROBES),
    )
}

/// The pause between two probes, when the last of them may stay unanswered so long.
fn between(unacknowledged: Duration) -> Duration {
    (unacknowledged / PROBES).max(Duration::from_secs(1))
}

/// Whether connect failed before the network was asked: out of ports, memory or permission here.
fn is_local(cause: &io::Error) -> bool {
    matches!(
        cause.raw_os_error(),
        Some(libc::EADDRNOTAVAIL | libc::EPERM | libc::EACCES | libc::ENOBUFS | libc::ENOMEM)
    )
}
