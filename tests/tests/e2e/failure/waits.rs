//! Waits that must end: for an answer, for a body, for somebody else's upload.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::backend::Then;
use e2e::time::within;
use e2e::{Answer, Backend, Client, Request, Weir, eventually};

#[test]
fn an_endpoint_that_does_not_answer_is_504_and_its_failure() {
    let backend = Backend::http().answer(Answer::ok("late").after(Duration::from_secs(60))).start();
    let weir = Weir::new().set("limits", "{ response: 300ms }").service("hello", &[backend.addr()]).start();
    let answer = weir.get("http://hello/");
    answer.expect_status(504);
    assert!(answer.text().contains("did not answer within 300ms"), "{}", answer.text());
    assert_eq!(weir.endpoint(backend.addr())["failures"], 1);
}

#[test]
fn endpoints_that_do_not_answer_are_ejected() {
    // Two, since one beside a healthy one would hardly be asked again, and the last one is never ejected.
    let hung =
        [(); 2].map(|()| Backend::http().answer(Answer::ok("late").after(Duration::from_secs(60))).start());
    let weir = Weir::new().set("limits", "{ response: 100ms }").set("breaker", "{ failures: 3 }");
    let weir = weir.service("hello", &hung.each_ref().map(Backend::addr)).start();
    eventually("an ejection", || {
        weir.get("http://hello/").expect_status(504);
        weir.metric("weir_endpoint_ejections_total", &[]) > 0.0
    });
    assert!(weir.metric("weir_attempts_total", &[("outcome", "timeout")]) >= 3.0);
}

#[test]
fn an_upload_that_goes_on_is_not_taken_for_silence() {
    let backend = Backend::http().answers("ok").start();
    let weir = Weir::new().set("limits", "{ response: 600ms }").service("hello", &[backend.addr()]).start();
    let mut client = weir.client();
    client.send("POST http://hello/ HTTP/1.1\r\nHost: hello\r\nContent-Length: 8\r\n\r\n");
    for _ in 0..8 {
        assert!(client.silent_for(Duration::from_millis(200)), "an answer before the body was whole");
        client.send("x");
    }
    client.response().expect_body("ok");
}

#[test]
fn a_client_silent_in_the_middle_of_its_body_is_closed_and_not_the_endpoints_fault() {
    let backend = Backend::http().answers("ok").start();
    let weir = Weir::new().set("limits", "{ body: 300ms }").service("hello", &[backend.addr()]).start();
    let mut client = weir.client();
    client.send("POST http://hello/ HTTP/1.1\r\nHost: hello\r\nContent-Length: 8\r\n\r\nhalf");
    within(Duration::from_secs(5), "its close", || {
        client.rest();
        true
    });
    eventually("nothing in flight", || weir.endpoint(backend.addr())["inFlight"] == 0);
    assert_eq!(weir.endpoint(backend.addr())["failures"], 0);
}

#[test]
fn nobody_waits_for_another_clients_upload() {
    let early = Answer::ok("early").early().after(Duration::ZERO);
    let backend = Backend::http().answer(early).start();
    let weir = Weir::new().set("workers", "1").service("hello", &[backend.addr()]).start();
    let mut slow = weir.client();
    slow.send("POST http://hello/ HTTP/1.1\r\nHost: hello\r\nContent-Length: 8\r\n\r\nhalf");
    assert_eq!(slow.head().status(), Some(200));
    slow.expect("early");
    within(Duration::from_secs(2), "another client's answer", || {
        weir.ask(&Request::get("http://hello/")).status == 200
    });
}

#[test]
fn an_answer_with_trailers_counts_and_keeps_its_connection() {
    let reply = Answer::chunks(&["a", "b"]).with("Trailer", "X-Sum").trailer("X-Sum", "2");
    let backend = Backend::http().answer(reply).start();
    let weir = Weir::new().set("workers", "1").service("hello", &[backend.addr()]).start();
    let mut client = weir.client();
    for _ in 0..5 {
        client.ask(&Request::get("http://hello/").with("TE", "trailers")).expect_body("ab");
    }
    assert_eq!((backend.count(), backend.connections()), (5, 1));
    assert_eq!(weir.metric("weir_attempts_total", &[("service", "/svc/hello"), ("outcome", "2xx")]), 5.0);
}

#[test]
fn another_try_has_the_whole_time_for_its_answer() {
    let first = AtomicBool::new(true);
    let backend = Backend::http().script(move |_| match first.swap(false, Ordering::SeqCst) {
        true => Answer::raw("").after(Duration::from_secs(2)).then(Then::Reset),
        false => Answer::ok("late").after(Duration::from_secs(2)),
    });
    let backend = backend.start();
    let weir = Weir::new().set("limits", "{ response: 3s }").service("hello", &[backend.addr()]).start();
    weir.get("http://hello/").expect_body("late");
    assert_eq!(weir.metric("weir_attempts_total", &[("outcome", "timeout")]), 0.0);
}

#[test]
fn an_upload_may_go_on_after_its_answer() {
    for answer in ["early", ""] {
        let backend = Backend::http().answer(Answer::ok(answer).early()).start();
        let limits = "{ headerRead: 1s, idle: 1s }";
        let weir = Weir::new().set("limits", limits).service("hello", &[backend.addr()]).start();
        let mut client = weir.client();
        client.send("POST http://hello/ HTTP/1.1\r\nHost: hello\r\nContent-Length: 10\r\n\r\n");
        assert_eq!(client.head().status(), Some(200));
        client.expect(answer);
        for _ in 0..10 {
            assert!(client.silent_for(Duration::from_millis(300)), "the upload was cut");
            client.send("x");
        }
        eventually("the whole upload", || backend.only_request().complete);
        // From now on it is between two requests.
        client.rest();
        assert_eq!(weir.turned_away("outgoing", "bad_head"), 0.0);
    }
}

/// A weir that waits 600 ms for an answer, and a client of it with one byte of an upload left that was answered early. The
/// next request is answered by `late`.
fn answered_early(late: fn() -> Answer) -> (Backend, Weir, Client) {
    let first = AtomicBool::new(true);
    let backend = Backend::http().script(move |_| match first.swap(false, Ordering::SeqCst) {
        true => Answer::ok("early").early(),
        false => late(),
    });
    let backend = backend.start();
    let weir = Weir::new().set("limits", "{ response: 600ms }").service("hello", &[backend.addr()]).start();
    let mut client = weir.client();
    client.send("POST http://hello/ HTTP/1.1\r\nHost: hello\r\nContent-Length: 1\r\n\r\n");
    assert_eq!(client.head().status(), Some(200));
    client.expect("early");
    (backend, weir, client)
}

#[test]
fn the_end_of_one_upload_is_not_taken_for_the_next_ones() {
    let (_backend, _weir, mut client) = answered_early(|| Answer::ok("late"));
    // weir reads both at once.
    client.send("xPOST http://hello/ HTTP/1.1\r\nHost: hello\r\nContent-Length: 1\r\n\r\n");
    assert!(client.silent_for(Duration::from_secs(2)), "a client is waited for, and not the endpoint");
    client.send("x");
    client.response().expect_body("late");
}

#[test]
fn the_end_of_an_upload_does_not_end_the_wait_for_the_next_answer() {
    let (_backend, _weir, mut client) = answered_early(|| Answer::ok("late").after(Duration::from_secs(60)));
    client.send("xGET http://hello/ HTTP/1.1\r\nHost: hello\r\n\r\n");
    client.response().expect_status(504);
}
