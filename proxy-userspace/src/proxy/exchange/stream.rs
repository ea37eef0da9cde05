//! What an exchange needs of the stream of HTTP/2 that it is on, and the client's side of a byte tunnel.

use http::Request;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use crate::proxy::clock::Clock;
use crate::proxy::upstream::RequestBody;
use crate::transport::{Io, StreamIo};

/// A stream that a request came on.
#[derive(Debug)]
pub struct OnStream {
    /// The clock of its exchange.
    pub clock: Clock,
    /// The stream itself, if the answer turns it into a byte tunnel. The task that sends the answer's head detects that by
    /// whether a task waits for the stream.
    pub tunnel: Tunnel,
}

/// A stream that may become a byte tunnel.
pub type Tunnel = oneshot::Receiver<StreamIo>;

/// The client's side of a byte tunnel, which is there once the answer's head was sent.
#[derive(Debug)]
pub(super) enum ClientSide {
    /// A connection of HTTP/1.
    Http1(OnUpgrade),
    /// A stream of HTTP/2.
    Http2(Tunnel),
}

/// A client that has become a byte tunnel.
#[derive(Debug)]
pub(super) enum Client {
    /// A connection.
    Connection(Box<Io>),
    /// A stream.
    Stream(StreamIo),
}

impl ClientSide {
    /// The client's side of a tunnel that `request` asks for, which came on `stream` or on a connection of HTTP/1.
    pub(super) fn take(request: &mut Request<RequestBody>, stream: &mut Option<Tunnel>) -> Option<Self> {
        match stream.take() {
            Some(stream) => Some(Self::Http2(stream)),
            None => request.extensions_mut().remove::<OnUpgrade>().map(Self::Http1),
        }
    }

    /// The client, once it is a tunnel; `None` when it has left before.
    pub(super) async fn ready(self) -> Option<Client> {
        match self {
            Self::Http1(client) => client.await.ok().and_then(whole).map(Box::new).map(Client::Connection),
            Self::Http2(client) => client.await.ok().map(Client::Stream),
        }
    }
}

/// The connection under an upgraded one, with the bytes that hyper had read ahead unread again.
pub(super) fn whole(upgraded: Upgraded) -> Option<Io> {
    let parts = upgraded.downcast::<TokioIo<Io>>().ok()?;
    let mut io = parts.io.into_inner();
    io.unread(parts.read_buf);
    io.end_of_heads();
    Some(io)
}
