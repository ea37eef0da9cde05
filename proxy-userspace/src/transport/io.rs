//! One TCP connection, which yields unread bytes first; with TLS on it or without.

mod closing;
mod reading;
mod secure;
mod splice;
mod writing;

use std::os::fd::AsRawFd;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;

use self::closing::{Close, FinThenReset};
use super::bad_head::BadHead;
use super::reader::Reader;
use super::tls::Tls;
use super::{Activity, MakeAnswer, Peer};

/// How often a peer whose bytes stay unread is looked at, to see whether it has reset the connection.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// A TCP stream that first yields the bytes that sniffing or hyper had read from it.
#[derive(Debug)]
pub struct Io {
    stream: TcpStream,
    tls: Option<Box<Tls>>,
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
    /// Of what was to be written last, a part waits: it is offered again.
    write_waits: bool,
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
            tls: None,
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
            write_waits: false,
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

    /// This is a connection to the endpoint `peer`, as with [`Self::to`]; what was read before is none of its answers.
    pub fn onward_to(mut self, peer: Peer) -> Self {
        peer.is_on(self.stream.as_raw_fd());
        self.peer = Some(peer);
        self
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
}

/// Both ends of a connection.
#[cfg(test)]
async fn connected() -> (Io, TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (Io::new(listener.accept().await.unwrap().0), there)
}
