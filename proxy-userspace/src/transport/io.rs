//! One TCP connection, with what was already read from it put back in front.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Pulse;

/// A TCP stream that first yields the bytes that sniffing or hyper had taken from it.
#[derive(Debug)]
pub struct Io {
    stream: TcpStream,
    prefix: Bytes,
    pulse: Option<Pulse>,
}

impl Io {
    /// `stream`, from its first byte.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, prefix: Bytes::new(), pulse: None }
    }

    /// Puts `bytes` in front of what is still to be read.
    pub fn put_back(&mut self, bytes: Bytes) {
        self.prefix = if self.prefix.is_empty() {
            bytes
        } else {
            [bytes, std::mem::take(&mut self.prefix)].concat().into()
        };
    }

    /// Tells `pulse` when bytes come in.
    pub fn beating(mut self, pulse: Pulse) -> Self {
        self.pulse = Some(pulse);
        self
    }

    fn went(&self) {
        if let Some(pulse) = &self.pulse {
            pulse.bytes_went();
        }
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Makes closing send RST instead of FIN: the peer learns that the exchange was cut, not ended.
    pub fn reset_on_close(&self) {
        // A socket that is already gone needs no reset.
        let _ = self.stream.set_zero_linger();
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.prefix.is_empty() {
            let n = self.prefix.len().min(buf.remaining());
            buf.put_slice(&self.prefix[..n]);
            self.prefix.advance(n);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if let Some(pulse) = &self.pulse
            && buf.filled().len() > before
        {
            pulse.bytes_came();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.went();
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.went();
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
