//! TLS on the connection.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio_rustls::rustls::Connection;
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::Io;
use crate::transport::tls::Tls;

impl Io {
    /// The connection with TLS on it, once both sides have shaken hands. A server may still reject a client's certificate then,
    /// which the client reads as an error.
    ///
    /// # Errors
    ///
    /// The handshake failed. The error's cause is rustls' where it is not the connection's.
    ///
    /// Bytes are unread, which nobody has encrypted.
    pub async fn secured(mut self, session: impl Into<Connection>) -> io::Result<Self> {
        if !self.prefix.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "there are plain bytes before the TLS handshake",
            ));
        }
        let mut tls = Box::new(Tls::new(session.into()));
        poll_fn(|cx| tls.poll_handshake(&mut self.stream, cx)).await?;
        self.frees_port = false;
        self.tls = Some(tls);
        Ok(self)
    }

    /// The application protocol that both sides have agreed on by TLS (RFC 7301).
    pub fn application_protocol(&self) -> Option<&[u8]> {
        self.tls.as_ref().and_then(|tls| tls.application_protocol())
    }

    /// The peer's certificate and those between it and the root, which the handshake has verified.
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.tls.as_ref().and_then(|tls| tls.peer_certificates())
    }

    /// Closes the sending side, in order.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.tls {
            None => Pin::new(&mut self.stream).poll_shutdown(cx),
            Some(tls) => tls.poll_shutdown(&mut self.stream, cx),
        }
    }
}
