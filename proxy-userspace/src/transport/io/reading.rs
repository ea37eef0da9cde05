//! Reading, and what is known of the peer without it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::time::sleep;

use super::closing::Close;
use super::{Io, LOOK};
use crate::transport::{Peer, ended, short};

impl Io {
    /// Checks whether the peer is silent, as the watch requested.
    #[cold]
    pub(super) fn look(&mut self) -> io::Result<()> {
        let Some(peer) = &self.peer else { return Ok(()) };
        let looked = peer.look(&self.stream);
        if looked.is_err() {
            // A close in order would wait for a peer that is gone.
            self.close = Close::Reset;
        }
        looked
    }

    /// Whether the runtime knows of data to read, or of the end.
    pub(super) fn is_readable(&self) -> bool {
        self.stream.try_io(Interest::READABLE, || Ok(())).is_ok()
    }

    /// Returns when there is data to read, or the end.
    ///
    /// # Errors
    ///
    /// When the connection is broken.
    pub async fn readable(&self) -> io::Result<()> {
        if self.prefix.is_empty() { self.stream.readable().await } else { Ok(()) }
    }

    /// Whether the peer has reset the connection, although unread bytes may remain. Costs no system call.
    pub fn was_reset(&self) -> bool {
        ended::was_reset(&self.stream)
    }

    /// As [`Self::was_reset`], where weir has ended its own sending side.
    pub fn has_failed(&self) -> bool {
        ended::has_failed(&self.stream)
    }

    /// Returns when the peer has reset the connection; unread bytes stay unread.
    pub async fn reset(&self) {
        while self.stream.readable().await.is_ok() && !self.was_reset() {
            // Readable without a reset stays so, and does not tell of one.
            sleep(LOOK).await;
        }
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
            if let Some(activity) = &self.activity {
                activity.bytes_came(&self.prefix[..n], self.looks_for_end);
            }
            self.prefix.advance(n);
            return Poll::Ready(Ok(()));
        }
        if self.peer.as_ref().is_some_and(Peer::is_asked) {
            self.look()?;
        }
        if self.reader.waits_in(cx) && !self.is_readable() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let this = &mut *self;
        let read = match &mut this.tls {
            None => short::poll_read(&mut this.stream, cx, buf),
            Some(tls) => tls.poll_read(&mut this.stream, cx, buf),
        };
        if let (Some(waker), Some(peer)) = (this.reader.note(&read, cx), &this.peer) {
            peer.is_read_by(waker);
        }
        ready!(read)?;
        if buf.filled().len() > before {
            if let Some(activity) = &self.activity {
                activity.bytes_came(&buf.filled()[before..], self.looks_for_end);
            }
            if let Some(peer) = &self.peer
                && let Err(cause) = peer.said(&buf.filled()[before..])
            {
                self.close = Close::Reset;
                return Poll::Ready(Err(cause));
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Waker;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::coop::{consume_budget, has_budget_remaining};

    use super::super::connected;
    use super::*;

    fn read(io: &mut Io, cx: &mut Context<'_>) -> Poll<Vec<u8>> {
        let mut buffer = [0; 16];
        let mut buffer = ReadBuf::new(&mut buffer);
        ready!(Pin::new(io).poll_read(cx, &mut buffer)).unwrap();
        Poll::Ready(buffer.filled().to_vec())
    }

    fn use_up_budget(cx: &mut Context<'_>) {
        while has_budget_remaining() {
            assert!(pin!(consume_budget()).poll(cx).is_ready());
        }
    }

    #[tokio::test]
    async fn a_reader_that_asked_in_vain_is_woken() {
        for exhausted in [false, true] {
            let (mut io, mut there) = connected().await;
            there.write_all(b"first").await.unwrap();
            let reader = tokio::spawn(poll_fn(move |cx| {
                let mut got = read(&mut io, cx);
                if got == Poll::Ready(b"first".to_vec()) {
                    if exhausted {
                        use_up_budget(cx);
                    }
                    got = read(&mut io, cx);
                }
                got
            }));
            // It was polled, and waits.
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            there.write_all(b"hello").await.unwrap();
            let got = tokio::time::timeout(Duration::from_secs(10), reader).await;
            assert_eq!(got.expect("it is woken").unwrap(), b"hello", "exhausted: {exhausted}");
        }
    }

    /// `io`, after a pending read in a task that has ended since.
    async fn asked_elsewhere(mut io: Io) -> Io {
        let task = tokio::spawn(async move {
            poll_fn(|cx| {
                assert!(read(&mut io, cx).is_pending());
                Poll::Ready(())
            })
            .await;
            io
        });
        task.await.unwrap()
    }

    #[tokio::test]
    async fn a_reader_that_moved_is_woken_by_bytes_by_the_end_and_by_a_reset() {
        for (said, resets) in [(&b"hello"[..], false), (b"", false), (b"", true)] {
            let (io, mut there) = connected().await;
            let mut io = asked_elsewhere(io).await;
            let reader = tokio::spawn(async move {
                // Nor does a second waker within that task matter.
                assert!(read(&mut io, &mut Context::from_waker(Waker::noop())).is_pending());
                let mut got = Vec::new();
                let read = io.read_to_end(&mut got).await;
                (got, read.is_err())
            });
            // It was polled, and waits.
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            there.write_all(said).await.unwrap();
            if resets {
                there.set_zero_linger().unwrap();
            }
            drop(there);
            let got = tokio::time::timeout(Duration::from_secs(30), reader).await;
            assert_eq!(got.expect("it is woken").unwrap(), (said.to_vec(), resets));
        }
    }
}
