//! Bodies are streamed both ways, and a slow reader slows the writer instead of filling weir's memory.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use e2e::backend::Then;
use e2e::message::End;
use e2e::raw::{self, TcpServer};
use e2e::wire::KEEP;
use e2e::{Answer, Backend, Request, Weir, eventually};

const BIG: u64 = 64 << 20;
/// What weir's memory may grow by while a body of [`BIG`] bytes is stuck: far less than the body, far more than
/// its buffers, because an allocator takes memory in pieces of some MiB.
const ROOM: u64 = 16 << 20;

#[test]
fn bodies_arrive_as_they_were_sent() {
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let answer = bytes.clone();
    let backend = Backend::http().script(move |_| Answer::ok(answer.clone())).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let answer = weir.ask(&Request::post("http://hello/", bytes.clone()));
    assert_eq!((answer.length, answer.end), (3_000_000, End::Complete));
    assert!(answer.body == bytes[..KEEP], "the answer's body changed");
    let request = backend.only_request();
    assert_eq!((request.length, request.complete), (3_000_000, true));
    assert!(request.body == bytes[..KEEP], "the request's body changed");
}

#[test]
fn a_chunked_upload_arrives_whole() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    client.send("POST http://hello/ HTTP/1.1\r\nHost: hello\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("3;ext=\"1\"\r\nabc\r\n").send("A\r\n0123456789\r\n0\r\n\r\n");
    client.response().expect_body("ok");
    assert_eq!(backend.only_request().body, b"abc0123456789");
}

#[test]
fn the_first_bytes_of_an_answer_do_not_wait_for_the_last() {
    let part = Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst").then(Then::Hang);
    let backend = Backend::http().answer(part).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    client.start(&Request::get("http://hello/"));
    assert_eq!(client.head().status(), Some(200));
    client.expect("first");
}

#[test]
fn the_first_bytes_of_a_request_do_not_wait_for_the_last() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    client.send("POST http://hello/ HTTP/1.1\r\nHost: hello\r\nContent-Length: 10\r\n\r\nfirst");
    eventually("the first half at the backend", || {
        backend.raw().first().is_some_and(|raw| raw.ends_with(b"first"))
    });
    client.send("after").response().expect_body("ok");
    assert_eq!(backend.only_request().body, b"firstafter");
}

#[test]
fn a_slow_reader_slows_the_backend_and_fills_no_memory() {
    let backend = Backend::http().answer(Answer::stream(BIG)).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    weir.ask(&Request::new("HEAD", "http://hello/")).expect_status(200);
    let before = weir.resident();
    let mut client = weir.client();
    client.start(&Request::get("http://hello/"));
    backend.wait_for(2);
    assert!(stays_within(&weir, before + ROOM), "weir holds {} bytes more", weir.resident() - before);
    let answer = client.response();
    assert_eq!((answer.length, answer.end), (BIG, End::Complete));
    assert!(weir.resident() < before + ROOM);
}

#[test]
fn a_slow_backend_slows_the_client_and_fills_no_memory() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = TcpServer::on(raw::listen(raw::loopback()).unwrap(), move |mut stream| {
        // One byte is enough to know that the connection is there. The rest waits for the test's word.
        stream.read_exact(&mut [0]).unwrap();
        wait.lock().unwrap().recv().unwrap();
        swallow_upload(&mut stream);
    });
    let weir = Weir::serving("hello", &[server.addr()]);
    let before = weir.resident();
    let mut client = weir.client();
    client.send(format!("POST http://hello/ HTTP/1.1\r\nHost: hello\r\nContent-Length: {BIG}\r\n\r\n"));
    let sent = Arc::new(AtomicU64::new(0));
    let mut upload = client.stream().try_clone().unwrap();
    let counter = sent.clone();
    let sender = std::thread::spawn(move || {
        while counter.load(Ordering::SeqCst) < BIG {
            upload.write_all(&[b'x'; 65536]).unwrap();
            counter.fetch_add(65536, Ordering::SeqCst);
        }
    });
    assert!(stays_within(&weir, before + ROOM), "weir holds {} bytes more", weir.resident() - before);
    assert!(sent.load(Ordering::SeqCst) < BIG, "all of it was taken although nobody read it");
    go.send(()).unwrap();
    client.response().expect_body("done");
    sender.join().unwrap();
}

/// Looks at weir's memory for a second, in which an unbounded buffer would have filled.
fn stays_within(weir: &Weir, limit: u64) -> bool {
    e2e::time::holds_for(Duration::from_secs(1), || weir.resident() < limit)
}

fn swallow_upload(stream: &mut TcpStream) {
    let mut left = BIG;
    let mut piece = vec![0; 65536];
    // The head is far below the last piece, so counting it as body still leaves every byte read but its own size.
    while left > 4096 {
        match stream.read(&mut piece) {
            Ok(n @ 1..) => left = left.saturating_sub(n as u64),
            _ => return,
        }
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone");
    let _ = stream.read_to_end(&mut Vec::new());
}
