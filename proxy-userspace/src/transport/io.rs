//! One TCP connection, which yields unread bytes first.

mod closing;
mod splice;

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::sleep;

use self::closing::{Close, FinThenReset};
use super::bad_head::{self, BadHead};
use super::reader::Reader;
use super::{Activity, MakeAnswer, Peer, Sending, ended, short};

/// Up to this many bytes, the pieces of a vectored write are joined first: the kernel's `send` of one piece costs less
/// than its `writev` of two.
const SMALL: usize = 1024;

/// How often a peer whose bytes stay unread is looked at, to see whether it has reset the connection.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// A TCP stream that first yields the bytes that sniffing or hyper had read from it.
#[derive(Debug)]
pub struct Io {
    stream: TcpStream,
    prefix: Bytes,
    reader: Reader,
    activity: Option<Activity>,
    /// Whether the end of the peer's sending side is looked for while nothing is read.
    looks_for_end: bool,
    /// Answers heads that hyper cannot parse.
    bad_head: Option<Box<BadHead>>,
    /// The peer, of a connection to an endpoint.
    peer: Option<Peer>,
    writes: Writes,
    close: Close,
    /// Whether closing it first is to leave no TIME_WAIT here.
    frees_port: bool,
    /// Dropped after `stream`.
    last: Option<FinThenReset>,
    /// What is left of interim answers of which a part was written.
    interjected: Bytes,
}

/// What a write returns that fails because the peer has closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writes {
    /// An error.
    Fail,
    /// Success: the peer may have sent the reason before it closed, and reading reports it.
    Discard,
}

impl Io {
    /// `stream`, with nothing read yet.
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            prefix: Bytes::new(),
            reader: Reader::default(),
            activity: None,
            looks_for_end: false,
            bad_head: None,
            peer: None,
            writes: Writes::Fail,
            close: Close::End,
            frees_port: false,
            last: None,
            interjected: Bytes::new(),
        }
    }

    /// The bytes that were unread, and not read again.
    pub fn unread_bytes(&self) -> &[u8] {
        &self.prefix
    }

    /// Puts `bytes` in front of what is still to be read.
    pub fn unread(&mut self, bytes: Bytes) {
        self.prefix = if self.prefix.is_empty() {
            bytes
        } else {
            [bytes, std::mem::take(&mut self.prefix)].concat().into()
        };
    }

    /// `stream` to an endpoint, `peer`: reading fails once the peer is found to be silent.
    pub fn to(stream: TcpStream, peer: Peer) -> Self {
        peer.is_on(stream.as_raw_fd());
        let mut io = Self::new(stream);
        io.peer = Some(peer);
        io
    }

    /// The endpoint that this is a connection to.
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// Makes reading, not writing, report that the peer has closed. When an endpoint answers before it has read a whole
    /// request, and closes, the write fails; its answer can still be read.
    pub fn discard_unread(mut self) -> Self {
        self.writes = Writes::Discard;
        self
    }

    /// Reports bytes that pass to `activity`.
    pub fn telling(mut self, activity: Activity) -> Self {
        activity.flushed();
        self.activity = Some(activity);
        self
    }

    /// While an exchange runs, the activity learns of the end of the client's sending side, and a reset fails the flush;
    /// the connection must have an activity. Needed where the owner does not always read (HTTP/1). The owner calls
    /// [`Activity::stamp`] after each poll.
    pub fn looking_for_end(mut self) -> Self {
        self.looks_for_end = true;
        self
    }

    /// Makes `make` answer heads that hyper cannot parse; the connection must have an activity.
    pub fn answering_bad_heads(mut self, make: MakeAnswer) -> Self {
        self.bad_head = Some(Box::new(BadHead::new(make)));
        self
    }

    /// No head follows any more: the connection carries opaque bytes.
    pub fn end_of_heads(&mut self) {
        self.bad_head = None;
        self.frees_port = false;
    }

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
        self.settle(Ok(length), length)
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

    fn settle(&self, wrote: io::Result<usize>, wanted: usize) -> Poll<io::Result<usize>> {
        match wrote {
            Ok(n) => {
                if let Some(activity) = &self.activity {
                    activity.bytes_went();
                }
                Poll::Ready(Ok(n))
            }
            Err(cause) if self.writes == Writes::Discard && has_closed(&cause) => Poll::Ready(Ok(wanted)),
            Err(cause) => Poll::Ready(Err(cause)),
        }
    }

    /// Checks whether the peer is silent, as the watch requested.
    #[cold]
    fn look(&mut self) -> io::Result<()> {
        let Some(peer) = &self.peer else { return Ok(()) };
        let looked = peer.look(&self.stream);
        if looked.is_err() {
            // A close in order would wait for a peer that is gone.
            self.close = Close::Reset;
        }
        looked
    }

    /// Whether the runtime knows of data to read, or of the end.
    fn is_readable(&self) -> bool {
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
    fn check_cut(&self) -> io::Result<()> {
        match &self.peer {
            Some(peer) if peer.is_cut() => Err(io::ErrorKind::ConnectionAborted.into()),
            _ => Ok(()),
        }
    }

    /// Closes the sending side once all that its client sent was written, if the client has closed its own.
    fn pass_on_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.peer {
            Some(peer) if peer.takes_end() => Pin::new(&mut self.stream).poll_shutdown(cx),
            _ => Poll::Ready(Ok(())),
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
        let read = short::poll_read(&mut this.stream, cx, buf);
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

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check_cut()?;
        if !self.interjected.is_empty() {
            ready!(self.poll_interjected(cx))?;
        }
        if let Some(status) = self.own_answer(bytes) {
            return self.poll_bad_head(cx, status, bytes.len());
        }
        let wrote = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
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
            let mut whole = [0; SMALL];
            let mut free = &mut whole[..wanted];
            for slice in slices {
                let (next, rest) = free.split_at_mut(slice.len());
                next.copy_from_slice(slice);
                free = rest;
            }
            return self.poll_write(cx, &whole[..wanted]);
        }
        self.check_cut()?;
        if !self.interjected.is_empty() {
            ready!(self.poll_interjected(cx))?;
        }
        let wrote = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices));
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
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn has_closed(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::coop::{consume_budget, has_budget_remaining};

    use super::*;

    /// Both ends of a connection.
    async fn connected() -> (Io, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Io::new(listener.accept().await.unwrap().0), there)
    }

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
