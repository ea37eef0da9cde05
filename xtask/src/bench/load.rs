//! The load generator: one thread, many connections, latencies kept one by one.
//!
//! Three shapes of load. Closed: every connection asks again as soon as it was answered, which shows what a request
//! costs. Fixed rate: requests arrive when they arrive, and a late answer's latency counts from the moment the request
//! was due, so that a stall is not hidden by the requests that were not sent during it. Fresh: one connection per
//! request.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::backend::head_end;
use crate::os::epoll::{Epoll, exact_timers};

/// The shape of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Closed,
    /// Requests per second.
    FixedRate(u32),
    Fresh,
}

/// What to send where, for how long.
#[derive(Clone)]
pub(crate) struct Plan<'a> {
    pub(crate) addresses: &'a [SocketAddr],
    pub(crate) request: &'a [u8],
    pub(crate) connections: usize,
    pub(crate) shape: Shape,
    pub(crate) warm_up: Duration,
    pub(crate) length: Duration,
    /// Ends the run after so many answers, warm-up included.
    pub(crate) limit: Option<u64>,
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Answers within the measured time.
    pub(crate) answers: u64,
    /// Answers in all.
    pub(crate) all: u64,
    pub(crate) seconds: f64,
    /// In nanoseconds, sorted.
    latencies: Vec<u64>,
}

impl Seen {
    /// The latency that this share (0 to 1) of the answers did not exceed, in microseconds.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let index = (self.latencies.len() as f64 * share) as usize;
        self.latencies
            .get(index.min(self.latencies.len().saturating_sub(1)))
            .map_or(0.0, |nanos| *nanos as f64 / 1e3)
    }
}

struct Connection {
    stream: TcpStream,
    buffer: [u8; 2048],
    filled: usize,
    /// When the request now under way was due; `None` while idle.
    due: Option<Instant>,
}

struct Run<'a> {
    plan: &'a Plan<'a>,
    epoll: Epoll,
    connections: Vec<Connection>,
    idle: Vec<usize>,
    /// The length of an answer, once one was read with care.
    expected: usize,
    measuring: bool,
    /// No request is sent any more.
    ending: bool,
    seen: Seen,
}

/// Runs the plan on the calling thread. `edge` is called at the beginning and at the end of the measured time.
pub(crate) fn run(plan: &Plan<'_>, edge: impl FnMut()) -> Result<Seen> {
    Ok(run_through(plan, edge)?.seen)
}

/// The same, for a closed loop; returns its connections once every request was answered.
pub(crate) fn run_and_keep(plan: &Plan<'_>) -> Result<Vec<TcpStream>> {
    let mut run = run_through(plan, || ())?;
    run.ending = true;
    let mut arrivals = Arrivals { next: Instant::now(), gap: Duration::ZERO };
    let deadline = Instant::now() + Duration::from_secs(10);
    while run.idle.len() < run.connections.len() {
        if Instant::now() >= deadline {
            bail!("a request was not answered");
        }
        run.pump(Instant::now() + Duration::from_millis(10), &mut arrivals)?;
    }
    Ok(run.connections.into_iter().map(|connection| connection.stream).collect())
}

fn run_through<'a>(plan: &'a Plan<'a>, mut edge: impl FnMut()) -> Result<Run<'a>> {
    exact_timers();
    let mut run = Run {
        plan,
        epoll: Epoll::new()?,
        connections: Vec::with_capacity(plan.connections),
        idle: Vec::new(),
        expected: 0,
        measuring: false,
        ending: false,
        seen: Seen { latencies: Vec::with_capacity(1 << 18), ..Seen::default() },
    };
    for token in 0..plan.connections {
        let connection = run.connect(token)?;
        run.connections.push(connection);
    }
    let begun = Instant::now();
    let mut arrivals = Arrivals { next: begun, gap: Duration::ZERO };
    match plan.shape {
        Shape::FixedRate(rate) => {
            arrivals.gap = Duration::from_secs(1) / rate;
            run.idle.extend(0..plan.connections);
        }
        Shape::Closed | Shape::Fresh => {
            (0..plan.connections).try_for_each(|token| run.send(token, Instant::now()))?
        }
    }
    run.pump(begun + plan.warm_up, &mut arrivals)?;
    edge();
    run.measuring = true;
    let measured = Instant::now();
    run.pump(measured + plan.length, &mut arrivals)?;
    run.seen.seconds = measured.elapsed().as_secs_f64();
    edge();
    run.seen.latencies.sort_unstable();
    Ok(run)
}

struct Arrivals {
    next: Instant,
    gap: Duration,
}

