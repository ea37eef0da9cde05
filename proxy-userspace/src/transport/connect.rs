//! Connecting to an endpoint.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time;

use super::sources::Source;
use super::{Bounds, Patience, PodNetns, ReceiveBuffers, Sources, set_hop_limit};

/// How many keep-alive probes TCP sends to a silent peer before it gives up.
const PROBES: u32 = 3;

/// How many source ports are tried for one connection that needs one of a range.
const PORTS: usize = 64;

/// How upstream sockets are made.
#[derive(Clone, Debug)]
pub struct Connector {
    /// The hop limit of its packets (IPv4: TTL); the kernel's default if `None`.
    pub hop_limit: Option<u8>,
    /// How long keep-alive probes may stay unanswered on an unused connection.
    pub unacknowledged: Duration,
    /// How long such a connection may be silent before TCP sends a probe.
    pub keep_alive: Duration,
    /// The addresses and ports of connections from the node.
    pub sources: Arc<Sources>,
    /// Bounds on what the kernel buffers of a connection.
    pub buffers: KernelBuffers,
}

/// Bounds on what the kernel buffers of a connection; it counts as memory of the container.
#[derive(Clone, Debug, Default)]
pub struct KernelBuffers {
    /// Of what an endpoint has sent and weir has not read.
    pub received: Arc<ReceiveBuffers>,
    /// Bytes that were written and not sent yet, where more are written only below that (TCP_NOTSENT_LOWAT); 0 leaves it to
    /// the kernel.
    pub not_sent: usize,
}

/// Why there is no connection. Nothing was sent, so another endpoint may always be tried.
#[derive(Debug)]
pub enum ConnectError {
    /// It was not established in time.
    Timeout,
    /// The kernel reported an error (refused, unreachable, reset).
    Failed(io::Error),
    /// No socket could be created: a fault of this node (descriptors, ports, permission), not of the endpoint.
    Local(io::Error),
}

impl Connector {
    /// Connects to `endpoint` within `limit`, with TCP_NODELAY, for `client`: from the node, or from the pod's network
    /// namespace.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]
    pub async fn connect(
        self,
        endpoint: SocketAddr,
        limit: Duration,
        client: IpAddr,
        from: Option<Arc<PodNetns>>,
    ) -> Result<TcpStream, ConnectError> {
        let Some(pod) = from else { return self.connect_from_node(endpoint, limit, client).await };
        // Boxed: it would make every connection's task larger.
        let connecting = Box::pin(time::timeout(limit, async {
            let socket = pod.socket(endpoint.is_ipv6(), Type::STREAM).await.map_err(ConnectError::Local)?;
            let socket = self.prepare(TcpSocket::from_std_stream(socket.into()), endpoint, true);
            connect(socket.map_err(ConnectError::Local)?, endpoint, limit).await
        }));
        tokio::select! {
            biased;
            () = pod.ended() => Err(ConnectError::Local(io::Error::other("the client's pod has ended"))),
            connected = connecting => connected.unwrap_or(Err(ConnectError::Timeout)),
        }
    }

    /// Connects from the pod, from an address of its own or the unspecified one, and from a port of `ports` that has no
    /// connection to the endpoint yet. Before it does, `before` is told the port, and its result is returned with the
    /// connection; another port is tried where it says [`io::ErrorKind::AlreadyExists`].
    ///
    /// # Errors
    ///
    /// As [`Self::connect`].
    pub async fn connect_from_port<T>(
        self,
        endpoint: SocketAddr,
        limit: Duration,
        pod: Arc<PodNetns>,
        (own, ports): (IpAddr, RangeInclusive<u16>),
        before: impl Fn(u16) -> io::Result<T>,
    ) -> Result<(TcpStream, T), ConnectError> {
        let attempts = async {
            let mut taken: io::Error = io::ErrorKind::AddrNotAvailable.into();
            for _ in 0..PORTS {
                let socket =
                    pod.socket(endpoint.is_ipv6(), Type::STREAM).await.map_err(ConnectError::Local)?;
                let socket = self.prepare(TcpSocket::from_std_stream(socket.into()), endpoint, true);
                let socket = socket.map_err(ConnectError::Local)?;
                let port = fastrand::u16(ports.clone());
                match socket.bind(beside(endpoint, own, port)).and_then(|()| before(port)) {
                    Ok(noted) => match connect(socket, endpoint, limit).await {
                        Err(ConnectError::Local(cause)) if is_taken(&cause) => taken = cause,
                        connected => return connected.map(|stream| (stream, noted)),
                    },
                    Err(cause) if is_taken(&cause) => taken = cause,
                    Err(cause) => return Err(ConnectError::Local(cause)),
                }
            }
            Err(ConnectError::Local(taken))
        };
        tokio::select! {
            biased;
            () = pod.ended() => Err(ConnectError::Local(io::Error::other("the pod has ended"))),
            connected = time::timeout(limit, attempts) => connected.unwrap_or(Err(ConnectError::Timeout)),
        }
    }

