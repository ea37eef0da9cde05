//! HTTP/2 over an upgrade: streams that are open go on, and nobody's request fails.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use e2e::http2::{Ended, Frames, Http2};
use e2e::raw::TcpServer;
use e2e::weir::builder::Builder;
use e2e::{Place, Weir, eventually, folder, python};
use hyper::Request;

use super::{PROXY, database, ends, next, upgrade};
use crate::grpcio::Server;
use crate::transparent::{Stage, TARGET, V4, dialler};

/// Types of frames (RFC 9113 §6).
const PING: u8 = 6;
const GOAWAY: u8 = 7;

/// The address of the service `more`, and the port of its endpoint in the pod `a`.
const MORE: &str = "10.96.0.12:80";
const MORE_TARGET: u16 = TARGET + 3;

/// A weir with the service `more` as well.
fn with_more(stage: &Stage, settings: impl FnOnce(Builder) -> Builder) -> Builder {
    let more = folder::service("more", &["10.96.0.12"]).port("any", 80, MORE_TARGET);
    settings(next(stage, |builder| builder.kubernetes(&more.endpoints(&[stage.a.v4()]))))
}

/// The same, whose endpoints speak HTTP/1.1.
fn to_http1(stage: &Stage) -> Builder {
    with_more(stage, |builder| builder.set("policies", "{ clients: [{ prefix: /, protocol: http1 }] }"))
}

