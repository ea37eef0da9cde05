//! Load: threads that ask again and again and count what they get.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use test_support::load::Threads;

use crate::client::Client;
use crate::message::{End, Request};
use crate::time::eventually;

/// What the load has seen.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Complete answers with status 200, by body.
    pub answers: BTreeMap<String, u64>,
    /// Everything else, in words, with how often.
    pub failures: BTreeMap<String, u64>,
    /// When the first and the last failure showed.
    pub failed: Option<(Instant, Instant)>,
}

impl Tally {
    /// Complete answers with status 200.
    pub fn ok(&self) -> u64 {
        self.answers.values().sum()
    }

    /// Complete answers with this body.
    pub fn from(&self, body: &str) -> u64 {
        self.answers.get(body).copied().unwrap_or_default()
    }

    /// Fails the test when anything failed, or nothing was answered.
    #[track_caller]
    pub fn expect_no_failure(&self) {
        assert!(self.failures.is_empty(), "failures under load: {self:?}");
        assert!(self.ok() > 0, "no request was answered");
    }

    /// Fails the test when anything failed but connects, which were refused from `ended` on.
    #[track_caller]
    pub fn expect_only_refused_from(&self, ended: Instant) {
        let refused = |failure: &String| failure.starts_with("connect: Connection refused");
        assert!(self.failures.keys().all(refused), "not only refused: {self:?}");
        assert!(self.failed.is_none_or(|(first, _)| first >= ended), "refused too early: {self:?}");
    }
}

/// Whether a thread keeps its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// One connection for as long as the server lets it.
    KeepAlive,
    /// A connection for each request.
    Never,
}

/// Threads under way.
pub struct Load {
    tally: Arc<Mutex<Tally>>,
    /// Each with the connection that it keeps.
    threads: Threads<Option<Client>>,
}

impl Load {
    /// Four keep-alive connections that repeat a GET to `url` through the proxy at `proxy`.
    pub fn get(proxy: SocketAddr, url: &str) -> Self {
        Self::start(4, Reuse::KeepAlive, &Request::get(url), move || TcpStream::connect(proxy))
    }

    /// `threads` threads that repeat `request` over connections made by `connect`.
    pub fn start(
        threads: usize,
        reuse: Reuse,
        request: &Request,
        connect: impl Fn() -> io::Result<TcpStream> + Send + Sync + 'static,
    ) -> Self {
        Self::begin(threads, Duration::ZERO, reuse, request, connect)
    }

    /// `threads` threads that together send `request` so many times a second, over keep-alive connections. A thread that
    /// is late makes up for it.
    pub fn paced(
        threads: usize,
        per_second: u32,
        request: &Request,
        connect: impl Fn() -> io::Result<TcpStream> + Send + Sync + 'static,
    ) -> Self {
        let every = Duration::from_secs(1) * u32::try_from(threads).unwrap() / per_second;
        Self::begin(threads, every, Reuse::KeepAlive, request, connect)
    }

    /// `every` is how often each thread asks; zero for as often as it can.
    fn begin(
        threads: usize,
        every: Duration,
        reuse: Reuse,
        request: &Request,
        connect: impl Fn() -> io::Result<TcpStream> + Send + Sync + 'static,
    ) -> Self {
        let (tally, connect) = (Arc::<Mutex<Tally>>::default(), Arc::new(connect));
        let (threads, request, seen) = (u32::try_from(threads).unwrap(), request.clone(), tally.clone());
        let ask = move |client: &mut _, _| once(client, reuse, &request, &*connect, &seen);
        Self { tally, threads: Threads::start(threads, every, || None, ask) }
    }

    /// What was seen so far.
    pub fn tally(&self) -> Tally {
        self.tally.lock().unwrap().clone()
    }

    /// Waits for `n` more complete answers.
    #[track_caller]
    pub fn answered(&self, n: u64) -> &Self {
        let goal = self.tally().ok() + n;
        eventually(&format!("{goal} answers under load"), || self.tally().ok() >= goal);
        self
    }

    /// Ends the threads and returns what they saw.
    pub fn stop(self) -> Tally {
        self.threads.stop();
        self.tally.lock().unwrap().clone()
    }
}

fn once(
    client: &mut Option<Client>,
    reuse: Reuse,
    request: &Request,
    connect: &dyn Fn() -> io::Result<TcpStream>,
    tally: &Mutex<Tally>,
) {
    let note = |failure: String| {
        let (mut tally, now) = (tally.lock().unwrap(), Instant::now());
        *tally.failures.entry(failure).or_default() += 1;
        tally.failed.get_or_insert((now, now)).1 = now;
    };
    let mut open = match client.take() {
        Some(open) => open,
        None => match connect() {
            Ok(stream) => Client::over(stream),
            Err(e) => {
                note(format!("connect: {e}"));
                // Being refused takes no time, and would leave none to whoever is to listen again.
                return std::thread::sleep(Duration::from_millis(1));
            }
        },
    };
    match open.start(request).try_response() {
        Err(e) => note(format!("no answer: {e}")),
        Ok(answer) if answer.end == End::Truncated => note(format!("{} cut short", answer.status)),
        Ok(answer) if answer.status != 200 => note(format!("{} {}", answer.status, answer.l5d_err())),
        Ok(answer) => {
            *tally.lock().unwrap().answers.entry(answer.text()).or_default() += 1;
            if reuse == Reuse::KeepAlive && !answer.head.lists("connection", "close") {
                *client = Some(open);
            }
        }
    }
}