    async fn connect_from_node(
        self,
        endpoint: SocketAddr,
        limit: Duration,
        client: IpAddr,
    ) -> Result<TcpStream, ConnectError> {
        let mut no_port = None;
        for source in self.sources.choices(client, endpoint.is_ipv6()) {
            let socket = self.socket(source, endpoint);
            let connected = match socket {
                Ok(socket) => connect(socket, endpoint, limit).await,
                Err(cause) => Err(ConnectError::Local(cause)),
            };
            match connected {
                Err(ConnectError::Local(cause)) if cause.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {
                    no_port = Some(cause);
                }
                connected => return connected,
            }
        }
        // There is at least one choice.
        Err(ConnectError::Local(no_port.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into())))
    }

    /// A socket of the node's.
    fn socket(&self, source: Source, endpoint: SocketAddr) -> io::Result<TcpSocket> {
        let socket = if endpoint.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        source.give(&socket)?;
        self.prepare(socket, endpoint, false)
    }

    fn prepare(&self, socket: TcpSocket, endpoint: SocketAddr, in_pod: bool) -> io::Result<TcpSocket> {
        socket.set_nodelay(true)?;
        let options = SockRef::from(&socket);
        if let Some(limit) = self.hop_limit {
            set_hop_limit(&options, limit, endpoint.is_ipv6())?;
        }
        set_keepalive(&options, self.unacknowledged, self.keep_alive)?;
        self.buffers.received.bound(&socket, in_pod)?;
        self.buffers.bound_unsent(&options)?;
        Ok(socket)
    }

    /// The limits for the peer of a connection: how long it may be silent (`silence`), and how much it may send before
    /// an answer.
    pub fn patience(&self, silence: Duration, interim: Bounds) -> Patience {
        Patience { silence, unused: (self.keep_alive, between(self.unacknowledged)), probes: PROBES, interim }
    }
}

async fn connect(
    socket: TcpSocket,
    endpoint: SocketAddr,
    limit: Duration,
) -> Result<TcpStream, ConnectError> {
    match time::timeout(limit, socket.connect(endpoint)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(cause)) if is_local(&cause) => Err(ConnectError::Local(cause)),
        Ok(Err(cause)) => Err(ConnectError::Failed(cause)),
        Err(_) => Err(ConnectError::Timeout),
    }
}

impl KernelBuffers {
    /// Bounds what is buffered of what is written to this socket.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn bound_unsent(&self, socket: &SockRef<'_>) -> io::Result<()> {
        if self.not_sent == 0 {
            return Ok(());
        }
        socket.set_tcp_notsent_lowat(u32::try_from(self.not_sent).unwrap_or(u32::MAX))
    }
}

/// Makes TCP send keep-alive probes when the peer has been silent for `keep_alive`, and give up when it does not answer
/// for `unacknowledged`. TCP_USER_TIMEOUT would also end a connection whose peer is alive but does not read for that
/// long, and a peer may pause as long as it likes.
///
/// # Errors
///
/// The kernel's error.
pub fn set_keepalive(socket: &SockRef<'_>, unacknowledged: Duration, keep_alive: Duration) -> io::Result<()> {
    let interval = between(unacknowledged);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(keep_alive).with_interval(interval).with_retries(PROBES),
    )
}

/// The interval between two probes, if the last of them may stay unanswered this long.
fn between(unacknowledged: Duration) -> Duration {
    (unacknowledged / PROBES).max(Duration::from_secs(1))
}

/// The address from which to connect to `endpoint`: on the same link, where that is link-local (RFC 4007).
fn beside(endpoint: SocketAddr, own: IpAddr, port: u16) -> SocketAddr {
    match (endpoint, own) {
        (SocketAddr::V6(endpoint), IpAddr::V6(own)) => {
            SocketAddrV6::new(own, port, 0, endpoint.scope_id()).into()
        }
        _ => SocketAddr::new(own, port),
    }
}

/// Whether the port has a connection to the endpoint already, or a program of the pod has it.
fn is_taken(cause: &io::Error) -> bool {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, AlreadyExists};
    matches!(cause.kind(), AddrInUse | AddrNotAvailable | AlreadyExists)
}

/// Whether connect failed before a packet was sent: out of ports, memory or permission here.
fn is_local(cause: &io::Error) -> bool {
    matches!(
        cause.raw_os_error(),
        Some(libc::EADDRNOTAVAIL | libc::EPERM | libc::EACCES | libc::ENOBUFS | libc::ENOMEM)
    )
}
