//! Little memory, and clients that hold much of it: weir lives, and who holds little is served. Tests of their own, since they
//! use the machine as others do not.
#![allow(clippy::unwrap_used, reason = "these are tests")]
#![allow(clippy::disallowed_types, reason = "a test that meets a poisoned lock is to fail")]

mod budget; // Attacks on the memory of all.
mod large; // One service with very many endpoints.
mod moving; // Attacks that never stand still, beside somebody with many requests.
mod pages; // Slow readers of large pages.
mod unused; // What nobody uses.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::net::cgroup::MemoryCgroup;
use e2e::net::is_root;
use e2e::weir::Builder;
use e2e::{Client, Weir, raw};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The address that attackers connect from; the victim has another one.
const ATTACKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

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
            match TcpStream::connect(weir.outgoing()).map(Client::over).and_then(|mut client| {
                client.send("GET http://hello/ HTTP/1.1\r\nHost: hello\r\nConnection: close\r\n\r\n");
                client.try_response()
            }) {
                Ok(answer) if answer.status == 200 => {}
                Ok(answer) => failed.push(format!("{} {}", answer.status, answer.text())),
                Err(why) => failed.push(why.to_string()),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(ends);
        attacking.join().expect("the attacker");
        (asked, failed)
    })
}

/// Ends an attack when dropped, also by a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// An attacker's connection that never waits.
fn attacker(to: SocketAddr) -> Option<TcpStream> {
    let stream = raw::connect_as(ATTACKER, to).ok()?;
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

/// Whether weir has closed the connection, or has answered on it.
fn is_over(stream: &TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(_) => true,
        Err(why) => why.kind() != ErrorKind::WouldBlock,
    }
}

/// Writes what the connection takes of `bytes` from `at` on. Returns how much was written by then; `None` when it is closed.
fn feed(mut stream: &TcpStream, bytes: &[u8], at: usize) -> Option<usize> {
    match stream.write(&bytes[at..]) {
        Ok(written) => Some(at + written),
        Err(why) if why.kind() == ErrorKind::WouldBlock => Some(at),
        Err(_) => None,
    }
}
