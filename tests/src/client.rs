//! A raw HTTP/1 client over one connection, which sends what it is told and hides nothing.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::message::{End, Framing, Request, Response};
use crate::time::PATIENCE;
use crate::wire::{Content, Wire};

/// One connection to weir, or to anything.
pub struct Client {
    wire: Wire,
    /// Methods of requests whose answers were not read yet, oldest first.
    pending: std::collections::VecDeque<String>,
}

/// How a connection ended, as the client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// An orderly end (FIN).
    End,
    /// A reset (RST).
    Reset,
}

impl Client {
    /// Connects from the test's own namespace.
    #[track_caller]
    pub fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE);
        Self::over(stream.unwrap_or_else(|e| panic!("no connection to {address}: {e}")))
    }

    /// Speaks over a connection that is there already.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { wire: Wire::new(stream), pending: std::collections::VecDeque::new() }
    }

    /// Sends bytes as they are. An error is left for the read that follows: a server may answer and close early.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.wire.write(bytes.as_ref());
        self
    }

    /// Sends one byte at a time, `pause` apart, until done or closed. Returns how many were sent.
    pub fn drip(&mut self, bytes: impl AsRef<[u8]>, pause: Duration) -> usize {
        for (sent, byte) in bytes.as_ref().iter().enumerate() {
            if self.wire.write(&[*byte]).is_err() {
                return sent;
            }
            std::thread::sleep(pause);
        }
        bytes.as_ref().len()
    }

    /// Sends a request and leaves its answer to [`Self::response`].
    pub fn start(&mut self, request: &Request) -> &mut Self {
        self.pending.push_back(request.method().to_owned());
        self.send(request.bytes())
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub fn ask(&mut self, request: &Request) -> Response {
        self.start(request).response()
    }

    /// Sends a GET and reads its answer.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Response {
        self.ask(&Request::get(target))
    }

    /// Reads the next answer; fails the test when there is none.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.try_response().unwrap_or_else(|e| panic!("no answer: {e}"))
    }

    /// Reads the next answer to its end. An error means that not even a head came.
    pub fn try_response(&mut self) -> io::Result<Response> {
        let method = self.pending.pop_front().unwrap_or_else(|| "GET".into());
        let mut interim = Vec::new();
        let head = loop {
            let head = self.wire.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            match head.status() {
                Some(status @ (100 | 102..=199)) => interim.push(status),
                Some(_) => break head,
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("not an answer: {head:?}"),
                    ));
                }
            }
        };
        let mut content = Content::default();
        let end = match self.wire.body(Framing::of_response(&head, &method), &mut content) {
            Ok(()) => End::Complete,
            Err(e) if is_timeout(&e) => return Err(e),
            Err(_) => End::Truncated,
        };
        let Content { bytes: body, length, trailers } = content;
        Ok(Response { status: head.status().unwrap_or(0), head, interim, body, length, trailers, end })
    }

    /// Reads only the next head, for bodies that a test reads by itself.
    #[track_caller]
    pub fn head(&mut self) -> crate::Head {
        self.wire.head().expect("head of an answer").expect("an answer before the end")
    }

    /// Reads exactly `n` bytes.
    #[track_caller]
    pub fn read(&mut self, n: usize) -> Vec<u8> {
        self.wire.exactly(n).expect("bytes from the peer")
    }

    /// Reads exactly as many bytes and fails the test unless they are `bytes`.
    #[track_caller]
    pub fn expect(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let bytes = bytes.as_ref();
        let got = self.wire.exactly(bytes.len()).expect("bytes from the peer");
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(bytes));
        self
    }

    /// Waits until the peer closes and returns every byte before that.
    #[track_caller]
    pub fn rest(&mut self) -> (Vec<u8>, Closed) {
        let mut bytes = Vec::new();
        loop {
            match self.wire.some() {
                Ok(more) if more.is_empty() => return (bytes, Closed::End),
                Ok(more) => bytes.extend(more),
                Err(e) if is_timeout(&e) => panic!("still open after {PATIENCE:?}"),
                Err(_) => return (bytes, Closed::Reset),
            }
        }
    }

    /// Reads until the peer closes or is silent for half a second.
    pub fn rest_or_silence(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.wire.stream().set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        while let Ok(more) = self.wire.some() {
            if more.is_empty() {
                break;
            }
            bytes.extend(more);
        }
        self.wire.stream().set_read_timeout(Some(PATIENCE)).unwrap();
        bytes
    }

    /// Whether the peer has closed by now and everything before that was read.
    pub fn is_closed(&mut self) -> bool {
        self.wire.stream().set_nonblocking(true).unwrap();
        let open = match self.wire.fill() {
            Ok(n) => n > 0,
            Err(e) => is_timeout(&e),
        };
        self.wire.stream().set_nonblocking(false).unwrap();
        !open
    }

    /// Waits until the peer closes; fails the test when bytes come first.
    #[track_caller]
    pub fn closed(&mut self) -> Closed {
        let (bytes, closed) = self.rest();
        assert!(bytes.is_empty(), "bytes instead of a close: {:?}", String::from_utf8_lossy(&bytes));
        closed
    }

    /// Whether nothing arrives for `span`: no byte, no close.
    pub fn silent_for(&mut self, span: Duration) -> bool {
        self.wire.stream().set_read_timeout(Some(span)).unwrap();
        let silent = matches!(self.wire.fill(), Err(e) if is_timeout(&e));
        self.wire.stream().set_read_timeout(Some(PATIENCE)).unwrap();
        silent
    }

    /// Sends FIN and keeps reading.
    pub fn half_close(&mut self) -> &mut Self {
        let _ = self.wire.stream().shutdown(Shutdown::Write);
        self
    }

    /// Vanishes with a reset.
    pub fn vanish(self) {
        crate::raw::reset_on_close(self.wire.stream());
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        self.wire.stream()
    }
}

fn is_timeout(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
