//! Counts the frames of HTTP/2 that a client sends and that do no work, below the `h2` crate.
//!
//! h2 bounds what costs memory: CONTINUATION frames, header lists, small or empty DATA frames, streams that were reset before
//! they were accepted, and its own resets. It does not count PING, SETTINGS, PRIORITY, WINDOW_UPDATE and frames of
//! unknown types, each of which costs CPU, and some an answer. Here each frame's nine-byte head (RFC 9113 §4.1) is read
//! as it passes. In each [`INTERVAL`] a client may send a fixed number of such frames, and more in proportion to the
//! work it does: streams it opens, data it sends, data it was sent.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The interval of both bounds.
const INTERVAL: Duration = Duration::from_secs(10);

/// The length of a frame's head.
const HEAD: usize = 9;

/// The length of the connection preface, which is no frame (RFC 9113 §3.4).
const PREFACE: u32 = 24;

/// Frames without work that are allowed for each stream that the client opens.
const PER_STREAM: u32 = 8;

/// Frames without work that are allowed for each DATA frame that the client is sent: a WINDOW_UPDATE of the stream, one
/// of the connection, and a PING that measures the round trip, with one to spare.
const PER_DATA_SENT: u32 = 4;

/// The size of a DATA frame unless the receiver allows larger ones.
const DATA: usize = 16_384;

/// How much of what was last written is kept: the text of a GOAWAY of h2's.
const TAIL: usize = 32;

/// The bounds within one [`INTERVAL`].
#[derive(Clone, Copy, Debug)]
pub struct FrameBounds {
    /// Frames without work, beyond those that work allows.
    pub idle: u32,
    /// RST_STREAM frames, if they are also more than half of the streams opened.
    pub resets: u32,
}

/// What a client sent too many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// PING.
    Ping,
    /// SETTINGS.
    Settings,
    /// PRIORITY.
    Priority,
    /// WINDOW_UPDATE.
    WindowUpdate,
    /// Frames of another type.
    Other,
    /// RST_STREAM (CVE-2023-44487).
    Reset,
}

/// Counts one connection's frames. Clones share it.
#[derive(Clone, Debug)]
pub struct FrameMeter(Rc<RefCell<Meter>>);

/// A connection whose frames are counted as they are read. Once a bound is exceeded nothing more is read; the owner
/// asks [`FrameMeter::flood`] after each poll.
#[derive(Debug)]
pub struct Metered<T> {
    io: T,
    meter: FrameMeter,
}

#[derive(Debug)]
struct Meter {
    bounds: FrameBounds,
    /// The head of the current frame, and how many of its bytes have arrived.
    head: [u8; HEAD],
    have: usize,
    /// Bytes of the current frame's payload, or of the preface, that are still to arrive.
    rest: u32,
    /// Since when a header block is incomplete.
    block: Option<Instant>,
    /// When bytes last arrived.
    last: Instant,
    /// When the current interval began.
    began: Instant,
    idle: u32,
    allowed: u32,
    opened: u32,
    resets: u32,
    flood: Option<Flood>,
    /// The end of what was last written.
    tail: [u8; TAIL],
}

impl FrameMeter {
    /// A meter of a connection of which nothing was read at `now`.
    pub fn new(bounds: FrameBounds, now: Instant) -> Self {
        Self(Rc::new(RefCell::new(Meter {
            bounds,
            head: [0; HEAD],
            have: 0,
            rest: PREFACE,
            block: None,
            last: now,
            began: now,
            idle: 0,
            allowed: bounds.idle,
            opened: 0,
            resets: 0,
            flood: None,
            tail: [0; TAIL],
        })))
    }

    /// The client is sent DATA of this `length`.
    pub fn sent(&self, length: usize) {
        let frames = u32::try_from(length / DATA).unwrap_or(u32::MAX).saturating_add(1);
        self.0.borrow_mut().allow(frames.saturating_mul(PER_DATA_SENT));
    }

    /// Which bound was exceeded.
    pub fn flood(&self) -> Option<Flood> {
        self.0.borrow().flood
    }

