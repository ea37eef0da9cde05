//! Clients that are slow, silent or gone.

use std::net::TcpStream;
use std::time::Duration;

use e2e::backend::Then;
use e2e::{Answer, Backend, Client, Ended, Frames, Http2, eventually};
use hyper::Request;

use super::{CANCEL, weir};

#[test]
fn a_preface_has_its_time() {
    let weir = weir().set("limits", "{ headerRead: 500ms }").start();
    for part in ["", "PRI * HTTP/2.0\r\n", "PRI"] {
        let mut client = Client::to(weir.outgoing());
        client.send(part);
        client.closed();
    }
    eventually("each to be counted", || weir.turned_away("outgoing", "bad_head") == 3.0);
}

#[test]
fn a_header_block_has_its_time_and_an_idle_connection_another() {
    let backend = Backend::http().answers("ok").start();
    let weir = weir().set("limits", "{ headerRead: 500ms, idle: 2s }");
    let weir = weir.service("hello", &[backend.addr()]).start();
    for end in [0, 1] {
        let mut slow = Frames::to(weir.outgoing());
        // Without END_HEADERS; or cut short.
        let block = e2e::http2::field(":method", b"GET");
        match end {
            0 => slow.frame(1, 1, 1, &block),
            _ => slow.send([0, 0, 200, 1, 5, 0, 0, 0, 1]).send(&block),
        };
        assert_eq!(slow.goodbye(), Ended::GoAway(1));
    }
    assert_eq!(weir.metric("weir_http2_abuses_total", &[("reason", "slow_head")]), 2.0);
    let mut idle = Frames::to(weir.outgoing());
    idle.get(1, "hello", "/");
    assert_eq!(idle.ended(1), Ended::Answered(200));
    let began = std::time::Instant::now();
    assert_eq!(idle.goodbye(), Ended::GoAway(0));
    assert!(began.elapsed() > Duration::from_secs(1), "it was not idle yet");
}

#[test]
fn a_body_that_stops_coming_ends_its_stream_alone_whatever_the_others_do() {
    let backend = Backend::http().answers("ok").start();
    let weir = weir().set("limits", "{ body: 1s }").service("hello", &[backend.addr()]).start();
    let client = Http2::to(weir.outgoing());
    let mut silent = client.start(Request::post("http://hello/").body(()).unwrap(), false);
    silent.send("part", false);
    // Bytes of these streams are no progress of that one.
    let clock = std::time::Instant::now();
    while weir.metric("weir_http2_resets_total", &[("direction", "sent"), ("code", "CANCEL")]) == 0.0 {
        assert_eq!(client.get("http://hello/").text(), "ok");
        assert!(clock.elapsed() < e2e::time::PATIENCE, "it still waits");
    }
    assert_eq!(u32::from(silent.reset()), CANCEL);
    assert_eq!(client.get("http://hello/").text(), "ok");
}

#[test]
fn an_endpoint_that_does_not_answer_costs_its_own_stream_its_time() {
    let backend = Backend::http().script(|request| match request.head.target() {
        "/slow" => Answer::raw("").then(Then::Hang),
        _ => Answer::ok("ok"),
    });
    let backend = backend.start();
    let weir = weir().set("limits", "{ response: 1s, attempts: 1 }");
    let weir = weir.service("hello", &[backend.addr()]).start();
    let client = Http2::to(weir.outgoing());
    let mut slow = client.start(Request::get("http://hello/slow").body(()).unwrap(), true);
    let clock = std::time::Instant::now();
    while weir.faults("response_timeout") == 0.0 {
        assert_eq!(client.get("http://hello/").text(), "ok");
        assert!(clock.elapsed() < e2e::time::PATIENCE, "it still waits");
    }
    assert_eq!(slow.head().unwrap().status(), 504);
}

#[test]
fn a_client_that_answers_no_ping_is_gone() {
    let backend = Backend::http().answer(Answer::raw("").then(Then::Hang)).start();
    let weir = weir().set("limits", "{ http2: { ping: 300ms, pingTimeout: 500ms } }");
    let weir = weir.service("hello", &[backend.addr()]).start();
    let alive = Http2::to(weir.outgoing());
    let mut stays = alive.start(Request::get("http://hello/").body(()).unwrap(), true);
    let mut dead = Frames::over(TcpStream::connect(weir.outgoing()).unwrap());
    dead.get(1, "hello", "/");
    backend.wait_for(2);
    // It reads, but it says nothing.
    assert_eq!(dead.until(6).flags, 0);
    assert_eq!(dead.goodbye(), Ended::Closed);
    eventually("its exchange to be over", || backend.open() == 1);
    assert_eq!(weir.metric("weir_http2_pings_lost_total", &[]), 1.0);
    stays.send.send_reset(h2::Reason::CANCEL);
    eventually("the other's", || backend.open() == 0);
}

#[test]
fn streams_beyond_the_limit_are_refused_and_the_others_go_on() {
    let backend = Backend::http().answer(Answer::ok("late").after(Duration::from_millis(500))).start();
    let weir = weir().set("limits", "{ http2: { maxConcurrentStreams: 3 } }");
    let weir = weir.service("hello", &[backend.addr()]).start();
    let mut frames = Frames::to(weir.outgoing());
    for stream in [1, 3, 5, 7] {
        frames.get(stream, "hello", "/");
    }
    // REFUSED_STREAM.
    assert_eq!(frames.ended(7), Ended::Reset(7));
    assert_eq!(frames.until(1).status(), Some(200));
}

#[test]
fn a_client_that_says_something_else_than_the_answer_to_a_ping_is_asked_again() {
    let backend = Backend::http().answer(Answer::raw("").then(Then::Hang)).start();
    let weir = weir().set("limits", "{ http2: { ping: 300ms, pingTimeout: 500ms } }");
    let weir = weir.service("hello", &[backend.addr()]).start();
    let mut client = Frames::to(weir.outgoing());
    client.get(1, "hello", "/");
    backend.wait_for(1);
    // It never answers a PING, and each of these WINDOW_UPDATEs shows that it is there.
    client.until(6);
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(250));
        client.frame(8, 0, 0, &[0, 0, 0, 1]);
    }
    assert_eq!(weir.metric("weir_http2_pings_lost_total", &[]), 0.0);
    assert_eq!(client.goodbye(), Ended::Closed);
    eventually("it to be counted", || weir.metric("weir_http2_pings_lost_total", &[]) == 1.0);
}

#[test]
fn an_answer_that_has_begun_is_not_cut_since_its_client_is_silent() {
    let part = Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart").unread().then(Then::Hang);
    let backend = Backend::http().answer(part).start();
    let weir = weir().set("limits", "{ body: 500ms }").service("hello", &[backend.addr()]).start();
    // As a watch of gRPC, whose client has asked and waits for what comes.
    let client = Http2::to(weir.outgoing());
    let mut watch = client.start(Request::post("http://hello/").body(()).unwrap(), false);
    watch.send("part", false);
    assert_eq!(watch.head().unwrap().status(), 200);
    assert_eq!(watch.data().unwrap(), "part");
    // The same of HTTP/1.
    let mut http1 = weir.client();
    http1.send("POST http://hello/ HTTP/1.1\r\nHost: hello\r\nContent-Length: 9\r\n\r\npart");
    assert_eq!(http1.head().status(), Some(200));
    let open = || weir.metric("weir_http2_open_streams", &[]) == 1.0 && backend.open() == 2;
    assert!(e2e::time::holds_for(Duration::from_secs(2), open));
}
