//! One connection to an endpoint, for any protocol.

mod http1;
mod http2;
mod replay;
mod stalls;
mod stream;
mod upload;

use std::sync::Arc;

use h2::RecvStream;
use hyper::client::conn::http1::SendRequest;

pub(super) use http2::Http2;
pub use replay::{Kept, ReplayBudget, Replayed};
pub use stream::{NoAnswer, Outgoing, Refused, StreamPermit};

use super::{Key, RequestBody};
use crate::config::Limits;
use crate::transport::{BodyError, Io, Peer, PodNetns, StreamIo};

/// A connection that takes requests.
#[derive(Debug)]
pub enum Conn {
    /// HTTP/1.1: one request at a time, so a checkout is exclusive.
    Http1(SendRequest<RequestBody>),
    /// One stream of a connection that speaks HTTP/2 and is shared.
    Http2(StreamPermit),
}

/// A connection that is checked out of its pool, or is new.
#[derive(Debug)]
pub struct PooledConnection {
    /// The connection.
    pub conn: Conn,
    /// What it can be used for.
    pub key: Key,
    /// The endpoint.
    pub peer: Peer,
    /// Whether it has carried a request before: then its end may only mean that it was idle too long.
    pub reused: bool,
    /// The pod in whose network namespace it was made, unless it is a stream.
    pub from: Option<Arc<PodNetns>>,
    /// How often that pod was to connect anew when it was made.
    pub renewed: u64,
}

impl Conn {
    /// Starts HTTP/1.1 with `key` on `io`. `None` when the endpoint has closed it already.
    pub(super) async fn http1(io: Io, key: Key, limits: &Limits) -> Option<Self> {
        http1::handshake(io, key, limits).await
    }

    /// Whether it can take another request now.
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_ready(),
            // It is shared, so it is in its pool all the time.
            Self::Http2(_) => false,
        }
    }

    /// Whether it is closed for further requests.
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(_) => true,
        }
    }
}

/// Who ended an answer before it was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaker {
    /// The endpoint, or the network.
    Endpoint,
    /// The client, whose request's body broke off: the stream was reset for that.
    Client,
}

/// Cuts a connection short when it is dropped: the client has left while it waited for an answer.
#[derive(Debug)]
pub struct CutOnDrop<'a>(Option<&'a Peer>);

impl CutOnDrop<'_> {
    /// The exchange was not cut short.
    pub fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CutOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(peer) = self.0 {
            peer.cut();
        }
    }
}

impl PooledConnection {
    /// Whether the pod that it was made for has ended.
    pub fn is_orphan(&self) -> bool {
        self.from.as_ref().is_some_and(|pod| pod.has_ended())
    }

    /// Whether connections of the pod that it was made for are made in another way now.
    pub fn is_outdated(&self) -> bool {
        self.from.as_ref().is_some_and(|pod| pod.renewed() != self.renewed)
    }

    /// The endpoint, unless others use the connection, too: a stream is reset when it is dropped.
    fn sole(&self) -> Option<&Peer> {
        match self.conn {
            Conn::Http1(_) => Some(&self.peer),
            Conn::Http2(_) => None,
        }
    }

    /// The client has closed its sending side behind the request, and the endpoint is to learn that.
    pub fn end(&self) {
        if let Some(peer) = self.sole() {
            peer.end();
        }
    }

    /// The exchange on it is cut short: the connection is reset when it is dropped.
    pub fn abort(&self) {
        if let Some(peer) = self.sole() {
            peer.cut();
        }
    }

    /// [`PooledConnection::abort`], unless it is disarmed first.
    pub fn cut_on_drop(&self) -> CutOnDrop<'_> {
        CutOnDrop(self.sole())
    }

    /// The answer that it carries ended by `error`.
    pub fn broken(&mut self, error: &BodyError) -> Breaker {
        if let (Conn::Http2(permit), BodyError::Http2(error)) = (&mut self.conn, error) {
            permit.broken(error);
            if error.is_reset() && !error.is_remote() && !error.is_library() {
                return Breaker::Client;
            }
        }
        Breaker::Endpoint
    }

    /// The tunnel that its stream has become, if it is one of HTTP/2; `received` is the other direction.
    pub fn into_tunnel(self, received: RecvStream) -> Option<StreamIo> {
        match self.conn {
            Conn::Http1(_) => None,
            Conn::Http2(permit) => permit.into_tunnel(received),
        }
    }

    /// Its answer is complete.
    pub fn complete(self) {
        if let Conn::Http2(permit) = self.conn {
            permit.complete();
        }
    }
}
