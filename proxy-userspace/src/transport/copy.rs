//! Copying bytes between a client and an endpoint until both are done.
//!
//! Each direction has one bounded buffer, is read only when that buffer is empty, and closes on its own: a client
//! that has sent all it will (half-close) still gets its answer. tokio's `copy_bidirectional` does that much; it
//! does not say which side broke, nor how many bytes had passed, and it waits forever on a silent pair.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::Io;

/// The two sides of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that connected to weir.
    Client,
    /// The one that weir connected to.
    Server,
}

/// How a tunnel ended.
#[derive(Debug)]
pub enum End {
    /// Both sides had sent all they wanted.
    Closed,
    /// Neither side sent a byte for the idle time.
    Idle,
    /// One side's connection broke.
    Broken(Side, io::Error),
}

/// What passed through a tunnel.
#[derive(Debug)]
pub struct Copied {
    /// Bytes from the client to the server.
    pub up: u64,
    /// Bytes from the server to the client.
    pub down: u64,
    /// How it ended.
    pub end: End,
}

/// Copies both ways, `buffer` bytes at a time, until both sides have closed, one breaks, or nothing passes for
/// `idle`. When a side breaks, the other is reset too, so that neither takes a cut for an end; and both are when this is
/// dropped before that.
pub async fn copy(client: &mut Io, server: &mut Io, buffer: usize, idle: Duration) -> Copied {
    let mut up = Direction::new(Side::Client, buffer);
    let mut down = Direction::new(Side::Server, buffer);
    let mut timer = Box::pin(sleep(idle));
    let mut broken = None;
    client.reset_on_close();
    server.reset_on_close();
    let end = poll_fn(|cx| {
        let ended_up = match up.poll(cx, client, server) {
            // The server has closed; what it said before is still to be read, and may be why.
            Poll::Ready(Err((Side::Server, cause))) => {
                up.state = State::Closed;
                broken = Some(cause);
                Poll::Ready(())
            }
            other => other?,
        };
        let ended_down = down.poll(cx, server, client)?;
        if ended_up.is_ready() && ended_down.is_ready() {
            return Poll::Ready(Ok(End::Closed));
        }
        poll_idle(cx, timer.as_mut(), idle, up.last.max(down.last)).map(Ok)
    })
    .await
    .unwrap_or_else(|(side, cause)| End::Broken(side, cause));
    let end = match (end, broken) {
        (End::Closed, Some(cause)) => End::Broken(Side::Server, cause),
        (end, _) => end,
    };
    if matches!(end, End::Closed) {
        client.end_on_close();
        server.end_on_close();
    }
    Copied { up: up.total, down: down.total, end }
}

/// Ready once nothing has passed for `idle`. The timer is armed anew only when it fires, never per read.
fn poll_idle(cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>, idle: Duration, last: Instant) -> Poll<End> {
    loop {
        ready!(timer.as_mut().poll(cx));
        let due = last + idle;
        if due <= Instant::now() {
            return Poll::Ready(End::Idle);
        }
        timer.as_mut().reset(due);
    }
}

/// One direction: what was read from its source and not yet written.
struct Direction {
    source: Side,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    state: State,
    total: u64,
    last: Instant,
}

#[derive(PartialEq)]
enum State {
    Copying,
    Closing,
    Closed,
}

impl Direction {
    fn new(source: Side, buffer: usize) -> Self {
        let buffer = vec![0; buffer].into_boxed_slice();
        Self { source, buffer, start: 0, end: 0, state: State::Copying, total: 0, last: Instant::now() }
    }

    fn sink(&self) -> Side {
        match self.source {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }

    /// Moves what can be moved. Ready when the source has ended and the sink knows.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Io,
        to: &mut Io,
    ) -> Poll<Result<(), (Side, io::Error)>> {
        loop {
            match self.state {
                State::Closed => return Poll::Ready(Ok(())),
                State::Closing => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))
                        .or_else(already_gone)
                        .map_err(|e| (self.sink(), e))?;
                    self.state = State::Closed;
                }
                State::Copying if self.start < self.end => {
                    let bytes = &self.buffer[self.start..self.end];
                    let n = ready!(Pin::new(&mut *to).poll_write(cx, bytes)).map_err(|e| (self.sink(), e))?;
                    self.start += n;
                    self.total += n as u64;
                }
                State::Copying => {
                    self.end = ready!(self.fill(cx, from)).map_err(|e| (self.source, e))?;
                    self.tell(from, to);
                }
            }
        }
    }

    /// A server owes an answer to what it is sent, and nothing once it has said something.
    fn tell(&self, from: &Io, to: &Io) {
        match (self.source, from.peer(), to.peer()) {
            (Side::Client, _, Some(server)) => server.owes(self.last.into_std()),
            (Side::Server, Some(server), _) => server.owes_nothing(),
            (Side::Client | Side::Server, ..) => {}
        }
    }

    fn fill(&mut self, cx: &mut Context<'_>, from: &mut Io) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(from).poll_read(cx, &mut buf))?;
        let n = buf.filled().len();
        self.start = 0;
        self.last = Instant::now();
        if n == 0 {
            self.state = State::Closing;
        }
        Poll::Ready(Ok(n))
    }
}

/// A peer that closed both ways before it was told of the other's end is not broken.
fn already_gone(cause: io::Error) -> io::Result<()> {
    if cause.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(cause) }
}
