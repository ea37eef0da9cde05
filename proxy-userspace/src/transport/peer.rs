//! The peer of a connection to an endpoint, and the watch over peers that owe an answer.
//!
//! The kernel alone would retry a silent node for a quarter of an hour. Checking each connection with each request
//! would cost a system call: instead each worker checks, four times a second, a number in memory for each of its
//! connections, and queries the kernel only for those that have been waited for longer than a second. A read of a
//! silent connection then fails.

use std::cell::RefCell;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::interim::{Bounds, Interim};
use super::tcp_info;
use crate::domain::silence::{DOUBT, Doubts, Verdict, Wait};

/// How long a connection in use may be silent before TCP sends a probe, and the interval between probes.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Half of the worker's sweep interval: a check that is due this soon after a sweep is done in that sweep.
const HALF_A_ROUND: Duration = Duration::from_millis(125);

/// The limits for the peer of a connection to an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long a peer that owes an answer may be silent.
    pub silence: Duration,
    /// How long an unused connection may be silent before TCP sends a probe, and the interval between probes.
    pub unused: (Duration, Duration),
    /// How many probes stay unanswered there before TCP gives up.
    pub probes: u32,
    /// What may arrive before each answer.
    pub interim: Bounds,
}

/// The peer of a connection to an endpoint. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    patience: Patience,
    doubts: Doubts,
    /// It has reported to its endpoint's doubts.
    doubted: AtomicBool,
    epoch: Instant,
    /// How many reads returned data.
    reads: AtomicU64,
    /// Since when it owes an answer, in milliseconds from the epoch plus one; 0 when it owes none.
    owes: AtomicU64,
    /// When the next check is due.
    due: AtomicU64,
    /// The reader must check the connection.
    asked: AtomicBool,
    /// TCP probes often.
    urged: AtomicBool,
    silent: AtomicBool,
    /// The progress of the end of the client's sending side, see [`Peer::end`].
    end: AtomicU8,
    /// The connection is to be reset.
    cut: AtomicBool,
    reader: Mutex<Option<Waker>>,
    wait: Mutex<(u64, Wait)>,
    interim: Interim,
    /// The number of its socket.
    socket: AtomicI32,
}

/// The progress of the end of the client's sending side.
#[derive(Clone, Copy, Debug)]
enum End {
    /// It has not ended.
    No = 0,
    /// It has; the connection's own is to be closed as soon as all is written.
    Due = 1,
    /// That was done.
    Done = 2,
}

impl Peer {
    /// The peer of a new connection, to the endpoint with these `doubts`.
    pub fn new(patience: Patience, doubts: Doubts) -> Self {
        Self(Arc::new(Inner {
            patience,
            doubts,
            doubted: AtomicBool::new(false),
            epoch: Instant::now(),
            reads: AtomicU64::new(0),
            owes: AtomicU64::new(0),
            due: AtomicU64::new(0),
            asked: AtomicBool::new(false),
            urged: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            end: AtomicU8::new(End::No as u8),
            cut: AtomicBool::new(false),
            reader: Mutex::default(),
            wait: Mutex::default(),
            interim: Interim::new(patience.interim),
            socket: AtomicI32::new(-1),
        }))
    }

    /// Its connection has the socket of this number.
    pub(super) fn is_on(&self, socket: RawFd) {
        self.0.socket.store(socket, Ordering::Relaxed);
    }

    /// The number of the socket that its connection has or had.
    pub fn socket(&self) -> RawFd {
        self.0.socket.load(Ordering::Relaxed)
    }

    /// How many reads have returned data so far.
    pub fn reads(&self) -> u64 {
        self.0.reads.load(Ordering::Relaxed)
    }

    /// It owes the answer to an HTTP request since `now`: interim answers before it are counted.
    pub fn owes_response(&self, now: Instant) {
        self.0.interim.is_due();
        self.owes(now);
    }

    /// Takes the heads of interim answers (1xx) that have come, whole and as they came; 100 is not among them.
    pub fn take_interim(&self) -> Option<Vec<u8>> {
        self.0.interim.take()
    }

    /// The task of `cx` is woken for each of them that comes.
    pub fn wake_for_interim(&self, cx: &Context<'_>) {
        self.0.interim.wake_for_each(cx);
    }

    /// It owes bytes since `now`, unless it owed some before. In a tunnel, nothing is known of what they are.
    pub fn owes(&self, now: Instant) {
        if self.0.owes.load(Ordering::Relaxed) == 0 {
            self.0.owes.store(self.millis(now), Ordering::Relaxed);
        }
    }

    /// It owes nothing any more.
    pub fn owes_nothing(&self) {
        self.0.owes.store(0, Ordering::Relaxed);
        self.0.interim.is_over();
        self.0.set_doubted(false);
    }

    /// The client has sent all, and has closed its sending side: the connection closes its own (FIN) as soon as all is
    /// written, and the endpoint decides. Such a connection takes no other request. Idempotent.
    pub fn end(&self) {
        if self.0.end.load(Ordering::Relaxed) == End::No as u8 {
            self.0.end.store(End::Due as u8, Ordering::Relaxed);
            self.wake();
        }
    }

