//! Little memory, and clients that hold much of it: weir lives, and who holds little is served. Tests of their own, since they
//! use the machine as others do not.
#![allow(clippy::unwrap_used, reason = "these are tests")]
#![allow(clippy::disallowed_types, reason = "a test that meets a poisoned lock is to fail")]

mod budget; // Attacks on the memory of all.
mod large; // One service with very many endpoints.
mod mob; // Many small attackers beside a larger pod.
mod moving; // Attacks that never stand still, beside somebody with many requests.
mod pages; // Slow readers of large pages.
mod unused; // What nobody uses.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::net::cgroup::MemoryCgroup;
use e2e::net::is_root;
use e2e::weir::Builder;
use e2e::{Client, Weir, raw};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The address that attackers connect from; the victim has another one.
const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// The one that the victim connects from, where it has no other.
const VICTIM: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const MIB: u64 = 1 << 20;

/// How many descriptors these tests need: more than a process has by default.
const DESCRIPTORS: u64 = 16_384;

/// Raises what this process, and whatever it starts, may have open.
fn more_descriptors() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if soft < DESCRIPTORS {
        let hard = if is_root() { hard.max(DESCRIPTORS) } else { hard };
        assert!(hard >= DESCRIPTORS, "these tests need {DESCRIPTORS} descriptors (ulimit -Hn)");
        setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, hard).expect("more descriptors");
    }
}

/// Asks so many times at once for `http://many/`, whose endpoints refuse.
fn ask(weir: &Weir, times: usize) {
    std::thread::scope(|scope| {
        for _ in 0..times {
            scope.spawn(|| {
                weir.get("http://many/").expect_status(502);
            });
        }
    });
}

/// A weir that may use so many MiB; `None` where the test may not limit it.
fn limited(builder: Builder, mib: u64) -> Option<Weir> {
    more_descriptors();
    if !is_root() {
        return None;
    }
    let cgroup = MemoryCgroup::new(mib * MIB).expect("a cgroup with a limit of memory");
    Some(builder.with_memory(cgroup).start())
}

/// How long an attack may take until weir is seen to do something against it: a machine that is busy with other work lets
/// it begin late.
const MOST: Duration = Duration::from_secs(60);

/// Whether an attack that began at `clock` goes on: for `span`, and until it `is_seen`.
fn goes_on(clock: Instant, span: Duration, is_seen: impl FnOnce() -> bool) -> bool {
    clock.elapsed() < span || (clock.elapsed() < MOST && !is_seen())
}

/// Asks for `http://hello/` again and again, over a connection of its own each time, while `attack` goes on: for `span`, and
/// until it `is_seen`. Returns how many requests there were, and what was not a 200.
fn victim_during(
    weir: &Weir,
    span: Duration,
    is_seen: impl Fn(&Weir) -> bool,
    attack: impl FnOnce(&AtomicBool) + Send,
) -> (usize, Vec<String>) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let attacking = scope.spawn(|| attack(&over));
        let ends = Over(&over);
        let clock = Instant::now();
        let (mut asked, mut failed) = (0, Vec::new());
        while goes_on(clock, span, || !failed.is_empty() || is_seen(weir)) {
            asked += 1;
            failed.extend(ask_once(weir, VICTIM, "hello").err());
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(ends);
        attacking.join().expect("the attacker");
        (asked, failed)
    })
}

/// Asks for this host over a connection of its own, from this address. The error is whatever is not a 200.
fn ask_once(weir: &Weir, from: IpAddr, host: &str) -> Result<(), String> {
    let stream = raw::connect_as(from, weir.outgoing()).map_err(|why| why.to_string())?;
    let mut client = Client::over(stream);
    client.send(format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    match client.try_response() {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(format!("{} {}", answer.status, answer.text())),
        Err(why) => Err(why.to_string()),
    }
}

/// Ends an attack when dropped, also by a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// An attacker's connection, which never waits.
struct Attacker {
    stream: TcpStream,
    /// How much it has written of what it is to write.
    written: usize,
}

impl Attacker {
    /// None where weir takes no more connections.
    fn to(weir: SocketAddr) -> Option<Self> {
        Self::from(ATTACKER, weir)
    }

    /// The same from this address.
    fn from(own: IpAddr, weir: SocketAddr) -> Option<Self> {
        let stream = raw::connect_as(own, weir).ok()?;
        stream.set_nonblocking(true).ok()?;
        Some(Self { stream, written: 0 })
    }

    /// Writes what the connection takes of the rest of `bytes`; false once it is closed.
    fn writes(&mut self, bytes: &[u8]) -> bool {
        let rest = bytes.get(self.written..).unwrap_or_default();
        let written = feed(&self.stream, rest);
        self.written += written.unwrap_or(0);
        written.is_some()
    }

    /// Reads into `piece`; none once the connection is closed, and 0 where nothing has come.
    fn reads(&mut self, piece: &mut [u8]) -> Option<usize> {
        match self.stream.read(piece) {
            Ok(0) => None,
            Ok(read) => Some(read),
            Err(why) => (why.kind() == ErrorKind::WouldBlock).then_some(0),
        }
    }

    /// Whether weir has closed the connection, or has answered on it.
    fn is_over(&self) -> bool {
        match self.stream.peek(&mut [0]) {
            Ok(_) => true,
            Err(why) => why.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// Writes what the connection takes of `bytes`. Returns how much that was; `None` when it is closed.
fn feed(mut stream: &TcpStream, bytes: &[u8]) -> Option<usize> {
    match stream.write(bytes) {
        Ok(written) => Some(written),
        Err(why) => (why.kind() == ErrorKind::WouldBlock).then_some(0),
    }
}

/// An attack: so many connections at most, of which so many are opened at once, and the pause between two rounds.
struct Attack {
    most: usize,
    at_once: usize,
    pause: Duration,
}

impl Attack {
    /// Until it is over, opens connections and gives each its turn, round after round. The turn is told how many there are, and
    /// says whether the connection stays; one that does not is opened anew.
    fn run<S>(
        &self,
        over: &AtomicBool,
        mut open: impl FnMut() -> Option<S>,
        mut turn: impl FnMut(&mut S, usize) -> bool,
    ) {
        let mut all = Vec::new();
        while !over.load(Ordering::SeqCst) {
            let more = all.len()..self.most.min(all.len() + self.at_once);
            all.extend(more.map_while(|_| open()));
            let count = all.len();
            all.retain_mut(|one| turn(one, count));
            std::thread::sleep(self.pause);
        }
    }
}
