//! Answers that are easy to get wrong: without a body, interim, with trailers, before the request has ended.

use std::io::Write;
use std::time::Duration;

use e2e::backend::Then;
use e2e::message::End;
use e2e::{Answer, Backend, Request, Weir};

#[test]
fn the_answer_to_head_has_a_length_and_no_body() {
    let backend = Backend::http().answers("twelve bytes").start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    let answer = client.ask(&Request::new("HEAD", "http://hello/"));
    assert_eq!((answer.status, answer.get("content-length"), answer.length), (200, Some("12"), 0));
    client.get("http://hello/").expect_body("twelve bytes");
    assert_eq!(backend.connections(), 1);
}

#[test]
fn no_content_and_not_modified_have_no_body_and_keep_the_connection() {
    let backend = Backend::http()
        .script(|request| match request.head.target() {
            "/204" => Answer::status(204),
            "/304" => Answer::status(304).with("Content-Length", "100").with("ETag", "\"x\""),
            _ => Answer::ok("ok"),
        })
        .start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    let none = client.get("http://hello/204");
    assert_eq!((none.status, none.get("transfer-encoding"), none.get("content-length")), (204, None, None));
    let same = client.get("http://hello/304");
    assert_eq!((same.status, same.get("etag"), same.get("transfer-encoding")), (304, Some("\"x\""), None));
    client.get("http://hello/").expect_body("ok");
    assert_eq!(backend.connections(), 1);
}

#[test]
fn an_empty_answer_is_complete() {
    let backend = Backend::http().answer(Answer::ok("")).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    for _ in 0..3 {
        let answer = client.get("http://hello/");
        answer.expect_body("");
        assert_eq!(answer.get("content-length"), Some("0"));
    }
}

#[test]
fn every_status_and_reason_comes_back() {
    let backend = Backend::http()
        .script(|request| Answer::status(request.head.target().trim_start_matches('/').parse().unwrap()))
        .start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    for status in [200, 201, 299, 301, 307, 400, 401, 404, 407, 418, 429, 451, 499, 500, 502, 504, 599] {
        client.get(&format!("http://hello/{status}")).expect_status(status);
    }
}

#[test]
fn a_client_that_expects_100_continue_is_told_to_go_on() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    client.send(
        "POST http://hello/ HTTP/1.1\r\nHost: hello\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
    );
    assert_eq!(client.head().status(), Some(100));
    client.send("body").response().expect_body("ok");
    assert_eq!(backend.only_request().body, b"body");
}

#[test]
fn a_backend_that_refuses_before_100_continue_spares_the_body() {
    let backend = Backend::http().answer(Answer::status(401).unread().closing()).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    client.send(
        "POST http://hello/ HTTP/1.1\r\nHost: hello\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
    );
    let answer = client.response();
    answer.expect_status(401);
    assert_eq!(answer.interim, [0_u16; 0], "100 Continue came although the backend did not want the body");
}

#[test]
fn trailers_pass_both_ways() {
    let reply = Answer::chunks(&["a", "b"]).with("Trailer", "X-Sum").trailer("X-Sum", "2");
    let backend = Backend::http().answer(reply).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let request = Request::new("POST", "http://hello/").with("TE", "trailers").with("Trailer", "X-End");
    let answer = weir.ask(&request.chunks(&["1", "2"]).trailer("X-End", "yes"));
    answer.expect_body("ab");
    assert_eq!(e2e::message::find(&answer.trailers, "x-sum"), Some("2"));
    let request = backend.only_request();
    assert_eq!(request.body, b"12");
    assert_eq!(e2e::message::find(&request.trailers, "x-end"), Some("yes"));
}

#[test]
fn an_answer_that_ends_with_the_connection_is_framed_for_the_client() {
    let backend = Backend::http().answer(Answer::until_close("unframed")).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    for _ in 0..2 {
        let answer = client.get("http://hello/");
        answer.expect_body("unframed");
        assert!(answer.head.lists("transfer-encoding", "chunked"), "{:?}", answer.head);
    }
}

#[test]
fn an_answer_before_the_end_of_the_request_comes_through_at_once() {
    let backend = Backend::http().answer(Answer::status(413).unread().closing()).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    client.send("POST http://hello/ HTTP/1.1\r\nHost: hello\r\nContent-Length: 67108864\r\n\r\n");
    let mut upload = client.stream().try_clone().unwrap();
    // It goes on sending, as clients do, until the connection breaks.
    let sender = std::thread::spawn(move || while upload.write_all(&[b'x'; 4096]).is_ok() {});
    client.response().expect_status(413);
    client.rest();
    sender.join().unwrap();
}

#[test]
fn an_answer_that_a_reset_overtakes_is_a_proper_status_or_a_close() {
    let backend = Backend::http().answer(Answer::status(413).unread().then(Then::Reset)).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    client.send("POST http://hello/ HTTP/1.1\r\nHost: hello\r\nContent-Length: 1000000\r\n\r\nsome");
    let answer = client.try_response();
    assert!(answer.as_ref().map_or(true, |a| matches!(a.status, 413 | 502)), "{answer:?}");
}

#[test]
fn an_early_answer_of_a_backend_that_reads_on_costs_the_backend_nothing() {
    let early = Answer::ok("early").early().after(Duration::ZERO);
    let backend = Backend::http().answer(early).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    client.send("POST http://hello/ HTTP/1.1\r\nHost: hello\r\nContent-Length: 8\r\n\r\nhalf");
    assert_eq!(client.head().status(), Some(200));
    client.expect("early").send("rest");
    e2e::eventually("the whole body", || backend.only_request().complete);
    assert_eq!(backend.only_request().body, b"halfrest");
}

#[test]
fn an_answer_cut_short_is_seen_to_be_cut_short() {
    let parts = [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\nff\r\nmore",
    ];
    for part in parts {
        for then in [Then::Reset, Then::Close] {
            let backend = Backend::http().answer(Answer::raw(part).then(then)).start();
            let weir = Weir::serving("hello", &[backend.addr()]);
            let mut client = weir.client();
            let answer = client.start(&Request::get("http://hello/")).try_response();
            // Where the reset overtakes the head it is a plain 502; a complete 200 it must never be.
            let honest = answer.as_ref().is_ok_and(|a| a.end == End::Truncated || a.status == 502);
            assert!(honest, "{part:?} then {then:?} became {answer:?}");
        }
    }
}