/// Answers `/now` at once, and everything else once it may.
pub(super) fn gated(listener: TcpListener, may: Arc<AtomicBool>) -> TcpServer {
    TcpServer::on(listener, move |mut stream| {
        let mut piece = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut piece) {
            if !piece[..n].starts_with(b"GET /now ") {
                eventually("the word to answer", || may.load(Ordering::SeqCst));
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    })
}

#[test]
fn a_connection_is_told_to_end_and_a_stream_on_its_way_is_served_as_well_as_one_that_is_open() {
    let Some(mut stage) = Stage::set() else { return };
    let may = Arc::<AtomicBool>::default();
    let server = gated(stage.a.listen(stage.a.at(MORE_TARGET)).unwrap(), may.clone());
    stage.start(to_http1(&stage));
    let old = stage.take_weir();
    let mut clients = [PROXY, MORE].map(|to| Frames::over(dialler(&stage.client, to)().unwrap()));
    for client in &mut clients {
        client.get(1, "more", "/");
    }
    eventually("the requests at the endpoint", || server.accepted() == clients.len());
    let _current = upgrade(&old, to_http1(&stage));
    for client in &mut clients {
        // At first it names no last stream: one may be on its way (RFC 9113 §6.8).
        assert_eq!(client.until(GOAWAY).payload[..8], [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        let ping = client.until(PING);
        client.get(3, "more", "/now");
        assert_eq!(client.ended(3), Ended::Answered(200));
        // Once the client must know, it does.
        client.frame(PING, 1, 0, &ping.payload);
        assert_eq!(client.until(GOAWAY).payload[..8], [0, 0, 0, 3, 0, 0, 0, 0]);
    }
    may.store(true, Ordering::SeqCst);
    for client in &mut clients {
        assert_eq!(client.ended(1), Ended::Answered(200));
        assert_eq!(client.goodbye(), Ended::Closed);
    }
    ends(old);
}

/// A client that asks again and again, on one connection for as long as that takes requests.
struct Asking {
    over: Arc<AtomicBool>,
    /// How many were answered.
    answered: Arc<AtomicUsize>,
    /// How often it had to make another connection, and what failed.
    thread: JoinHandle<(usize, Option<String>)>,
}

impl Asking {
    fn start(connect: impl Fn() -> std::io::Result<TcpStream> + Send + 'static) -> Self {
        let (over, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (stop, count) = (over.clone(), answered.clone());
        let thread = thread::spawn(move || {
            let (mut client, mut told) = (Http2::over(connect().unwrap()), 0);
            while !stop.load(Ordering::SeqCst) {
                let answer = client.get("http://hello/");
                match (answer.status, answer.reset) {
                    (200, None) => {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    // A GOAWAY that has not this request.
                    (0, Some(h2::Reason::NO_ERROR)) => {
                        told += 1;
                        client = Http2::over(connect().unwrap());
                    }
                    _ => return (told, Some(format!("{answer:?}"))),
                }
            }
            (told, None)
        });
        Self { over, answered, thread }
    }

    #[track_caller]
    fn answered(&self, more: usize) {
        let goal = self.answered.load(Ordering::SeqCst) + more;
        let is_so = || self.answered.load(Ordering::SeqCst) >= goal || self.thread.is_finished();
        eventually("answers", is_so);
    }
}

#[test]
fn three_upgrades_fail_no_request_of_http2_and_cut_no_tunnel_in_a_stream() {
    let Some(mut stage) = Stage::set() else { return };
    let (_backends, _database) = (stage.backends(), database(&stage.b));
    stage.start(to_http1(&stage));
    let mut current = stage.take_weir();
    let clients = [PROXY, V4].map(|to| Asking::start(dialler(&stage.client, to)));
    let connection = Http2::over(dialler(&stage.client, PROXY)().unwrap());
    let connect = Request::connect("database:5432").body(()).unwrap();
    let mut tunnel = connection.start(connect, false);
    assert_eq!(tunnel.head().unwrap().status(), 200);
    let mut old: Vec<Weir> = Vec::new();
    for number in 0..3 {
        clients.iter().for_each(|it| it.answered(20));
        let new = upgrade(&current, to_http1(&stage));
        old.push(std::mem::replace(&mut current, new));
        let word = format!("after {number}");
        tunnel.send(word.clone(), false);
        assert_eq!(tunnel.data().unwrap(), word);
    }
    clients.iter().for_each(|it| it.answered(20));
    drop((tunnel, connection));
    old.into_iter().for_each(ends);
    for client in clients {
        client.over.store(true, Ordering::SeqCst);
        let (told, failed) = client.thread.join().unwrap();
        assert!(told >= 3 && failed.is_none(), "{told} GOAWAYs; {failed:?}");
    }
}

/// Calls over a channel of gRPC's: one that lasts, in which each line of the standard input is a message, and short ones all the
/// time.
const CALLS: &str = r#"
import queue, sys, threading
import grpc

target, authority = sys.argv[1], sys.argv[2]
options = [("grpc.enable_http_proxy", 0)]
if authority:
    options.append(("grpc.default_authority", authority))
channel = grpc.insecure_channel(target, options)
who, said = channel.unary_unary("/test.Test/Who"), queue.SimpleQueue()
lasts = channel.stream_stream("/test.Test/Both")(iter(said.get, None), timeout=600)
over, calls, failed = threading.Event(), 0, []

def ask():
    global calls
    while not failed and not over.is_set():
        try:
            assert who(b"", timeout=60) == b"a"
            calls += 1
        except grpc.RpcError as error:
            failed.append(f"{error.code()}: {error.details()}")

asking = threading.Thread(target=ask)
asking.start()
try:
    for line in sys.stdin:
        said.put(line.encode())
        assert next(lasts) == line.encode()
        assert not failed, failed
        print(calls, flush=True)
    said.put(None)
    assert list(lasts) == []
finally:
    over.set()
asking.join()
assert not failed, failed
"#;

struct Calls(Child, BufReader<ChildStdout>);

impl Calls {
    fn start(stage: &Stage, target: &str, authority: &str) -> Self {
        let mut command = Place::from(&stage.client).command(python::python());
        command.args(["-c", CALLS, target, authority]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self(child, output)
    }

    /// Says something in the call that lasts. Returns how many short ones there were.
    #[track_caller]
    fn say(&mut self, word: &str) -> usize {
        let _ = writeln!(self.0.stdin.as_mut().unwrap(), "{word}");
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line.trim().parse().expect("the call goes on, and none has failed")
    }

    #[track_caller]
    fn called(&mut self, more: usize) {
        let goal = self.say("before") + more;
        eventually("further calls", || self.say("meanwhile") >= goal);
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn three_upgrades_fail_no_call_of_grpc_and_cut_none_that_lasts() {
    let Some(mut stage) = Stage::set() else { return };
    let following = |stage: &Stage| with_more(stage, |builder| builder);
    let _server = Server::start(&Place::from(&stage.a), &stage.a.v4().to_string(), MORE_TARGET, "a");
    stage.start(following(&stage));
    let mut current = stage.take_weir();
    let mut channels = [(PROXY, "more"), (MORE, "")].map(|(to, name)| Calls::start(&stage, to, name));
    let mut old: Vec<Weir> = Vec::new();
    for _ in 0..3 {
        channels.iter_mut().for_each(|it| it.called(20));
        let new = upgrade(&current, following(&stage));
        old.push(std::mem::replace(&mut current, new));
    }
    for channel in &mut channels {
        channel.called(20);
        drop(channel.0.stdin.take());
        assert!(channel.0.wait().unwrap().success());
    }
    old.into_iter().for_each(ends);
}
