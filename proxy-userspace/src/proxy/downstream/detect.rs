//! Which protocol a diverted connection speaks, by its first bytes.

use std::time::Instant;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::time;

use super::first_head::FirstHead;
use super::preface;
use crate::config::Limits;
use crate::domain::sniff::{SNIFF_MAX, Sniffed, sniff};
use crate::proxy::listener::Listener;
use crate::transport::Io;

/// Result of sniffing the first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detected {
    /// The bytes begin this protocol.
    As(Sniffed),
    /// HTTP/1, with a head that hyper cannot parse.
    Unparsed,
}

/// Reads until the protocol is detected (for HTTP/1 the whole first head), or until the client has been silent for
/// `limits.sniff`. A client that closes its sending side without a byte may still read (half-close), and then the
/// server speaks first. `None` when the connection is broken. The bytes read are unread again. CONNECT, and what
/// follows it, is for the dialled server, which is a proxy itself.
pub(super) async fn detect_protocol(limits: &Limits, listener: &Listener, io: &mut Io) -> Option<Detected> {
    let mut seen = BytesMut::with_capacity(1024);
    let deadline = Instant::now() + limits.sniff;
    let mut decided = Sniffed::Undecided;
    let detected = loop {
        match time::timeout_at(deadline.into(), io.read_buf(&mut seen)).await {
            Ok(Err(_)) => return None,
            Ok(Ok(1..)) => {}
            // hyper waits for the rest of the head, or reports that it is missing.
            Ok(Ok(0)) | Err(_) if decided == Sniffed::Http1 => break Detected::As(Sniffed::Http1),
            // The rest of a slow preface has the time of a head.
            Err(_) if preface::is_surely_http2(&seen) => break Detected::As(Sniffed::Http2),
            Err(_) if seen.is_empty() => break Detected::As(Sniffed::Undecided),
            // A client that sends part of a head and then waits expects an answer to that part.
            Ok(Ok(0)) | Err(_) => break Detected::As(Sniffed::Opaque),
        }
        decided = match sniff(&seen) {
            Sniffed::Undecided if seen.len() >= SNIFF_MAX => Sniffed::Opaque,
            Sniffed::Http1 if seen.starts_with(b"CONNECT ") => Sniffed::Opaque,
            sniffed => sniffed,
        };
        match decided {
            Sniffed::Undecided => {}
            Sniffed::Http1 => match FirstHead::parse(&seen, limits) {
                FirstHead::Partial => {}
                FirstHead::Held => break Detected::As(decided),
                FirstHead::Unparsed => {
                    listener.unparsed_heads.inc();
                    break Detected::Unparsed;
                }
            },
            Sniffed::Tls | Sniffed::Http2 | Sniffed::Opaque => break Detected::As(decided),
        }
    };
    io.unread(seen.freeze());
    Some(detected)
}
