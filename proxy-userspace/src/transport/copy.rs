//! Copies bytes between a client and an endpoint until both are done.
//!
//! Each direction has one bounded buffer, which grows with what passes, is read only when that buffer is empty, and closes on
//! its own: a client that half-closes still gets its answer. One that streams between two sockets gets a pipe instead, where
//! one is free (see `pipes`), until it sends little, or nothing for a moment. tokio's `copy_bidirectional` does the same, but
//! it does not report which side failed, nor how many bytes had passed, and it waits forever on a silent pair.

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep, sleep};

use super::io::LOOK;
use super::pipes::{Lender, Pipe};
use super::{Carrier, Io};
use crate::domain::tunnel::{End, MOMENT, Side};

/// A tunnel's buffers begin with so many bytes each, and grow while they are filled: most tunnels carry little.
const FIRST: usize = 4 * 1024;

/// A direction streams once its source has filled the largest buffer so many times one after the other.
const STREAMS: u64 = 4;

/// One that streams and gets no pipe asks again after so many more.
const ASKS: u64 = 64;

/// What passed through a tunnel.
#[derive(Clone, Copy, Debug)]
pub struct Copied {
    /// Bytes from the client to the server.
    pub up: u64,
    /// Bytes from the server to the client.
    pub down: u64,
    /// Which side first closed in order.
    pub first: Option<Side>,
    /// Which side had sent the last byte by then.
    pub last_word: Option<Side>,
    /// How it ended.
    pub end: End,
}

/// Copies both ways, at most `buffer` bytes at a time, or through pipes of `lender`, until both sides have closed, one fails, or
/// nothing passes for `idle`.
/// When a side fails, the other is reset too, so that a cut is not mistaken for an end; if this future is dropped
/// early, both are reset. If the tunnel lasts for [`MOMENT`], `lived` is called then.
pub async fn copy(
    client: &mut impl Carrier,
    server: &mut impl Carrier,
    buffer: usize,
    lender: Lender<'_>,
    idle: Duration,
    lived: impl FnOnce(),
) -> Copied {
    let mut up = Direction::new(Side::Client, buffer, lender);
    let mut down = Direction::new(Side::Server, buffer, lender);
    let mut timer = Timer::new(idle, lived);
    let (mut first, mut broken) = (None, false);
    client.reset_on_close();
    server.reset_on_close();
    let end = poll_fn(|cx| {
        let ended_up = match up.poll(cx, client, server) {
            // The server has closed; what it sent before must still be read, and may contain the reason.
            Poll::Ready(Err(Side::Server)) => {
                up.end(State::Closed);
                broken = true;
                Poll::Ready(())
            }
            other => other?,
        };
        let ended_down = down.poll(cx, server, client)?;
        // While the server takes nothing, nothing is read from the client either, which would tell of its reset.
        let stalls = up.is_blocked();
        if stalls && client.was_reset(down.state == State::Closed) {
            return Poll::Ready(Err(Side::Client));
        }
        if first.is_none() {
            let ended = [&up, &down].into_iter().find(|it| it.has_ended);
            first = ended.map(|it| (it.source, last_word(&up, &down)));
        }
        if ended_up.is_ready() && ended_down.is_ready() {
            return Poll::Ready(Ok(End::Closed));
        }
        timer.poll(cx, stalls, [&mut up, &mut down]).map(Ok)
    })
    .await
    .unwrap_or_else(End::Broken);
    let end = if end == End::Closed && broken { End::Broken(Side::Server) } else { end };
    if end == End::Closed {
        client.end_on_close();
        server.end_on_close();
    }
    let (first, last_word) = first.map_or((None, last_word(&up, &down)), |(side, word)| (Some(side), word));
    Copied { up: up.total, down: down.total, first, last_word, end }
}

fn last_word(up: &Direction<'_>, down: &Direction<'_>) -> Option<Side> {
    let later = if up.spoke > down.spoke { up } else { down };
    later.spoke.map(|_| later.source)
}

/// The timer of a tunnel. It is reset when it fires, never per read, once when the client stalls, and once when a pipe is empty.
struct Timer<F> {
    sleep: Pin<Box<Sleep>>,
    began: Instant,
    idle: Duration,
    /// To be called when the tunnel has lasted for [`MOMENT`].
    lived: Option<F>,
    /// It is set to look at a client that stalls.
    looks: bool,
    /// It is set to look at a pipe that is empty.
    rests: bool,
}

