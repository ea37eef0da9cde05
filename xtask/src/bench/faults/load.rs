//! Load at a fixed rate from the client's pod: some connections, a thread for each, which notes what became of every request.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use test_support::load::Threads;

use super::scene::{PROXY, Scene};
use crate::bench::backend::head_end;
use crate::process::Running;

/// Connections of one load.
pub(super) const THREADS: u32 = 16;

/// Longer than any request may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked again and again.
#[derive(Clone)]
pub(super) struct Request {
    host: &'static str,
    bytes: Vec<u8>,
    closes: bool,
    weir: Option<u32>,
}

impl Request {
    pub(super) fn get(host: &'static str) -> Self {
        let bytes = format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
        Self { host, bytes, closes: false, weir: None }
    }

    /// One that nobody may send twice.
    pub(super) fn post(host: &'static str) -> Self {
        let bytes = format!("POST http://{host}/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\n\r\nx");
        Self { host, bytes: bytes.into_bytes(), closes: false, weir: None }
    }

    /// The same on a connection of its own.
    pub(super) fn closing(self) -> Self {
        Self { closes: true, ..self }
    }

    /// Tells refusals by what this process is from those where it is not any more.
    pub(super) fn watching(self, weir: &Running) -> Self {
        Self { weir: Some(weir.pid()), ..self }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A whole 200.
    Ok,
    /// A whole answer of another status.
    Status(u16),
    /// There was no connection: nobody listened.
    Refused,
    /// The same, while the process was there that was to listen.
    TurnedAway,
    /// The connection broke, or was silent for longer than anyone may be.
    Broken,
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) host: &'static str,
    /// When it was to be sent.
    pub(super) due: Instant,
    /// When it was sent: later, where the one before it took long.
    pub(super) sent: Instant,
    /// From then to its end.
    pub(super) took: Duration,
    pub(super) end: End,
}

/// Load under way.
pub(super) struct Load(Threads<Client>);

/// A thread of it: the connection that it keeps, and what it saw.
#[derive(Default)]
struct Client {
    connection: Option<TcpStream>,
    samples: Vec<Sample>,
}

impl Load {
    /// Sends `request` so many times a second.
    pub(super) fn start(scene: &Scene, request: Request, rate: u32) -> Self {
        let every = Duration::from_secs(1) * THREADS / rate;
        let enter = scene.node.pods[scene.client].netns.entrance();
        let begin = move || {
            enter().expect("the client's namespace");
            Client::default()
        };
        let ask = move |client: &mut Client, due| {
            let sent = Instant::now();
            let end = once(&request, &mut client.connection);
            client.samples.push(Sample { host: request.host, due, sent, took: sent.elapsed(), end });
        };
        Self(Threads::start(THREADS, every, begin, ask))
    }

    /// Ends it, and returns what it saw.
    pub(super) fn stop(self) -> Vec<Sample> {
        self.0.stop().into_iter().flat_map(|client| client.samples).collect()
    }
}

fn once(request: &Request, connection: &mut Option<TcpStream>) -> End {
    let mut stream = match connection.take().map_or_else(connect, Ok) {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            return if request.weir.is_some_and(is_there) { End::TurnedAway } else { End::Refused };
        }
        Err(_) => return End::Broken,
    };
    match exchange(&mut stream, &request.bytes) {
        Ok((status, closes)) => {
            if !closes && !request.closes {
                *connection = Some(stream);
            }
            if status == 200 { End::Ok } else { End::Status(status) }
        }
        Err(_) => End::Broken,
    }
}

/// Whether a process is there. One that ends gives back its memory before it closes what it has open, and shows no command
/// line from then on.
fn is_there(process: u32) -> bool {
    std::fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|it| !it.is_empty())
}

fn connect() -> Result<TcpStream> {
    let stream = TcpStream::connect(PROXY)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The status of the answer, once it is whole, and whether the connection ends with it.
fn exchange(stream: &mut TcpStream, request: &[u8]) -> Result<(u16, bool)> {
    stream.write_all(request)?;
    let (mut answer, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        answer.extend_from_slice(&chunk[..count]);
        let Some(end) = head_end(&answer) else { continue };
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let length: usize = field("content-length:").and_then(|it| it.parse().ok()).unwrap_or(0);
        if answer.len() >= end + length {
            let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
            let closes = field("connection:").is_some_and(|it| it.contains("close"));
            return Ok((status.ok_or(ErrorKind::InvalidData)?, closes));
        }
    }
}

/// So large a share of the requests took at most this long, in milliseconds.
pub(super) fn quantile(samples: &[Sample], share: f64) -> f64 {
    let mut times: Vec<Duration> = samples.iter().map(|it| it.took).collect();
    times.sort_unstable();
    let at = (times.len() as f64 * share).ceil() as usize;
    times.get(at.saturating_sub(1)).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_requests_is_counted_from_the_quickest() {
        let at = Instant::now();
        let sample =
            |ms| Sample { host: "a", due: at, sent: at, took: Duration::from_millis(ms), end: End::Ok };
        let samples: Vec<_> = (1..=1000).rev().map(sample).collect();
        for (share, ms) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0)] {
            assert_eq!(quantile(&samples, share), ms);
        }
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
