//! The backends of large bodies: a GET is answered with 1 MB, anything else with a few bytes once its body has come.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::Result;

use super::super::backend::{ANSWER, head_end};
use super::BODY;
use crate::os::discard::discard;

const LISTENERS: usize = 3;

/// The running backends; they take no more connections when this is dropped.
pub(crate) struct Backends {
    pub(crate) addresses: Vec<SocketAddr>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Backends {
    /// Starts them on loopback, on the core of the calling thread.
    pub(crate) fn start() -> Result<Self> {
        let mut answer =
            format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {BODY}\r\n\r\n")
                .into_bytes();
        answer.resize(answer.len() + BODY, b'x');
        let (answer, stop) = (Arc::new(answer), Arc::new(AtomicBool::new(false)));
        let mut started = Self { addresses: Vec::new(), stop, threads: Vec::new() };
        for _ in 0..LISTENERS {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            started.addresses.push(listener.local_addr()?);
            let (answer, stop) = (Arc::clone(&answer), Arc::clone(&started.stop));
            started.threads.push(thread::spawn(move || accept(&listener, &answer, &stop)));
        }
        Ok(started)
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for (address, thread) in self.addresses.iter().zip(self.threads.drain(..)) {
            // It waits for a connection.
            if TcpStream::connect(address).is_ok() {
                let _ = thread.join();
            }
        }
    }
}

fn accept(listener: &TcpListener, answer: &Arc<Vec<u8>>, stop: &AtomicBool) {
    while let Ok((stream, _)) = listener.accept() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let answer = Arc::clone(answer);
        // It ends with its connection, and a connection that breaks is the load's to report.
        thread::spawn(move || serve(stream, &answer));
    }
}

fn serve(mut stream: TcpStream, answer: &[u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    while let Some((head, came)) = read_head(&stream)? {
        let mut left = content_length(&head).unwrap_or(0).saturating_sub(came);
        while left > 0 {
            match discard(&stream, left)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => left -= count,
            }
        }
        stream.write_all(if head.starts_with(b"GET ") { answer } else { ANSWER })?;
    }
    Ok(())
}

/// The next head, and how many bytes of the body came with it; none at the end of the stream.
pub(super) fn read_head(mut stream: &TcpStream) -> io::Result<Option<(Vec<u8>, usize)>> {
    let mut head = Vec::with_capacity(4096);
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk)? {
            0 if head.is_empty() => return Ok(None),
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => head.extend_from_slice(&chunk[..count]),
        }
        if let Some(end) = head_end(&head) {
            let came = head.len() - end;
            head.truncate(end);
            return Ok(Some((head, came)));
        }
    }
}

pub(super) fn content_length(head: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(head).ok()?;
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let (_, length) = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    length.trim().parse().ok()
}
