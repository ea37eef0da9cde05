//! Back-pressure, and what leaving costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use e2e::backend::http2::frames::{Does, END_STREAM, Frame, FrameServer, kind};
use e2e::backend::http2::{Reply, Then};
use e2e::time::within;
use e2e::{H2Backend, Request, eventually};

use super::of;

const CANCEL: u32 = 8;

/// What no window and no socket on the way holds.
const MUCH: usize = 32 << 20;

#[test]
fn a_slow_reader_of_one_stream_stalls_no_other() {
    let much = vec![b'x'; MUCH];
    let script = move |arrived: &e2e::backend::http2::Arrived| match arrived.target.ends_with("/much") {
        true => Reply::ok(much.clone()),
        false => Reply::ok("ok"),
    };
    let backend = H2Backend::http2().script(script).start();
    let limits = "{ http2Endpoints: { connections: 1, streams: 20 } }";
    let weir = of(&[&backend]).set("workers", "1").set("limits", limits).start();
    let mut slow: Vec<_> = (0..10).map(|_| weir.client()).collect();
    for client in &mut slow {
        client.start(&Request::get("http://hello/much"));
    }
    backend.has_begun(slow.len());
    let mut client = weir.client();
    for _ in 0..200 {
        client.get("http://hello/").expect_body("ok");
    }
    assert_eq!(backend.connections(), 1);
    // And they still get all of it.
    for client in &mut slow[..2] {
        let answer = client.response();
        assert_eq!((answer.status, answer.length), (200, MUCH as u64));
    }
}

#[test]
fn an_endpoint_that_takes_nothing_of_a_body_stops_its_client() {
    // Its window is never opened again: it reads nothing before it is asked to.
    let server = FrameServer::start(true, |_| Vec::new());
    let weir = super::asking(&[server.addr()]).start();
    let mut client = weir.client();
    client.send(format!("POST http://hello/ HTTP/1.1\r\nHost: hello\r\nContent-Length: {MUCH}\r\n\r\n"));
    client.stream().set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let (mut sent, piece) = (0, vec![b'x'; 1 << 16]);
    while sent < MUCH {
        match std::io::Write::write(&mut client.stream(), &piece) {
            Ok(n) => sent += n,
            Err(_) => break,
        }
    }
    assert!(sent < MUCH, "all of it was taken from the client, and is held by nobody but weir");
    assert!(weir.resident() < 200 << 20, "{}", weir.resident());
}

#[test]
fn a_client_that_leaves_cancels_its_stream() {
    let waits = Reply::nothing();
    let streams = Reply::ok("begun").then(Then::Nothing);
    for (reply, begins) in [(waits, false), (streams, true)] {
        let backend = H2Backend::http2().reply(reply).start();
        let weir = of(&[&backend]).start();
        for n in 1..=3 {
            let mut client = weir.client();
            client.start(&Request::post("http://hello/", "x"));
            backend.has_begun(n);
            if begins {
                assert_eq!(client.head().status(), Some(200));
            }
            assert_eq!(backend.resets().len(), n - 1);
            client.vanish();
            eventually("the reset", || backend.resets().len() == n);
        }
        assert!(backend.resets().iter().all(|(code, _)| *code == CANCEL), "{:?}", backend.resets());
        assert!(backend.connections() <= 2, "the connections stay");
        assert_eq!(weir.metric("weir_http2_endpoint_cancels_total", &[]), 3.0);
        assert_eq!(weir.failures(backend.addr()), 0);
    }
}

#[test]
fn an_answer_that_its_endpoint_cuts_short_is_cut_short_for_the_client() {
    let backend = H2Backend::http2().reply(Reply::ok("part").then(Then::Reset(2))).start();
    let weir = of(&[&backend]).start();
    let mut client = weir.client();
    let answer = client.start(&Request::get("http://hello/")).try_response();
    assert!(answer.is_err() || answer.is_ok_and(|it| it.end == e2e::message::End::Truncated));
    within(Duration::from_secs(10), "the failure", || weir.failures(backend.addr()) == 1);
    assert_eq!(weir.metric("weir_http2_endpoint_resets_total", &[("code", "internal_error")]), 1.0);
}

