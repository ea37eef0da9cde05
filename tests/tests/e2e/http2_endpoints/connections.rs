//! How many connections an endpoint of HTTP/2 has, and how they end.

use std::time::Duration;

use e2e::backend::http2::Reply;
use e2e::backend::http2::frames::{Does, Frame, FrameServer, kind};
use e2e::{H2Backend, Request, Response, Weir, eventually};

use super::{asking, of};

/// Answers to `count` requests at the same time, each on a connection of its own.
fn at_once(weir: &Weir, count: usize) -> Vec<Response> {
    std::thread::scope(|scope| {
        let ask = |_| scope.spawn(|| weir.ask(&Request::post("http://hello/", "x")));
        let asked: Vec<_> = (0..count).map(ask).collect();
        asked.into_iter().map(|it| it.join().unwrap()).collect()
    })
}

#[test]
fn requests_of_many_clients_share_one_connection() {
    let backend = H2Backend::http2().reply(Reply::ok("ok").after(Duration::from_millis(50))).start();
    let weir = of(&[&backend]).set("workers", "1").start();
    at_once(&weir, 40).iter().for_each(|it| {
        it.expect_body("ok");
    });
    assert_eq!(backend.connections(), 1);
    assert!(backend.most_streams() > 1, "they did not run at the same time");
    assert_eq!(weir.metric("weir_http2_endpoint_connections", &[]), 1.0);
    assert_eq!(weir.metric("weir_http2_endpoint_streams", &[]), 0.0);
}

#[test]
fn max_concurrent_streams_is_kept_to_and_more_connections_are_opened() {
    let backend = H2Backend::http2().max_streams(2);
    let backend = backend.reply(Reply::ok("ok").after(Duration::from_millis(100))).start();
    let weir = of(&[&backend])
        .set("workers", "1")
        .set("limits", "{ http2Endpoints: { connections: 3 }, connect: 20s, connectTotal: 60s }");
    let weir = weir.start();
    at_once(&weir, 20).iter().for_each(|it| {
        it.expect_body("ok");
    });
    assert_eq!((backend.connections(), backend.most_streams()), (3, 2));
    assert!(weir.metric("weir_http2_endpoint_waits_total", &[("end", "stream")]) > 0.0);
    assert_eq!(weir.metric("weir_http2_endpoint_resets_total", &[("code", "refused_stream")]), 0.0);
}

#[test]
fn weirs_own_limits_for_streams_and_connections_are_kept_to() {
    let backend = H2Backend::http2().reply(Reply::ok("ok").after(Duration::from_millis(50))).start();
    let limits = "{ http2Endpoints: { streams: 3, connections: 2 }, connect: 20s, connectTotal: 60s }";
    let weir = of(&[&backend]).set("workers", "1").set("limits", limits).start();
    at_once(&weir, 24).iter().for_each(|it| {
        it.expect_body("ok");
    });
    assert_eq!((backend.connections(), backend.most_streams()), (2, 3));
}

#[test]
fn a_request_that_finds_no_stream_in_time_is_503() {
    let backend = H2Backend::http2().reply(Reply::nothing()).start();
    let limits = "{ http2Endpoints: { streams: 1, connections: 1 }, connect: 100ms }";
    let weir = of(&[&backend]).set("workers", "1").set("limits", limits).start();
    let mut first = weir.client();
    first.start(&Request::get("http://hello/"));
    backend.has_begun(1);
    let answer = weir.get("http://hello/");
    answer.expect_status(503);
    assert!(answer.l5d_err().contains("in%20use"), "{}", answer.l5d_err());
    assert!(weir.metric("weir_http2_endpoint_waits_total", &[("end", "none")]) > 0.0);
    // That is no failure of the endpoint.
    assert_eq!(weir.failures(backend.addr()), 0);
}

#[test]
fn an_unused_connection_is_closed_after_its_time_and_another_is_opened() {
    let backend = H2Backend::http2().start();
    let weir = of(&[&backend]).set("workers", "1").set("limits", "{ poolIdle: 300ms }").start();
    weir.get("http://hello/").expect_body("ok");
    eventually("no connection", || weir.metric("weir_http2_endpoint_connections", &[]) == 0.0);
    weir.get("http://hello/").expect_body("ok");
    assert_eq!(backend.connections(), 2);
}

#[test]
fn an_endpoint_that_left_has_no_connection() {
    let (one, other) =
        (H2Backend::http2().answers("one").start(), H2Backend::http2().answers("other").start());
    let weir = of(&[&one]).start();
    weir.get("http://hello/").expect_body("one");
    weir.folder().service("hello", &[other.addr()]);
    eventually("the other", || weir.get("http://hello/").text() == "other");
    eventually("its connections alone", || {
        let open = weir.metric("weir_http2_endpoint_connections", &[]);
        open > 0.0 && open <= other.connections() as f64
    });
}

#[test]
fn an_endpoint_that_answers_no_ping_is_given_up() {
    for answers in [true, false] {
        let server = FrameServer::start(answers, |_| Vec::new());
        let limits = "{ http2Endpoints: { ping: 100ms, pingTimeout: 1s }, response: 4s }";
        let weir = asking(&[server.addr()]).set("limits", limits).start();
        let answer = weir.ask(&Request::post("http://hello/", "x"));
        // One that answers pings is only slow.
        answer.expect_status(if answers { 504 } else { 502 });
        assert_eq!(answer.l5d_err().contains("PING"), !answers, "{}", answer.l5d_err());
        let lost = weir.metric("weir_http2_endpoint_pings_lost_total", &[]);
        assert_eq!(lost > 0.0, !answers);
    }
}

#[test]
fn an_endpoint_that_speaks_no_http2_is_502() {
    let backend = e2e::Backend::http().start();
    let weir = asking(&[backend.addr()]).start();
    let answer = weir.ask(&Request::post("http://hello/", "x"));
    answer.expect_status(502);
    assert!(!answer.l5d_err().is_empty());
    assert!(weir.failures(backend.addr()) > 0);
}

#[test]
fn an_answer_with_an_endless_row_of_interim_answers_is_502() {
    let server = FrameServer::start(true, |frame| match frame.kind {
        kind::HEADERS => {
            // `:status: 103`, as a literal that is not indexed, with the name of entry 8.
            let hint = [&[0x08, 3][..], b"103"].concat();
            (0..101).map(|_| Does::Sends(Frame::new(kind::HEADERS, 4, frame.stream, hint.clone()))).collect()
        }
        _ => Vec::new(),
    });
    let weir = asking(&[server.addr()]).start();
    weir.ask(&Request::post("http://hello/", "x")).expect_status(502);
    assert_eq!(weir.metric("weir_faults_total", &[("kind", "interim")]), 1.0);
}