    /// Since when a header block is incomplete.
    pub fn block_since(&self) -> Option<Instant> {
        self.0.borrow().block
    }

    /// When bytes last arrived.
    pub fn last(&self) -> Instant {
        self.0.borrow().last
    }

    /// Whether the last frame that was written ends with this `text`. A GOAWAY of h2's says so which bound was exceeded,
    /// and h2 says it nowhere else.
    pub fn has_said(&self, text: &str) -> bool {
        self.0.borrow().tail.ends_with(text.as_bytes())
    }

    fn came(&self, bytes: &[u8], now: Instant) {
        self.0.borrow_mut().came(bytes, now);
    }

    fn went(&self, bytes: &[u8]) {
        if let Some(end) = bytes.last_chunk() {
            self.0.borrow_mut().tail = *end;
        }
    }
}

impl Meter {
    fn came(&mut self, mut bytes: &[u8], now: Instant) {
        self.last = now;
        if now.saturating_duration_since(self.began) >= INTERVAL {
            (self.began, self.idle, self.allowed) = (now, 0, self.bounds.idle);
            (self.opened, self.resets) = (0, 0);
        }
        while !bytes.is_empty() {
            if self.rest > 0 {
                let n = bytes.len().min(self.rest as usize);
                bytes = &bytes[n..];
                self.rest -= n as u32;
            } else {
                let n = bytes.len().min(HEAD - self.have);
                self.head[self.have..self.have + n].copy_from_slice(&bytes[..n]);
                self.have += n;
                bytes = &bytes[n..];
                if self.have < HEAD {
                    return;
                }
                self.have = 0;
                self.frame(now);
            }
            if self.rest == 0 {
                self.ended();
            }
        }
    }

    /// The head of a frame is complete.
    fn frame(&mut self, now: Instant) {
        let [high, middle, low, kind, ..] = self.head;
        self.rest = u32::from_be_bytes([0, high, middle, low]);
        match kind {
            // An empty one is work where it ends its stream; h2 bounds the others.
            0 => self.allow(u32::from(self.rest > 0)),
            1 => {
                self.opened = self.opened.saturating_add(1);
                self.allow(PER_STREAM);
                self.block.get_or_insert(now);
            }
            2 => self.without_work(Flood::Priority),
            3 => {
                self.resets = self.resets.saturating_add(1);
                if self.resets > self.bounds.resets && self.resets > self.opened / 2 {
                    self.flood.get_or_insert(Flood::Reset);
                }
            }
            4 => self.without_work(Flood::Settings),
            6 => self.without_work(Flood::Ping),
            8 => self.without_work(Flood::WindowUpdate),
            // CONTINUATION: h2 bounds their number.
            9 => {}
            _ => self.without_work(Flood::Other),
        }
    }

    /// The current frame, or the preface, is complete.
    fn ended(&mut self) {
        const END_HEADERS: u8 = 0x4;
        let [.., kind, flags, _, _, _, _] = self.head;
        if self.block.is_some() && matches!(kind, 1 | 9) && flags & END_HEADERS != 0 {
            self.block = None;
        }
    }

    fn allow(&mut self, frames: u32) {
        self.allowed = self.allowed.saturating_add(frames);
    }

    fn without_work(&mut self, kind: Flood) {
        self.idle = self.idle.saturating_add(1);
        if self.idle > self.allowed {
            self.flood.get_or_insert(kind);
        }
    }
}

impl<T> Metered<T> {
    /// `io`, counted by `meter`.
    pub fn new(io: T, meter: FrameMeter) -> Self {
        Self { io, meter }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.meter.flood().is_some() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let came = &buf.filled()[before..];
        if !came.is_empty() {
            self.meter.came(came, Instant::now());
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        self.meter.went(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, slices))?;
        if let Some(last) = slices.iter().rfind(|slice| !slice.is_empty()) {
            self.meter.went(last);
        }
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "frame_meter_tests.rs"]
mod tests;
