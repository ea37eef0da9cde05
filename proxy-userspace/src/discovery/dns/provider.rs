//! Where the sockets for DNS are made: on the node, or in the network namespace of a pod.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_resolver::net::runtime::{RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime};
use socket2::{Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long a connection to a server may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Makes the sockets; on the node if there is none.
pub(super) type Elsewhere = Option<Arc<dyn MakeSocket>>;

/// What is being made.
pub type Made<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// Makes sockets elsewhere than on the node.
pub trait MakeSocket: Send + Sync {
    /// A socket of this type, non-blocking.
    fn make(&self, v6: bool, kind: Type) -> Made<Socket>;
}

/// Makes hickory's sockets.
#[derive(Clone, Default)]
pub(super) struct Provider {
    node: TokioRuntimeProvider,
    elsewhere: Elsewhere,
}

impl Provider {
    pub(super) fn new(elsewhere: Elsewhere) -> Self {
        Self { node: TokioRuntimeProvider::default(), elsewhere }
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provider")
    }
}

impl RuntimeProvider for Provider {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = UdpSocket;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> TokioHandle {
        self.node.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        own: Option<SocketAddr>,
        limit: Option<Duration>,
    ) -> Made<Self::Tcp> {
        let Some(elsewhere) = self.elsewhere.clone() else {
            return self.node.connect_tcp(server, own, limit);
        };
        Box::pin(async move {
            let connecting = async {
                let socket = elsewhere.make(server.is_ipv6(), Type::STREAM).await?;
                let socket = TcpSocket::from_std_stream(socket.into());
                socket.set_nodelay(true)?;
                socket.connect(server).await
            };
            let connected = timeout(limit.unwrap_or(CONNECT), connecting).await;
            connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(AsyncIoTokioAsStd)
        })
    }

    fn bind_udp(&self, own: SocketAddr, server: SocketAddr) -> Made<UdpSocket> {
        let Some(elsewhere) = self.elsewhere.clone() else { return self.node.bind_udp(own, server) };
        Box::pin(async move {
            let socket = elsewhere.make(own.is_ipv6(), Type::DGRAM).await?;
            socket.bind(&own.into())?;
            UdpSocket::from_std(socket.into())
        })
    }
}
