//! A server that sends what frames a test likes (RFC 9113 §4.1), and reads no field of a head.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::raw;

/// What a client sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames.
pub mod kind {
    #![expect(missing_docs, reason = "their names are the RFC's")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
}

/// The flags END_STREAM, and of SETTINGS and PING ACK.
pub const END_STREAM: u8 = 1;
/// The flag END_HEADERS.
pub const END_HEADERS: u8 = 4;

/// A head of `:status: 200` (RFC 7541 appendix A, entry 8) and nothing else.
pub const STATUS_200: &[u8] = &[0x88];

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// GOAWAY with this last stream and code.
    pub fn goaway(last: u32, code: u32) -> Self {
        Self::new(kind::GOAWAY, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat())
    }

    /// RST_STREAM.
    pub fn reset(stream: u32, code: u32) -> Self {
        Self::new(kind::RST_STREAM, 0, stream, code.to_be_bytes())
    }

    /// An answer of 200 without a body.
    pub fn ok(stream: u32) -> Self {
        Self::new(kind::HEADERS, END_HEADERS | END_STREAM, stream, STATUS_200)
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// The next frame.
    ///
    /// # Errors
    ///
    /// The end of the connection.
    pub fn read(from: &mut impl Read) -> std::io::Result<Self> {
        let mut head = [0; 9];
        from.read_exact(&mut head)?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        from.read_exact(&mut payload)?;
        Ok(Self { kind, flags, stream: u32::from_be_bytes(stream) & (u32::MAX >> 1), payload })
    }
}

/// What a server sends for a frame of its client.
pub type Script = dyn Fn(&Frame) -> Vec<Does> + Send + Sync;

/// What a server does.
#[derive(Clone, Debug)]
pub enum Does {
    /// Sends this frame.
    Sends(Frame),
    /// Closes the connection.
    Closes,
}

/// A server with a script, one thread for each connection.
pub struct FrameServer {
    listener: TcpListener,
    heads: Arc<AtomicUsize>,
}

impl FrameServer {
    /// Answers each frame after the preface as `script` says; SETTINGS are sent and acknowledged, and `pings` says
    /// whether PING is.
    #[track_caller]
    pub fn start(pings: bool, script: impl Fn(&Frame) -> Vec<Does> + Send + Sync + 'static) -> Self {
        let listener = raw::listen(raw::loopback()).unwrap();
        let (script, heads): (Arc<Script>, _) = (Arc::new(script), Arc::new(AtomicUsize::new(0)));
        let (accepting, count) = (listener.try_clone().unwrap(), heads.clone());
        std::thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                let (script, count) = (script.clone(), count.clone());
                std::thread::spawn(move || serve(stream, pings, &*script, &count));
            }
        });
        Self { listener, heads }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// How many heads of requests came.
    pub fn heads(&self) -> usize {
        self.heads.load(Ordering::SeqCst)
    }
}

impl Drop for FrameServer {
    fn drop(&mut self) {
        raw::stop_listening(&self.listener);
    }
}

fn serve(mut stream: TcpStream, pings: bool, script: &Script, heads: &AtomicUsize) -> Option<()> {
    // A reset takes back what was not sent yet.
    stream.set_nodelay(true).ok()?;
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).ok()?;
    stream.write_all(&Frame::new(kind::SETTINGS, 0, 0, []).bytes()).ok()?;
    loop {
        let frame = Frame::read(&mut stream).ok()?;
        match frame.kind {
            kind::SETTINGS if frame.flags == 0 => {
                stream.write_all(&Frame::new(kind::SETTINGS, 1, 0, []).bytes()).ok()?;
            }
            kind::PING if frame.flags == 0 && pings => {
                stream.write_all(&Frame::new(kind::PING, 1, 0, frame.payload.clone()).bytes()).ok()?;
            }
            kind::HEADERS => {
                heads.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        }
        for does in script(&frame) {
            match does {
                Does::Sends(frame) => stream.write_all(&frame.bytes()).ok()?,
                Does::Closes => return None,
            }
        }
    }
}
