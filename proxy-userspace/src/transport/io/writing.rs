//! Writing, and what is done at a flush.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http::StatusCode;
use tokio::io::{AsyncWrite, ReadBuf};

use super::{Io, Writes};
use crate::transport::{Activity, Peer, Sending, bad_head, ended};

/// Up to this many bytes, the pieces of a vectored write are joined first: the kernel's `send` of one piece costs less
/// than its `writev` of two.
const SMALL: usize = 1024;

impl Io {
    /// The status of hyper's own answer to a head, if `bytes` are such an answer.
    fn own_answer(&self, bytes: &[u8]) -> Option<StatusCode> {
        match (&self.bad_head, &self.activity) {
            (Some(_), Some(activity)) if !activity.owes_answer() => bad_head::status_of(bytes),
            _ => None,
        }
    }

    /// Writes weir's answer with `status` in place of hyper's, which has `length` bytes.
    #[cold]
    fn poll_bad_head(
        &mut self,
        cx: &mut Context<'_>,
        status: StatusCode,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        if let Some(bad_head) = &mut self.bad_head {
            ready!(bad_head.poll_write(cx, &mut self.stream, status))?;
            self.bad_head = None;
        }
        self.settle(Poll::Ready(Ok(length)), length)
    }

    /// Writes what is left of interim answers.
    #[cold]
    fn poll_interjected(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.interjected.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.interjected))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.interjected.advance(n),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What a write of `wanted` bytes returns that came to this.
    pub(super) fn settle(
        &mut self,
        wrote: Poll<io::Result<usize>>,
        wanted: usize,
    ) -> Poll<io::Result<usize>> {
        match &wrote {
            Poll::Ready(Ok(n)) => {
                self.write_waits = *n < wanted;
                if let Some(activity) = &self.activity {
                    activity.bytes_went();
                }
            }
            Poll::Ready(Err(cause)) if self.writes == Writes::Discard && has_closed(cause) => {
                return Poll::Ready(Ok(wanted));
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.write_waits = true,
        }
        wrote
    }

    /// Keeps the head that `bytes` are, if it is to be kept and they are one. hyper writes the head of a request without a body at once; but
    /// behind an answer that came early, the rest of the request before may still wait.
    fn keep_head(&self, bytes: Option<&[u8]>) {
        if let Some(peer) = &self.peer
            && peer.sent_head().is_due()
        {
            peer.sent_head().wrote(bytes.filter(|_| !self.write_waits));
        }
    }

    /// Looks for the end of the client's sending side, or a reset, while an exchange runs.
    fn look_for_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(activity) = self.activity.as_ref().filter(|it| self.looks_for_end && it.has_exchange())
        else {
            return Ok(());
        };
        match activity.sending() {
            Sending::Ended => Ok(()),
            Sending::Open if self.reader.waits_in(cx) && !self.is_readable() => Ok(()),
            _ => ended::look(&self.stream, &mut self.reader, activity, !self.prefix.is_empty(), cx),
        }
    }

    /// Writes no more once the exchange was cut short: hyper would wait until the rest is written before it closes.
    pub(super) fn check_cut(&self) -> io::Result<()> {
        match &self.peer {
            Some(peer) if peer.is_cut() => Err(io::ErrorKind::ConnectionAborted.into()),
            _ => Ok(()),
        }
    }

    /// Closes the sending side once all that its client sent was written, if the client has closed its own.
    fn pass_on_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.peer.as_ref().is_some_and(Peer::takes_end) {
            true => self.poll_end(cx),
            false => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check_cut()?;
        if !self.interjected.is_empty() {
            ready!(self.poll_interjected(cx))?;
        }
        if let Some(status) = self.own_answer(bytes) {
            return self.poll_bad_head(cx, status, bytes.len());
        }
        self.keep_head(Some(bytes));
        let this = &mut *self;
        let wrote = match &mut this.tls {
            None => Pin::new(&mut this.stream).poll_write(cx, bytes),
            Some(tls) => tls.poll_write(&mut this.stream, cx, &[io::IoSlice::new(bytes)]),
        };
        self.settle(wrote, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A request without a body is one piece.
        if let [one] = slices {
            return self.poll_write(cx, one);
        }
        let wanted = slices.iter().map(|slice| slice.len()).sum();
        if wanted <= SMALL {
            let mut whole = [MaybeUninit::uninit(); SMALL];
            let mut whole = ReadBuf::uninit(&mut whole);
            slices.iter().for_each(|slice| whole.put_slice(slice));
            return self.poll_write(cx, whole.filled());
        }
        self.check_cut()?;
        if !self.interjected.is_empty() {
            ready!(self.poll_interjected(cx))?;
        }
        self.keep_head(None);
        let this = &mut *self;
        let wrote = match &mut this.tls {
            None => Pin::new(&mut this.stream).poll_write_vectored(cx, slices),
            Some(tls) => tls.poll_write(&mut this.stream, cx, slices),
        };
        self.settle(wrote, wanted)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is buffered here: all was written. hyper flushes at the end of each poll, also while it reads
    /// nothing: that is the time to check whether more of a body that is held back arrives without being asked for, and
    /// whether the client has left.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nobody is left to answer, or something went wrong: neither can be mended here.
        let _ = self.pass_on_end(cx);
        if let Some(more) = self.activity.as_ref().and_then(Activity::take_interjected) {
            self.interjected = [std::mem::take(&mut self.interjected), more].concat().into();
            ready!(self.poll_interjected(cx))?;
        }
        if let Some(activity) = &self.activity {
            activity.flushed();
            if activity.is_watched()
                && (!self.prefix.is_empty() || self.stream.poll_read_ready(cx).is_ready())
            {
                activity.more_came();
            }
        }
        Poll::Ready(self.look_for_end(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.peer.as_ref().is_some_and(Peer::is_cut) {
            return Poll::Ready(Ok(())); // The reset that follows says all.
        }
        if self.can_free_port() {
            return Poll::Ready(Ok(())); // All of it is done when it is dropped, which follows at once.
        }
        self.poll_end(cx)
    }
}

pub(super) fn has_closed(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::connected;
    use super::*;
    use crate::domain::silence::Doubts;
    use crate::transport::Patience;
    use crate::transport::interim::Bounds;

    fn peer() -> Peer {
        let unused = (Duration::from_secs(30), Duration::from_secs(5));
        let interim = Bounds { answers: 1, bytes: 100 };
        let patience = Patience { silence: Duration::from_secs(3), unused, probes: 3, interim };
        Peer::new(patience, Doubts::default())
    }

    #[tokio::test]
    async fn a_head_is_kept_as_it_is_written_unless_something_older_waits_before_it() {
        const HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: hello\r\n\r\n";
        for older in [false, true] {
            let (mut io, mut there) = connected().await;
            let peer = peer();
            io.peer = Some(peer.clone());
            let piece = [b'x'; 64 * 1024];
            let mut fills = older;
            while fills {
                fills = std::future::poll_fn(|cx| {
                    Poll::Ready(Pin::new(&mut io).poll_write(cx, &piece).is_ready())
                })
                .await;
            }
            peer.keep_head();
            let reads = tokio::spawn(async move {
                let mut all = Vec::new();
                there.read_to_end(&mut all).await.unwrap();
                all
            });
            if older {
                // The rest of the request before, which ends as a head would.
                io.write_all(HEAD).await.unwrap();
            }
            io.write_all(HEAD).await.unwrap();
            let kept = peer.take_head();
            assert_eq!(kept.as_deref(), Some(HEAD).filter(|_| !older));
            drop(io);
            assert!(reads.await.unwrap().ends_with(HEAD));
        }
    }

    #[tokio::test]
    async fn a_head_that_is_written_in_parts_is_kept_whole_and_only_once() {
        let (mut io, _there) = connected().await;
        let peer = peer();
        io.peer = Some(peer.clone());
        for pieces in [&[&b"GET / HTTP/1.1\r\n\r\n"[..]][..], &[b"PUT / HTTP/1.1\r\n\r\n", b"body"]] {
            peer.keep_head();
            for piece in pieces {
                io.write_all(piece).await.unwrap();
            }
            assert_eq!(peer.take_head().as_deref(), Some(pieces[0]));
            assert_eq!(peer.take_head(), None);
        }
    }

    #[tokio::test]
    async fn pieces_arrive_whole_and_in_order_whatever_their_sizes() {
        for sizes in [&[1, 2, 3][..], &[SMALL], &[SMALL, 1], &[0, 700, 0, 324], &[3 * SMALL, 2], &[0]] {
            let (mut io, mut there) = connected().await;
            let text: Vec<u8> = (0..=250).cycle().take(sizes.iter().sum()).collect();
            let mut rest = text.as_slice();
            let pieces: Vec<&[u8]> = sizes.iter().map(|size| rest.split_off(..*size).unwrap()).collect();
            let slices: Vec<_> = pieces.iter().map(|piece| io::IoSlice::new(piece)).collect();
            let wrote = io.write_vectored(&slices).await.unwrap();
            assert_eq!(wrote, text.len(), "{sizes:?}");
            drop(io);
            let mut came = Vec::new();
            there.read_to_end(&mut came).await.unwrap();
            assert_eq!(came, text, "{sizes:?}");
        }
    }
}
