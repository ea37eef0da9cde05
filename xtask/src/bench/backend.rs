//! The backends: three ports, one thread, one constant answer. As little work as an answer can be.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

use crate::os::cpu;
use crate::os::epoll::Epoll;

/// The answer: a small head and 13 bytes.
pub(crate) const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 13\r\n\r\nHello, World!";

const LISTENERS: usize = 3;

/// The running backends; they stop when this is dropped.
pub(crate) struct Backends {
    pub(crate) addresses: Vec<SocketAddr>,
    thread_id: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Backends {
    /// Starts them on loopback, their thread tied to `core`.
    pub(crate) fn start(core: usize) -> Result<Self> {
        let listeners: Vec<TcpListener> =
            (0..LISTENERS).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
        let (thread_id, stop) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::Builder::new().name("backends".to_owned()).spawn({
            let (thread_id, stop) = (Arc::clone(&thread_id), Arc::clone(&stop));
            move || {
                cpu::pin_thread(core).expect("the core is one we may use");
                thread_id.store(cpu::thread_id(), Ordering::Relaxed);
                serve(&listeners, &stop).expect("serving on loopback does not fail");
            }
        })?;
        Ok(Self { addresses, thread_id, stop, thread: Some(thread) })
    }

    /// CPU time their thread has had.
    pub(crate) fn cpu(&self) -> Duration {
        cpu::of_thread(self.thread_id.load(Ordering::Relaxed))
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

fn serve(listeners: &[TcpListener], stop: &AtomicBool) -> std::io::Result<()> {
    let mut epoll = Epoll::new()?;
    for (token, listener) in listeners.iter().enumerate() {
        listener.set_nonblocking(true)?;
        epoll.add(listener, token)?;
    }
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut ready: Vec<usize> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        ready.extend(epoll.wait(Duration::from_millis(100))?);
        for token in ready.drain(..) {
            if let Some(listener) = listeners.get(token) {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let slot = free.pop().unwrap_or_else(|| {
                        connections.push(None);
                        connections.len() - 1
                    });
                    epoll.add(&stream, LISTENERS + slot)?;
                    connections[slot] = Some(Connection { stream, buffer: Vec::with_capacity(1024) });
                }
            } else {
                let slot = token - LISTENERS;
                if connections[slot].as_mut().is_some_and(|connection| !answer(connection)) {
                    connections[slot] = None;
                    free.push(slot);
                }
            }
        }
    }
    Ok(())
}

/// Answers the requests that have come; false when the connection is over.
fn answer(connection: &mut Connection) -> bool {
    let mut chunk = [0; 4096];
    let count = match connection.stream.read(&mut chunk) {
        Ok(0) => return false,
        Ok(count) => count,
        Err(error) => return error.kind() == ErrorKind::WouldBlock,
    };
    let mut input = &chunk[..count];
    // The usual case: exactly one request, whole, and nothing kept from before.
    if !connection.buffer.is_empty() {
        connection.buffer.extend_from_slice(input);
        input = &connection.buffer;
    }
    let mut done = 0;
    let mut last = false;
    while let Some(end) = head_end(&input[done..]) {
        last |= contains(&input[done..done + end], b"onnection: close");
        if connection.stream.write_all(ANSWER).is_err() {
            return false;
        }
        done += end;
    }
    let rest = input[done..].to_vec();
    connection.buffer = rest;
    !last
}

/// Where the head ends, blank line included.
pub(super) fn head_end(input: &[u8]) -> Option<usize> {
    if input.ends_with(b"\r\n\r\n") && !contains(&input[..input.len() - 4], b"\r\n\r\n") {
        return Some(input.len());
    }
    input.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_answered_whole_split_and_pipelined() {
        let backends = Backends::start(cpu::Cores::choose().unwrap().load).unwrap();
        let mut stream = TcpStream::connect(backends.addresses[2]).unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let mut answer = vec![0; ANSWER.len()];
        for part in [&request[..5], &request[5..20], &[&request[20..], request, request].concat()] {
            stream.write_all(part).unwrap();
        }
        for _ in 0..3 {
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, ANSWER);
        }
        stream.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(stream.read(&mut answer).unwrap(), 0);
    }
}
