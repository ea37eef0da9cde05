//! HTTP/1.1 to an endpoint.

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::Conn;
use crate::config::Limits;
use crate::proxy::upstream::{Key, Protocol, RequestBody};
use crate::transport::{Io, Relayed};

/// Bytes that hyper buffers of a body, for each direction of a connection.
const BUFFER: usize = 64 * 1024;

/// A connection that speaks HTTP/1.1 on `io`. `None` when the endpoint has closed it already.
pub(super) async fn handshake(io: Io, key: Key, limits: &Limits) -> Option<Conn> {
    let mut builder = http1::Builder::new();
    builder.max_header_size(limits.header_bytes).max_headers(limits.header_count);
    builder.max_buf_size(limits.header_bytes.max(BUFFER));
    builder.preserve_header_case(key.protocol == Protocol::Http1Cased);
    // RFC 9112 §5.1: a proxy removes that space. hyper's other leniencies stay off; docs/http.md gives the reason
    // for each.
    builder.allow_spaces_after_header_name_in_responses(true);
    let io = TokioIo::new(io.discard_unread().freeing_port());
    let (mut sender, connection) = builder.handshake::<_, RequestBody>(io).await.ok()?;
    tokio::task::spawn_local(async move {
        // An error reaches the request that waits for an answer; on an unused connection it does not matter.
        let _ = Relayed::new(connection.with_upgrades()).await;
    });
    sender.ready().await.ok()?;
    Some(Conn::Http1(sender))
}