    /// Whether [`Peer::end`] was called.
    pub fn has_ended(&self) -> bool {
        self.0.end.load(Ordering::Relaxed) != End::No as u8
    }

    /// Whether the sending side is to be closed now, as all is written: `true` once.
    pub(super) fn takes_end(&self) -> bool {
        let due = self.0.end.load(Ordering::Relaxed) == End::Due as u8;
        if due {
            self.0.end.store(End::Done as u8, Ordering::Relaxed);
        }
        due
    }

    /// The exchange is cut short: the connection is reset when it is closed, as the client's was.
    pub fn cut(&self) {
        self.0.cut.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Whether it is to be reset.
    pub(super) fn is_cut(&self) -> bool {
        self.0.cut.load(Ordering::Relaxed)
    }

    fn wake(&self) {
        if let Some(reader) = &*self.0.reader.lock() {
            reader.wake_by_ref();
        }
    }

    /// Whether it was given up because it was silent.
    pub fn is_silent(&self) -> bool {
        self.0.silent.load(Ordering::Relaxed)
    }

    /// Whether it was given up because it sent too much before an answer.
    pub fn is_flooding(&self) -> bool {
        self.0.interim.is_exceeded()
    }

    /// These bytes arrived from it.
    ///
    /// # Errors
    ///
    /// When more arrived before an answer than the bounds allow: now and at every later call.
    pub(super) fn said(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.reads.fetch_add(1, Ordering::Relaxed);
        match self.0.interim.came(bytes) {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, "too much came before an answer")),
        }
    }

    /// The waker of the reader from now on.
    pub(super) fn is_read_by(&self, reader: &Waker) {
        *self.0.reader.lock() = Some(reader.clone());
    }

    /// Whether the reader must check the connection.
    pub(super) fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::Relaxed)
    }

    /// Checks the kernel's state of its connection, `stream`.
    ///
    /// # Errors
    ///
    /// When it is silent, now and at every later call.
    pub(super) fn look(&self, stream: &TcpStream) -> io::Result<()> {
        let inner = &*self.0;
        let owes = inner.owes.load(Ordering::Relaxed);
        if inner.silent.load(Ordering::Relaxed) {
            return Err(silent());
        }
        inner.asked.store(false, Ordering::Relaxed);
        self.urge(stream, owes != 0);
        if owes == 0 {
            return Ok(());
        }
        let Some(signs) = tcp_info::signs(stream) else { return Ok(()) };
        let now = self.millis(Instant::now());
        let (since, wait) = &mut *inner.wait.lock();
        if *since != owes {
            (*since, *wait) = (owes, Wait::default());
        }
        let waited = Duration::from_millis(now.saturating_sub(owes));
        let (verdict, next) = wait.look(waited, signs, inner.patience.silence);
        inner.due.store(now + as_millis(next), Ordering::Relaxed);
        inner.set_doubted(verdict != Verdict::Well);
        if verdict == Verdict::Silent {
            inner.silent.store(true, Ordering::Relaxed);
            // For readers that read again.
            inner.asked.store(true, Ordering::Relaxed);
            return Err(silent());
        }
        Ok(())
    }

    /// Makes TCP probe each second, or no longer.
    fn urge(&self, stream: &TcpStream, often: bool) {
        if self.0.urged.swap(often, Ordering::Relaxed) == often {
            return;
        }
        let Patience { silence, unused: (time, interval), probes, .. } = self.0.patience;
        let keep_alive = match often {
            true => {
                // The kernel gives up later than the watch, which knows more.
                let probes = u32::try_from(silence.as_secs()).unwrap_or(u32::MAX).saturating_add(3).min(127);
                TcpKeepalive::new().with_interval(ASK_EVERY).with_retries(probes).with_time(ASK_EVERY)
            }
            false => TcpKeepalive::new().with_interval(interval).with_retries(probes).with_time(time),
        };
        // A socket that is already closed has no peer to probe.
        let _ = SockRef::from(stream).set_tcp_keepalive(&keep_alive);
    }

    /// Wakes the reader to check the connection, if that is due.
    fn visit(&self, now: Instant) {
        let inner = &*self.0;
        let owes = inner.owes.load(Ordering::Relaxed);
        let is_due = if owes == 0 {
            inner.urged.load(Ordering::Relaxed)
        } else {
            let now = self.millis(now + HALF_A_ROUND);
            now >= owes + as_millis(DOUBT) && now >= inner.due.load(Ordering::Relaxed)
        };
        if is_due
            && !inner.asked.swap(true, Ordering::Relaxed)
            && let Some(reader) = &*inner.reader.lock()
        {
            reader.wake_by_ref();
        }
    }

    fn millis(&self, at: Instant) -> u64 {
        as_millis(at.saturating_duration_since(self.0.epoch)) + 1
    }
}

impl Inner {
    fn set_doubted(&self, doubted: bool) {
        if self.doubted.load(Ordering::Relaxed) == doubted {
            return;
        }
        self.doubted.store(doubted, Ordering::Relaxed);
        if doubted { self.doubts.add() } else { self.doubts.remove() }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.set_doubted(false);
    }
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "its node is silent")
}

fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX - 1)
}

/// One worker's connections to endpoints.
#[derive(Debug, Default)]
pub struct Watch(RefCell<Vec<Peer>>);

impl Watch {
    /// Watches one more, until its connection is closed.
    pub fn add(&self, peer: Peer) {
        self.0.borrow_mut().push(peer);
    }

    /// Checks those that are waited for too long, and removes those whose connections are closed.
    pub fn sweep(&self, now: Instant) {
        self.0.borrow_mut().retain(|peer| {
            let is_there = Arc::strong_count(&peer.0) > 1;
            if is_there {
                peer.visit(now);
            }
            is_there
        });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
    use tokio::net::TcpListener;

    use super::*;
    use crate::transport::Io;

    const INTERIM: Bounds = Bounds { answers: 1, bytes: 100 };

    /// An idle connection to a healthy endpoint, its watch, and a function that returns the time after which TCP
    /// probes.
    async fn connected() -> (Io, Peer, Watch, impl Fn() -> Duration, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let unused = (Duration::from_secs(30), Duration::from_secs(5));
        SockRef::from(&stream).set_keepalive(true).unwrap();
        let copy = socket2::Socket::from(std::os::fd::AsFd::as_fd(&stream).try_clone_to_owned().unwrap());
        let patience = Patience { silence: Duration::from_secs(3), unused, probes: 3, interim: INTERIM };
        let peer = Peer::new(patience, Doubts::default());
        let watch = Watch::default();
        watch.add(peer.clone());
        let there = listener.accept().await.unwrap().0;
        (Io::to(stream, peer.clone()), peer, watch, move || copy.tcp_keepalive_time().unwrap(), there)
    }

    fn read(io: &mut Io) -> Poll<io::Result<()>> {
        let mut buffer = [0; 16];
        Pin::new(io).poll_read(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut buffer))
    }

    #[tokio::test]
    async fn tcp_probes_often_only_while_an_answer_has_been_due_for_a_second() {
        let (mut io, peer, watch, time, _there) = connected().await;
        let began = Instant::now();
        let after = |millis| began + Duration::from_millis(millis);
        peer.owes(began);
        // What it has owed since then is kept when it owes more.
        peer.owes(after(900));
        for (at, often) in [(100, false), (1000, true), (1250, true)] {
            watch.sweep(after(at));
            assert!(read(&mut io).is_pending());
            assert_eq!(time() == Duration::from_secs(1), often, "{at} ms");
        }
        peer.owes_nothing();
        watch.sweep(after(1500));
        assert!(read(&mut io).is_pending() && !peer.is_asked() && !peer.is_silent());
        assert_eq!(time(), Duration::from_secs(30));
    }

    #[tokio::test]
    async fn a_connection_on_which_too_much_came_before_an_answer_fails_and_is_cut() {
        let (mut io, peer, _watch, time, mut there) = connected().await;
        peer.owes_response(Instant::now());
        there.write_all(&b"HTTP/1.1 103\r\n\r\n".repeat(2)).await.unwrap();
        io.readable().await.unwrap();
        // At every attempt.
        for _ in 0..2 {
            let mut buffer = [0; 16];
            let read = io.read(&mut buffer).await;
            assert!(read.is_err() == peer.is_flooding(), "{read:?}");
        }
        assert!(peer.is_flooding());
        drop((io, time));
        let cut = there.read(&mut [0; 16]).await.map_err(|error| error.kind());
        assert_eq!(cut, Err(io::ErrorKind::ConnectionReset));
    }

    #[tokio::test]
    async fn bytes_of_a_tunnel_are_not_taken_for_interim_answers() {
        for bytes in [b"HTTP/1.1 103\r\n\r\n".repeat(9), vec![b'1'; 200]] {
            let (mut io, peer, _watch, _time, mut there) = connected().await;
            peer.owes(Instant::now());
            there.write_all(&bytes).await.unwrap();
            drop(there);
            let mut came = Vec::new();
            io.read_to_end(&mut came).await.unwrap();
            assert_eq!((came, peer.is_flooding()), (bytes, false));
        }
    }

    #[tokio::test]
    async fn a_connection_that_is_gone_is_watched_no_longer() {
        let (io, peer, watch, ..) = connected().await;
        peer.owes(Instant::now());
        drop((io, peer));
        watch.sweep(Instant::now());
        assert!(watch.is_empty());
    }

    #[test]
    fn doubts_end_with_the_connection_or_what_it_owes() {
        let unused = (ASK_EVERY, ASK_EVERY);
        let patience = Patience { silence: ASK_EVERY, unused, probes: 3, interim: INTERIM };
        let doubts = Doubts::default();
        let peers = [(); 2].map(|()| Peer::new(patience, doubts.clone()));
        for peer in &peers {
            peer.0.set_doubted(true);
            peer.0.set_doubted(true);
        }
        let [first, second] = peers;
        first.owes_nothing();
        assert!(doubts.any());
        drop(second);
        assert!(!doubts.any());
    }
}
