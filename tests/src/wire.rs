//! One TCP connection read as HTTP/1, byte for byte, with an optional log of everything that arrived.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use crate::message::{Fields, Framing, Head, field};

/// How much of a body is kept; the rest is only counted.
pub const KEEP: usize = 1 << 20;

/// Bytes received on one connection, shared with whoever wants to look.
pub type Log = Arc<Mutex<Vec<u8>>>;

/// A connection with a read buffer.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    log: Option<Log>,
}

/// A body that was read.
#[derive(Default)]
pub struct Content {
    /// Its first [`KEEP`] bytes.
    pub bytes: Vec<u8>,
    /// Its whole length.
    pub length: u64,
    /// Trailer fields.
    pub trailers: Fields,
}

impl Content {
    fn take(&mut self, bytes: &[u8]) {
        let room = KEEP.saturating_sub(self.bytes.len()).min(bytes.len());
        self.bytes.extend(&bytes[..room]);
        self.length += bytes.len() as u64;
    }
}

impl Wire {
    /// Reads from `stream`.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new(), log: None }
    }

    /// Reads from `stream` and keeps the first [`KEEP`] bytes in `log`.
    pub fn logged(stream: TcpStream, log: Log) -> Self {
        Self { stream, buffer: Vec::new(), log: Some(log) }
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The socket, without what is still buffered.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Writes all of `bytes`.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads once; 0 means that the peer has closed.
    pub fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 16384];
        let n = self.stream.read(&mut piece)?;
        self.buffer.extend(&piece[..n]);
        if let Some(log) = &self.log {
            let mut log = log.lock().unwrap();
            let room = KEEP.saturating_sub(log.len()).min(n);
            log.extend(&piece[..room]);
        }
        Ok(n)
    }

    /// What was read and not taken yet, or else the next bytes; empty when the peer has closed.
    pub fn some(&mut self) -> io::Result<Vec<u8>> {
        if self.buffer.is_empty() {
            self.fill()?;
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Takes exactly `n` bytes.
    pub fn exactly(&mut self, n: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < n {
            self.more()?;
        }
        Ok(self.buffer.drain(..n).collect())
    }

    /// The next head; `None` when the peer closed before its first byte.
    pub fn head(&mut self) -> io::Result<Option<Head>> {
        match self.until(b"\r\n\r\n") {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof && self.buffer.is_empty() => Ok(None),
            raw => Ok(Some(Head::parse(raw?))),
        }
    }

    /// Reads a body into `content`, which keeps what came before an error.
    pub fn body(&mut self, framing: Framing, content: &mut Content) -> io::Result<()> {
        match framing {
            Framing::None => Ok(()),
            Framing::Length(length) => self.counted(length, content),
            Framing::Chunked => self.chunks(content),
            Framing::UntilClose => loop {
                let bytes = self.some()?;
                if bytes.is_empty() {
                    return Ok(());
                }
                content.take(&bytes);
            },
        }
    }

    fn chunks(&mut self, content: &mut Content) -> io::Result<()> {
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| {
                io::Error::new(io::ErrorKind::InvalidData, format!("bad chunk size {line:?}"))
            })?;
            if size == 0 {
                break;
            }
            self.counted(size, content)?;
            let end = self.exactly(2)?;
            if end != b"\r\n" {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "chunk without its end"));
            }
        }
        loop {
            let line = self.line()?;
            match field(&line) {
                Some(trailer) => content.trailers.push(trailer),
                None => return Ok(()),
            }
        }
    }

    fn counted(&mut self, mut length: u64, content: &mut Content) -> io::Result<()> {
        while length > 0 {
            if self.buffer.is_empty() {
                self.more()?;
            }
            let n = self.buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            content.take(&self.buffer[..n]);
            self.buffer.drain(..n);
            length -= n as u64;
        }
        Ok(())
    }

    fn line(&mut self) -> io::Result<String> {
        let line = self.until(b"\r\n")?;
        Ok(String::from_utf8_lossy(&line[..line.len() - 2]).into_owned())
    }

    /// Takes everything up to and including `mark`.
    fn until(&mut self, mark: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|w| w == mark) {
                return Ok(self.buffer.drain(..at + mark.len()).collect());
            }
            self.more()?;
        }
    }

    fn more(&mut self) -> io::Result<()> {
        if self.fill()? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before the end of the message"));
        }
        Ok(())
    }
}
