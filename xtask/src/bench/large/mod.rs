//! Bodies of 1 MB, both ways, as requests and within byte tunnels: a few connections that ask again as soon as they were
//! answered.
//!
//! One blocking thread for each connection, on both sides of the proxy. What comes is dropped in the kernel and what goes
//! is written from one buffer, so the load and the backends need a fraction of the CPU that a proxy does.

mod backend;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::target::{HEAD, Target, Who};
use crate::os::discard::discard;
pub(crate) use backend::Backends;
use backend::{content_length, read_head};

/// Bytes of a large body.
pub(crate) const BODY: usize = 1 << 20;
/// Written at once: what is under way when a window ends is counted to within this.
const PIECE: usize = 128 * 1024;
const CONNECTIONS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(30);

/// Which way the large body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A GET whose answer is large.
    Get,
    /// A POST that is large itself.
    Post,
}

/// What the proxy knows of the bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum As {
    /// Requests.
    Requests,
    /// Bytes of a tunnel.
    Bytes,
}

/// What was seen within the measured time.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Bodies; parts of one count as such.
    pub(crate) bodies: f64,
    pub(crate) seconds: f64,
    /// CPU time of the proxy.
    pub(crate) proxy: Duration,
}

/// Loads `target` for `length`, after `warm_up`.
pub(crate) fn run(target: &Target, way: Way, kind: As, warm_up: Duration, length: Duration) -> Result<Seen> {
    let (stop, moved) = (AtomicBool::new(false), AtomicU64::new(0));
    let (stop, moved) = (&stop, &moved);
    let place = if kind == As::Bytes { "/".to_owned() } else { target.who.place("large") };
    let request = request(&place, way);
    let request = request.as_slice();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|index| {
                scope.spawn(move || {
                    let mut client = Client::begin(target, kind, index)?;
                    client.ask(request, way, moved, || stop.load(Ordering::Relaxed))
                })
            })
            .collect();
        thread::sleep(warm_up);
        let (begun, before, cpu) = (Instant::now(), moved.load(Ordering::Relaxed), target.cpu()?);
        thread::sleep(length);
        let (after, cpu_after) = (moved.load(Ordering::Relaxed), target.cpu()?);
        let seconds = begun.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().map_err(|_| anyhow!("a client panicked"))??;
        }
        let bodies = (after - before) as f64 / BODY as f64;
        Ok(Seen { bodies, seconds, proxy: cpu_after.saturating_sub(cpu) })
    })
}

/// So many connections to `target` that have had one large body each way, open and idle.
pub(crate) fn leave_idle(target: &Target, connections: usize) -> Result<Vec<TcpStream>> {
    let mut idle = Vec::with_capacity(connections);
    for index in 0..connections {
        let mut client = Client::connect(target.large[index % target.large.len()])?;
        for way in [Way::Get, Way::Post] {
            let mut asked = false;
            let moved = AtomicU64::new(0);
            client.ask(&request(&target.who.place("large"), way), way, &moved, || {
                std::mem::replace(&mut asked, true)
            })?;
        }
        idle.push(client.stream);
    }
    Ok(idle)
}

fn request(place: &str, way: Way) -> Vec<u8> {
    match way {
        Way::Get => format!("GET {place} HTTP/1.1\r\nHost: large\r\n{HEAD}\r\n").into_bytes(),
        Way::Post => {
            let mut request =
                format!("POST {place} HTTP/1.1\r\nHost: large\r\n{HEAD}Content-Length: {BODY}\r\n\r\n")
                    .into_bytes();
            request.resize(request.len() + BODY, b'x');
            request
        }
    }
}

struct Client {
    stream: TcpStream,
}

impl Client {
    /// The connection of this number.
    fn begin(target: &Target, kind: As, index: usize) -> Result<Self> {
        match (kind, target.tunnel) {
            (As::Requests, _) | (As::Bytes, None) => Self::connect(target.large[index % target.large.len()]),
            (As::Bytes, Some(address)) => {
                let client = Self::connect(address)?;
                if target.who != Who::Haproxy {
                    (&client.stream).write_all(b"CONNECT large:80 HTTP/1.1\r\nHost: large:80\r\n\r\n")?;
                    let (head, _) = read_head(&client.stream)?.context("the proxy closed a connection")?;
                    if !head.starts_with(b"HTTP/1.1 200") {
                        bail!("no tunnel: {}", String::from_utf8_lossy(&head));
                    }
                }
                Ok(client)
            }
        }
    }

    fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream })
    }

    /// Asks until told to stop, and counts in `moved` the bytes of large bodies.
    fn ask(
        &mut self,
        request: &[u8],
        way: Way,
        moved: &AtomicU64,
        mut stop: impl FnMut() -> bool,
    ) -> Result<()> {
        let large = |there, count: usize| {
            if way == there {
                moved.fetch_add(count as u64, Ordering::Relaxed);
            }
        };
        while !stop() {
            for piece in request.chunks(PIECE) {
                self.stream.write_all(piece).context("sending a request")?;
                large(Way::Post, piece.len());
            }
            let (head, came) = read_head(&self.stream)?.context("the proxy closed a connection")?;
            let length = content_length(&head).unwrap_or(0);
            let wanted = if way == Way::Get { length == BODY } else { length < PIECE };
            if !head.starts_with(b"HTTP/1.1 200") || !wanted {
                bail!("not the answer: {}", String::from_utf8_lossy(&head));
            }
            large(Way::Get, came);
            let mut left = length - came;
            while left > 0 {
                match discard(&self.stream, left)? {
                    0 => bail!("an answer was cut short"),
                    count => {
                        large(Way::Get, count);
                        left -= count;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_pass_both_ways_and_are_counted() {
        let backends = Backends::start().unwrap();
        let target = Target::direct(&[], &backends.addresses);
        for way in [Way::Get, Way::Post] {
            let seen = run(&target, way, As::Requests, Duration::from_millis(20), Duration::from_millis(200))
                .unwrap();
            assert!(seen.bodies > 1.0 && seen.seconds >= 0.2, "{way:?}: {seen:?}");
        }
        assert_eq!(leave_idle(&target, 3).unwrap().len(), 3);
    }

    #[test]
    fn an_error_is_no_large_answer() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            read_head(&stream).unwrap();
            stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").unwrap();
        });
        let request = b"GET / HTTP/1.1\r\n\r\n";
        let asked = Client::connect(address).unwrap().ask(request, Way::Get, &AtomicU64::new(0), || false);
        assert!(asked.unwrap_err().to_string().contains("503"));
        server.join().unwrap();
    }
}