impl<F: FnOnce()> Timer<F> {
    fn new(idle: Duration, lived: F) -> Self {
        Self {
            sleep: Box::pin(sleep(idle.min(MOMENT))),
            began: Instant::now(),
            idle,
            lived: Some(lived).filter(|_| idle > MOMENT),
            looks: false,
            rests: false,
        }
    }

    /// Ready once nothing has passed for the idle time. Where the client `stalls`, it also wakes the task from time to
    /// time. Pipes that were empty for a moment are given back.
    fn poll(&mut self, cx: &mut Context<'_>, stalls: bool, [up, down]: [&mut Direction<'_>; 2]) -> Poll<End> {
        let last = up.last.max(down.last);
        let has_empty = up.has_empty_pipe() || down.has_empty_pipe();
        if (stalls && !self.looks) || (has_empty && !self.rests) {
            self.reset(last, stalls, has_empty);
        }
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            let now = Instant::now();
            if now >= self.began + MOMENT
                && let Some(lived) = self.lived.take()
            {
                lived();
            }
            if last + self.idle <= now {
                return Poll::Ready(End::Idle);
            }
            let has_empty = up.rest(now) | down.rest(now);
            self.reset(last, stalls, has_empty);
        }
    }

    fn reset(&mut self, last: Instant, stalls: bool, has_empty: bool) {
        (self.looks, self.rests) = (stalls, has_empty);
        let now = Instant::now();
        let mut due = last + self.idle;
        if self.lived.is_some() {
            due = due.min(self.began + MOMENT);
        }
        if stalls {
            due = due.min(now + (now.saturating_duration_since(last) / 8).clamp(LOOK, MOMENT));
        }
        if has_empty {
            due = due.min(now + MOMENT);
        }
        self.sleep.as_mut().reset(due);
    }
}

/// One direction: the bytes read from its source and not yet written.
struct Direction<'a> {
    source: Side,
    /// Empty while there is a pipe.
    buffer: Box<[u8]>,
    /// How large the buffer may get.
    most: usize,
    /// Whether its source has filled the buffer, and may have more.
    grows: bool,
    /// How often its source has filled the largest buffer, one after the other.
    filled: u64,
    /// How often it has to have done so when a pipe is asked for next.
    asks_at: u64,
    lender: Lender<'a>,
    pipe: Option<Pipe<'a>>,
    /// Bytes in the pipe.
    piped: usize,
    /// The pipe is given back once it is empty: its source sends little.
    lean: bool,
    start: usize,
    end: usize,
    state: State,
    total: u64,
    /// Whether its source has closed in order.
    has_ended: bool,
    /// When its source last sent bytes, or its end.
    last: Instant,
    /// When its source last sent something.
    spoke: Option<Instant>,
}

#[derive(PartialEq)]
enum State {
    Copying,
    Closing,
    Closed,
}

impl<'a> Direction<'a> {
    fn new(source: Side, buffer: usize, lender: Lender<'a>) -> Self {
        let (most, buffer) = (buffer, vec![0; buffer.min(FIRST)].into_boxed_slice());
        let (state, last) = (State::Copying, Instant::now());
        let (start, end, total, has_ended, grows, spoke) = Default::default();
        let (filled, pipe, piped, lean) = Default::default();
        let asks_at = STREAMS;
        Self {
            source,
            buffer,
            most,
            grows,
            filled,
            asks_at,
            lender,
            pipe,
            piped,
            lean,
            start,
            end,
            state,
            total,
            has_ended,
            last,
            spoke,
        }
    }

