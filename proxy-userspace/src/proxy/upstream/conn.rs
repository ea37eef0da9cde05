//! One connection to an endpoint, for any protocol.

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::{Key, Protocol, RequestBody};
use crate::config::Limits;
use crate::transport::{Io, Peer};

/// Bytes that hyper buffers of a body, for each direction of a connection.
const BUFFER: usize = 64 * 1024;

/// A connection that takes requests.
#[derive(Debug)]
pub enum Conn {
    /// HTTP/1.1: one request at a time, so a checkout is exclusive.
    Http1(SendRequest<RequestBody>),
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
}

/// Cuts a connection short when it is dropped: the client has left while it waited for an answer.
#[derive(Debug)]
pub struct CutOnDrop<'a>(Option<&'a Peer>);

impl PooledConnection {
    /// The client has closed its sending side behind the request, and the endpoint is to learn that.
    pub fn end(&self) {
        match self.conn {
            Conn::Http1(_) => self.peer.end(),
        }
    }

    /// The exchange on it is cut short: the connection is reset when it is dropped.
    pub fn abort(&self) {
        match self.conn {
            Conn::Http1(_) => self.peer.cut(),
        }
    }

    /// [`PooledConnection::abort`], unless it is disarmed first.
    pub fn cut_on_drop(&self) -> CutOnDrop<'_> {
        match self.conn {
            Conn::Http1(_) => CutOnDrop(Some(&self.peer)),
        }
    }
}

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

impl Conn {
    /// Starts the protocol of `key` on `io`. `None` when the endpoint has closed it already.
    pub(super) async fn handshake(io: Io, key: Key, limits: &Limits) -> Option<Self> {
        match key.protocol {
            Protocol::Http1 | Protocol::Http1Cased => Self::http1(io, key, limits).await,
        }
    }

    async fn http1(io: Io, key: Key, limits: &Limits) -> Option<Self> {
        let mut builder = http1::Builder::new();
        builder.max_header_size(limits.header_bytes).max_headers(limits.header_count);
        builder.max_buf_size(limits.header_bytes.max(BUFFER));
        builder.preserve_header_case(key.protocol == Protocol::Http1Cased);
        // RFC 9112 §5.1: a proxy removes that space. hyper's other leniencies stay off; docs/http.md gives the reason
        // for each.
        builder.allow_spaces_after_header_name_in_responses(true);
        let io = TokioIo::new(io.discard_unread());
        let (mut sender, connection) = builder.handshake::<_, RequestBody>(io).await.ok()?;
        tokio::task::spawn_local(async move {
            // An error reaches the request that waits for an answer; on an unused connection it does not matter.
            let _ = connection.with_upgrades().await;
        });
        sender.ready().await.ok()?;
        Some(Self::Http1(sender))
    }

    /// Sends `request`, and waits for the head of its answer. A request of which nothing was sent is returned in the
    /// error.
    pub fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<> {
        match self {
            Self::Http1(sender) => sender.try_send_request(request),
        }
    }

    /// Whether it can take a request now.
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_ready(),
        }
    }

    /// Whether it is closed for further requests.
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
        }
    }
}
