//! The proxy's own answer in place of hyper's answer to a request head that hyper cannot parse.
//!
//! hyper's answer has only a status, and hyper has no setting to change it. It is recognised here, below hyper, by two
//! facts: no exchange's answer is still to be written ([`Activity::owes_answer`](super::Activity::owes_answer)), and
//! the bytes are exactly those that hyper writes. An endpoint's answer with the same bytes belongs to an exchange, and
//! passes.
//!
//! Deliberately absent: an answer that hyper appends to the rest of the last one, in one write. That needs a client
//! that did not read its last answer, and whose request body ended after that answer. It gets hyper's answer.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::StatusCode;
use tokio::io::AsyncWrite;

/// Makes the complete answer, head and body, for this status. hyper closes the connection after it.
pub type MakeAnswer = Box<dyn Fn(StatusCode) -> Bytes + Send + Sync>;

/// What is written in place of hyper's answer.
pub(super) struct BadHead {
    make: MakeAnswer,
    /// The rest of the answer, once it was made.
    rest: Option<Bytes>,
}

impl BadHead {
    pub(super) fn new(make: MakeAnswer) -> Self {
        Self { make, rest: None }
    }

    /// Writes the answer for this `status` to `stream`. Ready when it is complete.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Unpin),
        status: StatusCode,
    ) -> Poll<io::Result<()>> {
        let rest = self.rest.get_or_insert_with(|| (self.make)(status));
        while !rest.is_empty() {
            match ready!(Pin::new(&mut *stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => rest.advance(n),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for BadHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BadHead").field("rest", &self.rest).finish_non_exhaustive()
    }
}

/// The status of hyper's own answer to a head that it cannot parse, if `bytes` are exactly that.
pub(super) fn status_of(bytes: &[u8]) -> Option<StatusCode> {
    let line = bytes.strip_prefix(b"HTTP/1.1 ").or_else(|| bytes.strip_prefix(b"HTTP/1.0 "))?;
    let statuses =
        [StatusCode::BAD_REQUEST, StatusCode::URI_TOO_LONG, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE];
    statuses.into_iter().find(|status| {
        let reason = status.canonical_reason().unwrap_or_default().as_bytes();
        let fields = line.strip_prefix(status.as_str().as_bytes()).and_then(|it| it.strip_prefix(b" "));
        let fields = fields.and_then(|it| it.strip_prefix(reason)).and_then(|it| it.strip_prefix(b"\r\n"));
        let fields = fields.map(|it| it.strip_prefix(b"connection: close\r\n").unwrap_or(it));
        fields == Some(b"content-length: 0\r\n\r\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_hyper_writes_itself_is_recognised() {
        let cases: [(&[u8], Option<u16>); 9] = [
            (b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", Some(400)),
            (b"HTTP/1.0 400 Bad Request\r\ncontent-length: 0\r\n\r\n", Some(400)),
            (b"HTTP/1.1 414 URI Too Long\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", Some(414)),
            (
                b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                Some(431),
            ),
            (b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", None),
            (b"HTTP/1.1 400 Bad Request\r\nx: y\r\ncontent-length: 0\r\n\r\n", None),
            (b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\nx", None),
            (b"HTTP/1.1 400 Bad", None),
            (b"", None),
        ];
        for (bytes, status) in cases {
            let shown = String::from_utf8_lossy(bytes);
            assert_eq!(status_of(bytes).map(|it| it.as_u16()), status, "{shown}");
        }
    }
}