    fn sink(&self) -> Side {
        match self.source {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }

    /// Whether its sink takes nothing, so that nothing is read from its source.
    fn is_blocked(&self) -> bool {
        self.state == State::Copying && (self.start < self.end || self.piped > 0)
    }

    /// Copies what it can. Ready when the source has ended and the sink was shut down.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Carrier,
        to: &mut impl Carrier,
    ) -> Poll<Result<(), Side>> {
        loop {
            match self.state {
                State::Closed => return Poll::Ready(Ok(())),
                State::Closing => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))
                        .or_else(already_gone)
                        .map_err(|_| self.sink())?;
                    self.state = State::Closed;
                }
                State::Copying if self.piped > 0 => ready!(self.drain(cx, to)).map_err(|_| self.sink())?,
                State::Copying if self.start < self.end => {
                    let bytes = &self.buffer[self.start..self.end];
                    let n = ready!(Pin::new(&mut *to).poll_write(cx, bytes)).map_err(|_| self.sink())?;
                    self.start += n;
                    self.total += n as u64;
                }
                State::Copying => {
                    self.choose(from, to);
                    ready!(self.fill(cx, from)).map_err(|_| self.source)?;
                    self.tell(from, to);
                }
            }
        }
    }

    /// Records that a server owes an answer to what it was sent, and nothing once it has sent something.
    fn tell(&self, from: &impl Carrier, to: &impl Carrier) {
        match (self.source, from.peer(), to.peer()) {
            (Side::Client, _, Some(server)) => server.owes(self.last.into_std()),
            (Side::Server, Some(server), _) => server.owes_nothing(),
            (Side::Client | Side::Server, ..) => {}
        }
    }

    /// Takes a pipe where the source streams, and gives it back where it does no longer. Nothing is held now.
    fn choose(&mut self, from: &mut impl Carrier, to: &mut impl Carrier) {
        if self.lean {
            self.give_back();
        }
        if self.pipe.is_none() && self.filled >= self.asks_at {
            self.asks_at = self.filled + ASKS;
            let can_splice = |it: Option<&mut Io>| it.is_some_and(|it| it.can_splice());
            if can_splice(from.socket()) && can_splice(to.socket()) {
                self.pipe = self.lender.lend();
            }
            if self.pipe.is_some() {
                self.buffer = Box::default();
            }
        }
    }

    /// Copies again: the pipe is empty.
    fn give_back(&mut self) {
        (self.lean, self.pipe) = (false, None);
        (self.filled, self.asks_at) = (0, STREAMS);
        self.buffer = vec![0; self.most.min(FIRST)].into_boxed_slice();
    }

    fn has_empty_pipe(&self) -> bool {
        self.pipe.is_some() && self.piped == 0
    }

    /// Gives the pipe back if its source has sent nothing for a moment. Returns whether there is an empty one still.
    fn rest(&mut self, now: Instant) -> bool {
        if self.has_empty_pipe() && now.saturating_duration_since(self.last) >= MOMENT {
            self.give_back();
        }
        self.has_empty_pipe()
    }

    /// Nothing more is read: what is held is not needed.
    fn end(&mut self, state: State) {
        self.state = state;
        (self.pipe, self.piped) = (None, 0);
        (self.buffer, self.start, self.end) = Default::default();
    }

    /// Reads what has come: into the pipe, or into the buffer.
    fn fill(&mut self, cx: &mut Context<'_>, from: &mut impl Carrier) -> Poll<io::Result<()>> {
        let n = match (&self.pipe, from.socket()) {
            (Some(pipe), Some(socket)) => {
                self.piped = ready!(socket.poll_fill(cx, pipe))?;
                self.lean = self.piped < FIRST;
                self.piped
            }
            _ => ready!(self.read(cx, from))?,
        };
        self.last = Instant::now();
        if n == 0 {
            self.has_ended = true;
            self.end(State::Closing);
        } else {
            self.spoke = Some(self.last);
        }
        Poll::Ready(Ok(()))
    }

    fn read(&mut self, cx: &mut Context<'_>, from: &mut impl Carrier) -> Poll<io::Result<usize>> {
        if self.grows {
            self.grows = false;
            self.buffer = vec![0; self.most.min(2 * self.buffer.len())].into_boxed_slice();
        }
        let mut buf = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(from).poll_read(cx, &mut buf))?;
        let n = buf.filled().len();
        (self.start, self.end) = (0, n);
        let is_full = n == self.buffer.len();
        self.grows = is_full && n < self.most;
        match is_full && n == self.most {
            true => self.filled += 1,
            false => (self.filled, self.asks_at) = (0, STREAMS),
        }
        Poll::Ready(Ok(n))
    }

    /// Writes what is in the pipe.
    fn drain(&mut self, cx: &mut Context<'_>, to: &mut impl Carrier) -> Poll<io::Result<()>> {
        if let (Some(pipe), Some(socket)) = (&self.pipe, to.socket()) {
            let n = ready!(socket.poll_drain(cx, pipe, self.piped))?;
            self.piped -= n;
            self.total += n as u64;
        }
        Poll::Ready(Ok(()))
    }
}

/// A peer that closed both ways before it was sent the other side's end has not failed.
fn already_gone(cause: io::Error) -> io::Result<()> {
    if cause.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(cause) }
}