#[test]
fn an_early_answer_passes_while_the_body_still_flows() {
    let server = FrameServer::start(true, |frame| match frame.kind {
        kind::HEADERS => {
            let head = Frame::new(1, 4, frame.stream, e2e::backend::http2::frames::STATUS_200);
            let body = Frame::new(0, 0, frame.stream, "early");
            vec![head, body].into_iter().map(Does::Sends).collect()
        }
        kind::DATA if frame.flags & 1 == 1 => {
            let end = Frame::new(0, 1, frame.stream, "late");
            vec![Does::Sends(end)]
        }
        _ => Vec::new(),
    });
    let weir = super::asking(&[server.addr()]).start();
    let mut client = weir.client();
    client.send("POST http://hello/ HTTP/1.1\r\nHost: hello\r\nContent-Length: 6\r\n\r\nabc");
    assert_eq!(client.head().status(), Some(200));
    client.expect("5\r\nearly\r\n");
    client.send("def");
    client.expect("4\r\nlate\r\n0\r\n\r\n");
}

/// A server that answers at the end of each request and opens no window; and how many bytes of bodies it has.
fn without_window() -> (FrameServer, Arc<AtomicUsize>) {
    let bytes = Arc::new(AtomicUsize::new(0));
    let count = bytes.clone();
    let server = FrameServer::start(true, move |frame| {
        if frame.kind == kind::DATA {
            count.fetch_add(frame.payload.len(), Ordering::SeqCst);
        }
        match frame.kind {
            kind::HEADERS | kind::DATA if frame.flags & END_STREAM != 0 => {
                vec![Does::Sends(Frame::ok(frame.stream))]
            }
            _ => Vec::new(),
        }
    });
    (server, bytes)
}

/// The window of a stream and of a connection where nothing else is said (RFC 9113 §6.9.2).
const WINDOW: usize = 65_535;

#[test]
fn an_upload_that_its_endpoint_does_not_read_stalls_no_other() {
    for (connections, stalled) in [(2, 1.0), (1, 0.0)] {
        let (server, bytes) = without_window();
        let limits = format!("{{ http2Endpoints: {{ connections: {connections} }}, response: 5s }}");
        let weir = super::asking(&[server.addr()]).set("workers", "1").set("limits", &limits).start();
        let mut first = weir.client();
        let length = WINDOW + 1;
        first.send(format!("POST http://hello/ HTTP/1.1\r\nHost: hello\r\nContent-Length: {length}\r\n\r\n"));
        first.send(vec![b'x'; length]);
        eventually("the whole window", || bytes.load(Ordering::SeqCst) == WINDOW);
        // So long an upload waits before that counts.
        std::thread::sleep(Duration::from_millis(300));
        let request = match connections {
            1 => Request::get("http://hello/"), // It needs no window.
            _ => Request::post("http://hello/", "x"),
        };
        weir.ask(&request).expect_status(200);
        assert_eq!(weir.metric("weir_http2_endpoint_stalled_total", &[]), stalled);
        assert_eq!(weir.metric("weir_http2_endpoint_connections", &[]), f64::from(connections));
    }
}

#[test]
fn the_end_of_a_body_needs_no_window() {
    let body = "x".repeat(WINDOW);
    for trailers in [false, true] {
        let (server, bytes) = without_window();
        let weir = super::asking(&[server.addr()]).set("limits", "{ response: 5s }").start();
        let mut request = Request::new("POST", "http://hello/").chunks(&[&body]);
        if trailers {
            request = request.trailer("x-sum", "7");
        }
        weir.ask(&request).expect_status(200);
        assert_eq!(bytes.load(Ordering::SeqCst), WINDOW);
    }
}
