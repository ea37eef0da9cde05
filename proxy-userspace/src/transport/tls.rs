//! TLS on a connection (RFC 8446), as rustls speaks it.
//!
//! All that was written is in the kernel's hands when a write is done: whoever copies bytes does not flush.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::rustls::Connection;
use tokio_rustls::rustls::pki_types::CertificateDer;

/// A session, and how far its last write is.
pub(super) struct Tls {
    session: Connection,
    /// Bytes of the caller's that the session has, and whose records are not all written yet. The caller is told when they
    /// are, and comes again with the same bytes until then.
    taken: usize,
    /// A writer waits for room in the kernel. It alone is woken for that, so nobody else may ask meanwhile.
    has_writer: bool,
    /// The end was said.
    is_ended: bool,
}

/// The socket as rustls reads and writes it.
struct Socket<'a, 'c> {
    stream: &'a mut TcpStream,
    cx: &'a mut Context<'c>,
}

impl Read for Socket<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        match Pin::new(&mut *self.stream).poll_read(self.cx, &mut buf) {
            Poll::Ready(read) => read.map(|()| buf.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Socket<'_, '_> {
    fn wrote(wrote: Poll<io::Result<usize>>) -> io::Result<usize> {
        match wrote {
            Poll::Ready(wrote) => wrote,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Socket<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Self::wrote(Pin::new(&mut *self.stream).poll_write(self.cx, buf))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        Self::wrote(Pin::new(&mut *self.stream).poll_write_vectored(self.cx, bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Tls {
    pub(super) fn new(session: Connection) -> Self {
        Self { session, taken: 0, has_writer: false, is_ended: false }
    }

    pub(super) fn application_protocol(&self) -> Option<&[u8]> {
        self.session.alpn_protocol()
    }

    pub(super) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.session.peer_certificates()
    }

    /// Ready once both sides have shaken hands, as far as this one knows: a server may still reject a client's certificate.
    pub(super) fn poll_handshake(
        &mut self,
        stream: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_send(stream, cx))?;
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_receive(stream, cx))? == 0 {
                let why = "the connection was closed during the TLS handshake";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, why)));
            }
        }
    }

    /// As [`AsyncRead::poll_read`]. An end that the peer has not said is an error (RFC 8446, section 6.1).
    pub(super) fn poll_read(
        &mut self,
        stream: &mut TcpStream,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.has_writer && self.session.wants_write() {
            // The answer to a key update, say. Writing reports what is wrong.
            let _ = self.poll_send(stream, cx);
        }
        loop {
            match self.session.reader().read(buf.initialize_unfilled()) {
                Ok(n) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {}
                Err(cause) => return Poll::Ready(Err(cause)),
            }
            ready!(self.poll_receive(stream, cx))?;
        }
    }

    /// As [`AsyncWrite::poll_write_vectored`]; while it is pending, the caller has to come again with the same bytes.
    pub(super) fn poll_write(
        &mut self,
        stream: &mut TcpStream,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.taken == 0 {
            // What the session has to say itself comes first, so that there is room.
            ready!(self.poll_write_out(stream, cx))?;
            self.taken = self.session.writer().write_vectored(slices)?;
        }
        ready!(self.poll_write_out(stream, cx))?;
        Poll::Ready(Ok(std::mem::take(&mut self.taken)))
    }

    /// As [`Self::poll_send`], for who writes.
    fn poll_write_out(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = self.poll_send(stream, cx);
        self.has_writer = sent.is_pending();
        sent
    }

    /// Says the end, and closes the sending side.
    pub(super) fn poll_shutdown(
        &mut self,
        stream: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_ended {
            self.is_ended = true;
            self.session.send_close_notify();
        }
        ready!(self.poll_write_out(stream, cx))?;
        Pin::new(stream).poll_shutdown(cx)
    }

    /// Writes the records that the session has.
    fn poll_send(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Socket { stream, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(cause) => return Poll::Ready(Err(cause)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the session what has come. 0 is the end of the connection.
    fn poll_receive(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let n = match self.session.read_tls(&mut Socket { stream, cx }) {
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            other => other?,
        };
        if let Err(error) = self.session.process_new_packets() {
            // The alert that tells the peer why. What there is no room for now is lost with the connection.
            if !self.has_writer {
                let _ = self.poll_send(stream, cx);
            }
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        Poll::Ready(Ok(n))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("taken", &self.taken).finish_non_exhaustive()
    }
}
