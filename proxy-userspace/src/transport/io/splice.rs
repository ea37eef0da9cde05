//! Bytes of a connection that pass through a pipe and not through weir. What reading and writing would report is reported
//! as well.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;

use super::writing::has_closed;
use super::{Close, Io, Writes};
use crate::transport::Peer;
use crate::transport::pipes::Pipe;

impl Io {
    /// Whether nothing has to pass through weir first: nothing is unread, no own answer is being written, and it is no TLS.
    pub(in crate::transport) fn can_splice(&self) -> bool {
        self.prefix.is_empty() && self.interjected.is_empty() && self.bad_head.is_none() && self.tls.is_none()
    }

    /// Reads into `pipe`, which is empty; returns how many bytes, and 0 at the end.
    pub(in crate::transport) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &Pipe<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.peer.as_ref().is_some_and(Peer::is_asked) {
            self.look()?;
        }
        if self.reader.waits_in(cx) && !self.is_readable() {
            return Poll::Pending;
        }
        loop {
            let readable = self.stream.poll_read_ready(cx);
            if let (Some(waker), Some(peer)) = (self.reader.note(&readable, cx), &self.peer) {
                peer.is_read_by(waker);
            }
            ready!(readable)?;
            match self.stream.try_io(Interest::READABLE, || pipe.fill(&self.stream)) {
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {}
                Ok(n) if n > 0 => return Poll::Ready(self.came().map(|()| n)),
                other => return Poll::Ready(other),
            }
        }
    }

    /// Bytes came, which nobody reads.
    fn came(&mut self) -> io::Result<()> {
        if let Some(activity) = &self.activity {
            activity.bytes_came(&[], self.looks_for_end);
        }
        let said = self.peer.as_ref().map_or(Ok(()), |peer| peer.said(&[]));
        if said.is_err() {
            self.close = Close::Reset;
        }
        said
    }

    /// Writes up to `bytes` bytes of `pipe`; returns how many have left it.
    pub(in crate::transport) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &Pipe<'_>,
        bytes: usize,
    ) -> Poll<io::Result<usize>> {
        self.check_cut()?;
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_io(Interest::WRITABLE, || pipe.drain(&self.stream, bytes)) {
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {}
                Err(cause) if self.writes == Writes::Discard && has_closed(&cause) => {
                    pipe.discard();
                    return Poll::Ready(Ok(bytes));
                }
                wrote => return self.settle(Poll::Ready(wrote), bytes),
            }
        }
    }
}
