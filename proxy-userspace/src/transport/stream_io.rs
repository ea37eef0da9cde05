//! One stream of HTTP/2 as a connection that carries bytes (CONNECT, RFC 9113 §8.5; extended CONNECT, RFC 8441).

use std::any::Any;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{FrameMeter, Io, Peer};

/// One side of a byte tunnel.
pub trait Carrier: AsyncRead + AsyncWrite + Unpin {
    /// Makes dropping it tell the peer that the tunnel was cut short.
    fn reset_on_close(&mut self);

    /// Makes dropping it tell the peer that the tunnel has ended.
    fn end_on_close(&mut self);

    /// The endpoint, of a connection to one.
    fn peer(&self) -> Option<&Peer>;

    /// Whether the peer has reset it, although unread bytes may remain. Costs no system call. `is_shut`: weir has ended its own
    /// sending side.
    fn was_reset(&self, is_shut: bool) -> bool;

    /// The socket that it is, if it is one of its own.
    fn socket(&mut self) -> Option<&mut Io>;
}

/// Whoever is told whether a write waits.
struct Waits {
    now: bool,
    tell: Box<dyn FnMut(bool)>,
}

/// A stream whose heads have passed: it carries bytes both ways.
#[derive(Debug)]
pub struct StreamIo {
    send: SendStream<Bytes>,
    recv: RecvStream,
    /// Counts what a client is sent.
    meter: Option<FrameMeter>,
    /// The code that says that the tunnel was cut short.
    cut: Reason,
    /// Received, and not read yet.
    unread: Bytes,
    /// Whether dropping it resets the stream.
    resets: bool,
    /// Told when a write begins to wait for window, and when it has it.
    waits: Option<Waits>,
    #[expect(dead_code, reason = "held, not read: dropping it says that the stream is over")]
    held: Box<dyn Any>,
}

impl StreamIo {
    /// The stream of `send` and `recv`. A tunnel that is cut short resets it with `cut`: CONNECT_ERROR for CONNECT (RFC 9113
    /// §8.5), CANCEL for extended CONNECT (RFC 8441 §5). `held` is dropped with it.
    pub fn new(send: SendStream<Bytes>, recv: RecvStream, cut: Reason, held: impl Any + 'static) -> Self {
        Self {
            send,
            recv,
            meter: None,
            cut,
            unread: Bytes::new(),
            resets: false,
            waits: None,
            held: Box::new(held),
        }
    }

    /// Tells `tell` when a write begins to wait for the peer's window, and when it has some.
    #[must_use]
    pub fn tell_of_waits(mut self, tell: impl FnMut(bool) + 'static) -> Self {
        self.waits = Some(Waits { now: false, tell: Box::new(tell) });
        self
    }

    fn wait(&mut self, now: bool) {
        if let Some(waits) = &mut self.waits
            && waits.now != now
        {
            waits.now = now;
            (waits.tell)(now);
        }
    }

    /// Tells `meter`, that of a client's connection, what is sent.
    #[must_use]
    pub fn metered(mut self, meter: FrameMeter) -> Self {
        self.meter = Some(meter);
        self
    }
}

impl std::fmt::Debug for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waits").field("now", &self.now).finish_non_exhaustive()
    }
}

impl Carrier for Io {
    fn reset_on_close(&mut self) {
        self.reset_on_close();
    }

    fn end_on_close(&mut self) {
        self.end_on_close();
    }

    fn peer(&self) -> Option<&Peer> {
        self.peer()
    }

    fn was_reset(&self, is_shut: bool) -> bool {
        if is_shut { self.has_failed() } else { self.was_reset() }
    }

    fn socket(&mut self) -> Option<&mut Io> {
        Some(self)
    }
}

impl Carrier for StreamIo {
    fn reset_on_close(&mut self) {
        self.resets = true;
    }

    fn end_on_close(&mut self) {
        self.resets = false;
    }

    fn peer(&self) -> Option<&Peer> {
        None
    }

    // Frames are read all the time, and reading reports it.
    fn was_reset(&self, _: bool) -> bool {
        false
    }

    fn socket(&mut self) -> Option<&mut Io> {
        None
    }
}

impl Drop for StreamIo {
    fn drop(&mut self) {
        if self.resets {
            self.send.send_reset(self.cut);
        }
    }
}

impl AsyncRead for StreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(self.recv.poll_data(cx)) {
                Some(Ok(data)) => self.unread = data,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread[..n]);
        self.unread.advance(n);
        // The client may send as much again (RFC 9113 §5.2); a stream that was reset needs no window.
        let _ = self.recv.flow_control().release_capacity(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.send.reserve_capacity(bytes.len());
        while self.send.capacity() == 0 {
            match self.send.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(broken(error))),
                Poll::Ready(None) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Poll::Pending => {
                    self.wait(true);
                    return Poll::Pending;
                }
            }
        }
        self.wait(false);
        let n = self.send.capacity().min(bytes.len());
        self.send.send_data(Bytes::copy_from_slice(&bytes[..n]), false).map_err(broken)?;
        if let Some(meter) = &self.meter {
            meter.sent(n);
        }
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.send.send_data(Bytes::new(), true).map_err(broken))
    }
}

/// The stream, or its connection, has ended early.
fn broken(error: h2::Error) -> io::Error {
    error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
}
