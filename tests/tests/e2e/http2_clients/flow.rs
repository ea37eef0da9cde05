//! Windows: who reads slowly holds up only itself.

use std::net::TcpStream;
use std::time::Duration;

use e2e::http2::encode;
use e2e::raw::Swallowing;
use e2e::time::holds_for;
use e2e::{Answer, Backend, Ended, Frames, Http2, eventually};
use hyper::Request;

use super::{serving, weir};

const LARGE: u64 = 64 * 1024 * 1024;

#[test]
fn a_slow_reader_of_one_stream_stalls_no_other_and_its_endpoint_waits() {
    let backend = Backend::http().script(|request| match request.head.target() {
        "/large" => Answer::stream(LARGE),
        _ => Answer::ok("ok"),
    });
    let backend = backend.start();
    let weir = serving("hello", &[backend.addr()]);
    let client = Http2::with(
        TcpStream::connect(weir.outgoing()).unwrap(),
        h2::client::Builder::new().initial_connection_window_size(1 << 20),
    );
    let mut large: Vec<_> =
        (0..4).map(|_| client.start(Request::get("http://hello/large").body(()).unwrap(), true)).collect();
    for stream in &mut large {
        assert_eq!(stream.head().unwrap().status(), 200);
    }
    for _ in 0..20 {
        assert_eq!(client.get("http://hello/").text(), "ok");
    }
    let stream = &mut large[0];
    let mut length = 0;
    loop {
        match stream.data().unwrap().len() as u64 {
            0 => break,
            n => length += n,
        }
    }
    assert_eq!(length, LARGE);
    eventually("a wait to be seen", || weir.metric("weir_http2_window_wait_seconds_count", &[]) > 0.0);
    drop(large);
    eventually("the streams' end", || weir.metric("weir_http2_open_streams", &[]) == 0.0);
}

#[test]
fn an_upload_waits_for_its_endpoint() {
    let backend =
        Backend::http().answer(Answer::ok("never").unread().after(Duration::from_secs(600))).start();
    let weir = serving("hello", &[backend.addr()]);
    let client = Http2::to(weir.outgoing());
    let mut upload = client.start(Request::post("http://hello/").body(()).unwrap(), false);
    backend.wait_for(1);
    upload.send.reserve_capacity(LARGE as usize);
    let mut sent = 0;
    // weir takes what fits into its windows and the sockets, and then no more.
    let clock = std::time::Instant::now();
    while clock.elapsed() < Duration::from_secs(2) {
        let room = upload.send.capacity();
        if room > 0 {
            upload.send(vec![0; room], false);
            sent += room;
            upload.send.reserve_capacity(LARGE as usize - sent);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(sent < LARGE as usize / 2, "{sent} bytes were taken that nobody reads");
    assert_eq!(upload.send.capacity(), 0);
}

#[test]
fn trailers_need_no_window() {
    let backend = Backend::http().answer(Answer::chunks(&["0123456789"]).trailer("x-sum", "10")).start();
    let weir = serving("hello", &[backend.addr()]);
    let mut frames = Frames::bare(TcpStream::connect(weir.outgoing()).unwrap());
    // SETTINGS_INITIAL_WINDOW_SIZE of exactly the body's length.
    frames.send(e2e::http2::PREFACE).frame(4, 0, 0, &[0, 4, 0, 0, 0, 10]).get(1, "hello", "/");
    assert_eq!(frames.until(0).payload, b"0123456789");
    let trailers = frames.until(1);
    assert_eq!(trailers.flags & 1, 1, "{trailers:?}");
}

#[test]
fn a_client_that_opens_no_window_loses_its_stream_and_nobody_else_theirs() {
    let backend = Backend::http().answers("hello").start();
    let weir = weir().set("limits", "{ http2: { windowWait: 1s } }");
    let weir = weir.service("hello", &[backend.addr()]).start();
    let other = Http2::to(weir.outgoing());
    let mut frames = Frames::bare(TcpStream::connect(weir.outgoing()).unwrap());
    frames.send(e2e::http2::PREFACE).frame(4, 0, 0, &[0, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    frames.get(1, "hello", "/").get(3, "nobody", "/");
    // An endpoint's answer, and weir's own.
    assert_eq!(frames.all_ended(&[1, 3]), [Ended::Reset(11), Ended::Reset(11)]);
    assert_eq!(other.get("http://hello/").text(), "hello");
    eventually("both to be counted", || {
        weir.metric("weir_http2_abuses_total", &[("reason", "closed_window")]) == 2.0
    });
    // The connection goes on.
    frames.frame(8, 0, 0, &[0, 0, 1, 0]).frame(4, 0, 0, &[0, 4, 0, 0, 255, 255]).get(5, "hello", "/");
    assert_eq!(frames.ended(5), Ended::Answered(200));
    assert!(holds_for(Duration::from_millis(50), || weir.metric("weir_http2_open_streams", &[]) == 0.0));
}

#[test]
fn uploads_that_no_endpoint_takes_stop_no_other_upload_of_their_connection() {
    let (backend, stuck) = (Backend::http().answers("ok").start(), Swallowing::new());
    let weir = weir().set("limits", "{ connect: 60s }");
    let weir = weir.service("hello", &[backend.addr()]).service("stuck", &[stuck.addr()]).start();
    let client = Http2::to(weir.outgoing());
    let mut stalled = Vec::new();
    // Each takes its stream's whole window.
    for _ in 0..40 {
        let mut upload = client.start(Request::post("http://stuck/").body(()).unwrap(), false);
        upload.send(vec![0; 100_000], false);
        stalled.push(upload);
    }
    let sent = vec![7; 300_000];
    let answer = client.ask(Request::post("http://hello/").body(()).unwrap(), Some(&sent));
    assert_eq!((answer.status, answer.reset), (200, None));
    assert!(backend.only_request().body == sent);
}

#[test]
fn small_messages_that_wait_end_no_connection() {
    let (backend, stuck) = (Backend::http().answers("ok").start(), Swallowing::new());
    let weir = weir().set("limits", "{ connect: 60s }");
    let weir = weir.service("hello", &[backend.addr()]).service("stuck", &[stuck.addr()]).start();
    let mut frames = Frames::to(weir.outgoing());
    let post: [(&str, &[u8]); 4] =
        [(":method", b"POST"), (":scheme", b"http"), (":authority", b"stuck"), (":path", b"/")];
    // The connection's window is open.
    frames.until(8);
    // As much as two windows hold, in messages of 20 bytes.
    for stream in [1, 3] {
        frames.request(stream, &post, false).send(encode(0, 0, stream, &[0; 20]).repeat(65_535 / 20));
    }
    frames.get(5, "hello", "/");
    assert_eq!(frames.ended(5), Ended::Answered(200));
    assert_eq!(weir.metric("weir_http2_abuses_total", &[]), 0.0);
}
