//! Programs that give up in their own ways: the endpoint learns of each as soon as it would without weir. What a program
//! does to its socket when it gives up is done here by hand, as strace shows it; `programs.rs` runs the programs themselves.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::Between;
use e2e::raw::reset_on_close;
use e2e::witness::{EVENT, Manner, Witness};

/// How a program leaves its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    /// `close()`, or the kernel when it was killed: a FIN.
    Closing,
    /// `close()` with bytes unread: a reset.
    LeavingBytesUnread,
    /// `SO_LINGER` of 0 and `close()`: a reset.
    Resetting,
    /// `shutdown()` of both directions, then `close()`.
    ShuttingDown,
}

/// What a program has done by the time it gives up.
struct Program {
    name: &'static str,
    /// Whether it is not HTTP/1 to weir: through CONNECT, or as opaque bytes.
    opaque: bool,
    sends: &'static str,
    endpoint: Manner,
    /// How many bytes of the answer it takes.
    takes: usize,
    leaves: Leaves,
}

const GET: &str = "GET / HTTP/1.1\r\nHost: hello\r\n\r\n";
const UPLOAD: &str = "POST / HTTP/1.1\r\nHost: hello\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n";

const PROGRAMS: [Program; 12] = [
    program("curl --max-time 1", GET, Manner::Silent, 0, Leaves::Closing),
    program("Go, a context that is cancelled", GET, Manner::Silent, 0, Leaves::Closing),
    program("Go, the same within an answer", GET, Manner::Floods, 100, Leaves::LeavingBytesUnread),
    program("Java, HttpURLConnection.disconnect with linger 0", GET, Manner::Silent, 0, Leaves::Resetting),
    program("a browser's EventSource.close()", GET, Manner::Streams, EVENT.len(), Leaves::Closing),
    program("EventSource of a killed tab", GET, Manner::Streams, EVENT.len() - 4, Leaves::LeavingBytesUnread),
    program("timeout 1 sh -c 'cat | curl -T -'", UPLOAD, Manner::Silent, 0, Leaves::Closing),
    program("wrk, at its end", GET, Manner::Floods, 100, Leaves::ShuttingDown),
    program(
        "node, a socket that is destroyed within an upload",
        UPLOAD,
        Manner::Silent,
        0,
        Leaves::Resetting,
    ),
    opaque("pgbench, killed within a query", "\0\0\0\x08\x04\u{3}\0\0Q\0\0\0\rselect 1\0", Leaves::Closing),
    opaque(
        "redis-cli, killed in BLPOP",
        "*3\r\n$5\r\nBLPOP\r\n$1\r\na\r\n$1\r\n0\r\n",
        Leaves::LeavingBytesUnread,
    ),
    opaque(
        "kubectl get --watch, ended with ^C",
        "\u{16}\u{3}\u{1}\0\u{5}\u{1}\0\0\u{1}\0",
        Leaves::Resetting,
    ),
];

const fn program(
    name: &'static str,
    sends: &'static str,
    endpoint: Manner,
    takes: usize,
    leaves: Leaves,
) -> Program {
    Program { name, opaque: false, sends, endpoint, takes, leaves }
}

const fn opaque(name: &'static str, sends: &'static str, leaves: Leaves) -> Program {
    Program { name, opaque: true, sends, endpoint: Manner::Greets, takes: 2, leaves }
}

impl Program {
    /// Uses a connection, and gives up once the endpoint has the request. Returns when that was.
    fn run(&self, mut stream: TcpStream, witness: &Witness, number: usize) -> Instant {
        stream.write_all(self.sends.as_bytes()).unwrap();
        witness.wait_for(number);
        stream.read_exact(&mut vec![0; self.takes]).unwrap();
        if self.leaves == Leaves::LeavingBytesUnread {
            let unread = || stream.peek(&mut [0]).is_ok_and(|n| n > 0);
            e2e::eventually("bytes that stay unread", unread);
        }
        let left = Instant::now();
        match self.leaves {
            Leaves::Closing | Leaves::LeavingBytesUnread => {}
            Leaves::Resetting => reset_on_close(&stream),
            Leaves::ShuttingDown => stream.shutdown(Shutdown::Both).unwrap(),
        }
        drop(stream);
        left
    }

    /// A tunnel to the endpoint, where the proxy is asked for it.
    fn enter(&self, between: &Between) -> TcpStream {
        let mut stream = between.connect();
        if self.opaque && between.is_explicit() {
            stream.write_all(b"CONNECT hello:80 HTTP/1.1\r\nHost: hello:80\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                answer.extend(byte);
            }
            assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        }
        stream
    }
}

/// How much later than without weir an endpoint may learn of it.
const IN_TIME: Duration = Duration::from_millis(100);

/// How much later the endpoint learns of `program`'s end than without weir.
fn how_late(between: &Between, program: &Program) -> Duration {
    let control = Witness::on(e2e::raw::listen(e2e::raw::loopback()).unwrap(), program.endpoint);
    let direct = TcpStream::connect(control.addr()).unwrap();
    let left = program.run(direct, &control, 1);
    let directly = control.wait_for_end(1).at.saturating_duration_since(left);

    let witness = between.witness(program.endpoint);
    let left = program.run(program.enter(between), &witness, 1);
    let through = witness.wait_for_end(1).at.saturating_duration_since(left);
    eprintln!("{:?} {}: {directly:?} directly, {through:?}", between.listener(), program.name);
    through.saturating_sub(directly)
}

#[test]
fn the_endpoint_learns_at_once_of_clients_that_give_up() {
    Between::both("{ halfClosed: 5s, response: 1h }", |between| {
        for program in &PROGRAMS {
            // A machine that is busy may make one of them late, whatever weir does.
            let mut late = Vec::new();
            while late.len() < 3 && late.last().is_none_or(|late| *late >= IN_TIME) {
                late.push(how_late(between, program));
            }
            assert!(late.last().is_some_and(|late| *late < IN_TIME), "{}: {late:?} late", program.name);
        }
        // What is half-closed and silent is given up in the end.
        between.expect_nothing_in_flight();
    });
}