impl Run<'_> {
    fn connect(&self, token: usize) -> Result<Connection> {
        let address = self.plan.addresses[token % self.plan.addresses.len()];
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        self.epoll.add(&stream, token)?;
        Ok(Connection { stream, buffer: [0; 2048], filled: 0, due: None })
    }

    fn send(&mut self, token: usize, due: Instant) -> Result<()> {
        let connection = &mut self.connections[token];
        connection.due = Some(due);
        // A small request into an empty socket buffer is taken whole.
        connection
            .stream
            .write_all(self.plan.request)
            .context("the proxy closed a connection between requests")
    }

    fn pump(&mut self, until: Instant, arrivals: &mut Arrivals) -> Result<()> {
        let fixed_rate = matches!(self.plan.shape, Shape::FixedRate(_));
        let mut ready = Vec::with_capacity(256);
        loop {
            let now = Instant::now();
            if now >= until || self.plan.limit.is_some_and(|limit| self.seen.all >= limit) {
                return Ok(());
            }
            let mut wake = until;
            if fixed_rate {
                while arrivals.next <= now
                    && let Some(token) = self.idle.pop()
                {
                    self.send(token, arrivals.next)?;
                    arrivals.next += arrivals.gap;
                }
                if !self.idle.is_empty() {
                    wake = wake.min(arrivals.next);
                }
            }
            let wait = wake.saturating_duration_since(Instant::now()).min(Duration::from_secs(5));
            ready.extend(self.epoll.wait(wait)?);
            for token in ready.drain(..) {
                self.readable(token)?;
            }
        }
    }

    fn readable(&mut self, token: usize) -> Result<()> {
        let connection = &mut self.connections[token];
        match connection.stream.read(&mut connection.buffer[connection.filled..]) {
            Ok(0) if self.plan.shape == Shape::Fresh && connection.due.is_none() => return self.renew(token),
            Ok(0) => bail!(
                "a connection was closed: {}",
                String::from_utf8_lossy(&connection.buffer[..connection.filled])
            ),
            Ok(count) => connection.filled += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("reading an answer"),
        }
        if connection.filled < self.expected || !is_whole(&connection.buffer[..connection.filled])? {
            return Ok(());
        }
        self.expected = connection.filled;
        connection.filled = 0;
        let due = connection.due.take().context("an answer that nobody asked for")?;
        self.seen.all += 1;
        if self.measuring {
            self.seen.answers += 1;
            self.seen.latencies.push(due.elapsed().as_nanos() as u64);
        }
        match self.plan.shape {
            Shape::Closed if !self.ending => self.send(token, Instant::now()),
            Shape::Closed | Shape::FixedRate(_) => {
                self.idle.push(token);
                Ok(())
            }
            // The end of the stream follows.
            Shape::Fresh => Ok(()),
        }
    }

    fn renew(&mut self, token: usize) -> Result<()> {
        let due = Instant::now();
        self.connections[token] = self.connect(token)?;
        self.send(token, due)
    }
}

/// Whether the answer is all there. Anything but a 200 with 13 bytes is an error: a bench of errors is none.
fn is_whole(answer: &[u8]) -> Result<bool> {
    const BODY: &[u8] = b"Hello, World!";
    let Some(end) = head_end_of_answer(answer) else { return Ok(false) };
    if !answer.starts_with(b"HTTP/1.1 200") {
        bail!("not a 200: {}", String::from_utf8_lossy(answer));
    }
    let body = &answer[end..];
    if body.len() > BODY.len() || !BODY.starts_with(body) {
        bail!("not the body: {}", String::from_utf8_lossy(answer));
    }
    Ok(body.len() == BODY.len())
}

/// A whole answer ends 13 bytes after its head, so that is where to look first.
fn head_end_of_answer(answer: &[u8]) -> Option<usize> {
    match answer.len().checked_sub(13) {
        Some(end) if answer[..end].ends_with(b"\r\n\r\n") => Some(end),
        _ => head_end(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::super::backend::Backends;
    use super::*;
    use crate::os::cpu::Cores;

    fn plan<'a>(addresses: &'a [SocketAddr], shape: Shape, request: &'a [u8]) -> Plan<'a> {
        let (warm_up, length) = (Duration::from_millis(20), Duration::from_millis(200));
        Plan { addresses, request, connections: 8, shape, warm_up, length, limit: None }
    }

    #[test]
    fn every_shape_of_load_is_answered() {
        let backends = Backends::start(Cores::choose().unwrap().load).unwrap();
        let keep = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".as_slice();
        let close = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n".as_slice();
        let mut edges = 0;
        let closed = run(&plan(&backends.addresses, Shape::Closed, keep), || edges += 1).unwrap();
        let rate = run(&plan(&backends.addresses, Shape::FixedRate(500), keep), || edges += 1).unwrap();
        let fresh = run(&plan(&backends.addresses, Shape::Fresh, close), || edges += 1).unwrap();
        assert!(closed.answers > rate.answers, "{closed:?}");
        assert!((50..=120).contains(&rate.answers), "{}", rate.answers);
        assert!(fresh.answers > 10, "{}", fresh.answers);
        assert!(rate.quantile(0.99) >= rate.quantile(0.5));
        assert_eq!(edges, 6);
    }

    #[test]
    fn connections_that_are_kept_have_had_their_answers() {
        let backends = Backends::start(Cores::choose().unwrap().load).unwrap();
        let keep = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".as_slice();
        let kept = run_and_keep(&plan(&backends.addresses, Shape::Closed, keep)).unwrap();
        assert_eq!(kept.len(), 8);
        for mut stream in kept {
            assert_eq!(stream.read(&mut [0; 16]).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn an_error_is_not_counted_as_an_answer() {
        assert!(is_whole(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").is_err());
        assert!(is_whole(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nother").is_err());
        assert!(!is_whole(b"HTTP/1.1 200 OK\r\ncontent-le").unwrap());
        assert!(!is_whole(b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nHello").unwrap());
        assert!(is_whole(b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nHello, World!").unwrap());
    }
}
