//! Connecting to an endpoint.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time;

/// How often TCP asks a silent far side before it gives up.
const PROBES: u32 = 3;

/// How upstream sockets are made.
#[derive(Clone, Copy, Debug)]
pub struct Connector {
    /// The SO_MARK that keeps the eBPF program from diverting weir's own connections back to weir; set
    /// only while interception is on, since it needs CAP_NET_ADMIN.
    pub mark: Option<u32>,
    /// How long data may stay unacknowledged, or a probe.
    pub unacknowledged: Duration,
    /// How long a silent connection waits before it asks whether the endpoint is there.
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
        watch_endpoint(&options, self.unacknowledged, self.keep_alive)?;
        Ok(socket)
    }
}

/// Has TCP give the connection to an endpoint up when its far side is gone without a word: a node that lost power sends
/// no RST, and the kernel would try for a quarter of an hour.
fn watch_endpoint(socket: &SockRef<'_>, unacknowledged: Duration, keep_alive: Duration) -> io::Result<()> {
    socket.set_tcp_user_timeout(Some(unacknowledged))?;
    ask_when_silent(socket, unacknowledged, keep_alive)
}

/// Has TCP ask whether the far side is there when it has been silent for `keep_alive`, and give up when it says nothing
/// for `unacknowledged`. What is lost of data under way is the kernel's to bound: TCP_USER_TIMEOUT would also end a
/// connection whose far side is well and only does not read for so long, and a client may pause as it likes.
///
/// # Errors
///
/// What the kernel says.
pub fn ask_when_silent(
    socket: &SockRef<'_>,
    unacknowledged: Duration,
    keep_alive: Duration,
) -> io::Result<()> {
    let between = (unacknowledged / PROBES).max(Duration::from_secs(1));
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(keep_alive).with_interval(between).with_retries(PROBES),
    )
}

/// Whether connect failed before the network was asked: out of ports, memory or permission here.
fn is_local(cause: &io::Error) -> bool {
    matches!(
        cause.raw_os_error(),
        Some(libc::EADDRNOTAVAIL | libc::EPERM | libc::EACCES | libc::ENOBUFS | libc::ENOMEM)
    )
}
