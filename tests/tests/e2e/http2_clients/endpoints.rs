//! HTTP/2 on both sides.

use std::time::Duration;

use e2e::backend::http2::{Reply, Then};
use e2e::{Frames, H2Backend, Http2, Weir, eventually};
use hyper::Request;

#[test]
fn a_request_and_its_answer_pass_whole_with_all_that_comes_before_and_behind() {
    let reply = Reply::ok("answer").with("x-kept", "1").trailer("x-sum", "3");
    let backend = H2Backend::http2().reply(reply.interim(103, "link", "</a>")).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let client = Http2::to(weir.outgoing());
    let request = Request::post("http://hello/x?y").header("cookie", "a=1").header("cookie", "b=2");
    let answer = client.ask(request.header("te", "trailers").body(()).unwrap(), Some(b"hello"));
    assert_eq!((answer.status, answer.text().as_str(), answer.reset), (200, "answer", None));
    assert_eq!((answer.get("x-kept"), answer.get("via")), (Some("1"), Some("2 weir")));
    assert_eq!((answer.interim.as_slice(), answer.trailers["x-sum"].to_str().unwrap()), (&[103][..], "3"));
    let arrived = backend.only_request();
    assert_eq!((arrived.method.as_str(), arrived.target.as_str()), ("POST", "http://hello/x?y"));
    assert_eq!((arrived.get("via"), arrived.get("te")), (Some("2 weir"), Some("trailers")));
    assert_eq!((arrived.get("cookie"), arrived.body.as_slice()), (Some("a=1; b=2"), &b"hello"[..]));
}

#[test]
fn a_body_waits_for_its_endpoints_100() {
    let backend = H2Backend::http2().reply(Reply::ok("taken").interim(100, "x", "y")).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let client = Http2::to(weir.outgoing());
    let request = Request::post("http://hello/").header("expect", "100-continue").body(()).unwrap();
    let answer = client.ask(request, Some(b"hello"));
    assert_eq!((answer.interim.as_slice(), answer.status), (&[100][..], 200));
}

#[test]
fn a_cancel_reaches_the_endpoint_as_a_cancel_and_ends_nothing_else() {
    let backend = H2Backend::http2().script(|request| match request.target.ends_with("/slow") {
        true => Reply::nothing(),
        false => Reply::ok("ok"),
    });
    let backend = backend.start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let client = Http2::to(weir.outgoing());
    for round in 0..20 {
        let mut slow = client.start(Request::get("http://hello/slow").body(()).unwrap(), true);
        backend.has_begun(2 * round + 1);
        slow.send.send_reset(h2::Reason::CANCEL);
        eventually("the endpoint to hear of it", || backend.resets().len() > round);
        assert_eq!(backend.resets()[round].0, super::CANCEL);
        assert_eq!(client.get("http://hello/").text(), "ok");
    }
    assert_eq!(backend.connections(), 1, "the connection is kept");
}

#[test]
fn the_code_of_an_endpoints_reset_reaches_the_client() {
    for (code, expected) in [(8, 8), (11, 11), (2, 2), (0, 2)] {
        let backend = H2Backend::http2().reply(Reply::ok("part").then(Then::Reset(code))).start();
        let weir = Weir::serving("hello", &[backend.addr()]);
        let answer = Http2::to(weir.outgoing()).get("http://hello/");
        assert_eq!((answer.status, answer.reset.map(u32::from)), (200, Some(expected)), "{code}");
    }
}

#[test]
fn a_stream_of_an_endpoint_that_left_its_service_goes_on_and_new_ones_go_elsewhere() {
    let old = H2Backend::http2().reply(Reply::ok("old").then(Then::Nothing)).start();
    let weir = Weir::serving("hello", &[old.addr()]);
    let mut frames = Frames::to(weir.outgoing());
    frames.get(1, "hello", "/");
    assert_eq!(frames.until(0).payload, b"old");
    let new = H2Backend::http2().reply(Reply::ok("new")).start();
    weir.folder().service("hello", &[new.addr()]);
    let client = Http2::to(weir.outgoing());
    eventually("requests at the new endpoint", || {
        let began = new.begun();
        let mut stream = client.start(Request::get("http://hello/").body(()).unwrap(), true);
        let _ = stream.head();
        std::thread::sleep(Duration::from_millis(20));
        new.begun() > began
    });
    assert_eq!(weir.metric("weir_http2_open_streams", &[]), 1.0, "the old one is there");
    frames.frame(3, 0, 1, &[0, 0, 0, 8]);
    eventually("its end", || old.resets().iter().any(|(code, _)| *code == super::CANCEL));
}
