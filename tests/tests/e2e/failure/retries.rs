//! What is tried again: only what cannot have had an effect, once, and elsewhere.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use e2e::backend::{Received, Then};
use e2e::{Answer, Backend, Request, Weir, eventually};

fn breaks_before_an_answer(then: Then) -> Backend {
    Backend::http().answer(Answer::raw("").then(then)).start()
}

#[test]
fn a_get_whose_connection_ends_before_an_answer_is_tried_once_elsewhere() {
    for then in [Then::Reset, Then::Close] {
        let (bad, good) = (breaks_before_an_answer(then), Backend::patient());
        let weir = Weir::serving("hello", &[bad.addr(), good.addr()]);
        for _ in 0..20 {
            weir.get("http://hello/").expect_body("ok");
        }
        assert!(bad.count() > 0, "it was never asked, so this shows nothing");
        assert_eq!(good.count(), 20);
    }
}

/// Answers the first request of each connection, and meets the others with `then`, so long after they came.
fn answers_once_per_connection(then: Then, after: Duration) -> Backend {
    let seen = Mutex::new(HashSet::new());
    let answer = move |received: &Received| match seen.lock().unwrap().insert(received.connection) {
        true => Answer::ok("ok"),
        false => Answer::raw("").after(after).then(then),
    };
    Backend::http().script(answer).start()
}

#[test]
fn a_kept_connection_closed_just_as_a_request_went_out_is_no_failure_of_its_endpoint() {
    for then in [Then::Reset, Then::Close] {
        let backend = answers_once_per_connection(then, Duration::ZERO);
        let good = Backend::patient();
        let weir = Weir::new().set("workers", "1").set("breaker", "{ failures: 1 }");
        let weir = weir.service("hello", &[backend.addr(), good.addr()]).start();
        let stale = || weir.metric("weir_attempts_total", &[("outcome", "stale")]);
        eventually("a few such closes", || {
            weir.get("http://hello/").expect_body("ok");
            stale() > 3.0
        });
        assert_eq!(weir.endpoint(backend.addr())["failures"], 0);
        assert_eq!(weir.metric("weir_endpoint_ejections_total", &[]), 0.0);
    }
}

#[test]
fn a_kept_connection_that_breaks_while_its_answer_is_awaited_is_a_failure() {
    let backend = answers_once_per_connection(Then::Reset, Duration::from_millis(1500));
    let weir = Weir::new().set("workers", "1").service("hello", &[backend.addr()]).start();
    weir.get("http://hello/").expect_body("ok");
    eventually("the connection to be kept", || weir.metric("weir_endpoint_idle_connections", &[]) == 1.0);
    weir.ask(&Request::post("http://hello/", "x")).expect_status(502);
    assert_eq!(weir.endpoint(backend.addr())["failures"], 1);
}

#[test]
fn a_get_is_tried_twice_at_most() {
    let bad = [(); 4].map(|()| breaks_before_an_answer(Then::Reset));
    let weir = Weir::serving("hello", &bad.each_ref().map(Backend::addr));
    let answer = weir.get("http://hello/");
    answer.expect_status(502);
    assert!(!answer.l5d_err().is_empty());
    let counts = bad.each_ref().map(Backend::count);
    assert_eq!(counts.iter().sum::<usize>(), 2, "{counts:?}");
    assert!(counts.iter().all(|n| *n <= 1), "the second attempt went to the same endpoint: {counts:?}");
}

#[test]
fn a_post_is_sent_once_whatever_becomes_of_it() {
    for then in [Then::Reset, Then::Close] {
        let (bad, good) = (breaks_before_an_answer(then), Backend::patient());
        let weir = Weir::serving("hello", &[bad.addr(), good.addr()]);
        let mut failed = 0;
        for _ in 0..20 {
            let answer = weir.ask(&Request::post("http://hello/", "body"));
            assert!(matches!(answer.status, 200 | 502), "{answer:?}");
            failed += usize::from(answer.status == 502);
        }
        assert_eq!(
            bad.count(),
            failed,
            "each POST that reached the bad endpoint failed, and none went on from there"
        );
        assert_eq!(bad.count() + good.count(), 20);
        assert!(failed > 0, "the bad endpoint was never asked, so this shows nothing");
    }
}

#[test]
fn an_idempotent_request_with_a_body_is_sent_once() {
    let (bad, good) = (breaks_before_an_answer(Then::Reset), Backend::patient());
    let weir = Weir::serving("hello", &[bad.addr(), good.addr()]);
    for _ in 0..20 {
        weir.ask(&Request::new("PUT", "http://hello/").chunks(&["some", "body"]));
    }
    assert_eq!(bad.count() + good.count(), 20);
    assert!(bad.count() > 0);
}

#[test]
fn idempotent_methods_are_tried_again_and_others_are_not() {
    for (method, again) in [
        ("HEAD", true),
        ("OPTIONS", true),
        ("DELETE", true),
        ("PUT", true),
        ("PATCH", false),
        ("POST", false),
    ] {
        let (bad, good) = (breaks_before_an_answer(Then::Close), Backend::patient());
        let weir = Weir::serving("hello", &[bad.addr(), good.addr()]);
        let mut failed = 0;
        for _ in 0..12 {
            failed += usize::from(weir.ask(&Request::new(method, "http://hello/")).status != 200);
        }
        assert!(bad.count() > 0, "{method}");
        assert_eq!(failed, if again { 0 } else { bad.count() }, "{method}");
    }
}

#[test]
fn what_is_tried_again_is_what_was_sent_before_byte_for_byte() {
    let long = "x".repeat(9_000);
    let mut fields = format!(
        "Host: hello\r\nCookie: a=b; c=d\r\nX-Empty:\r\nCookie: e=f:g\r\nX-Tab: a\tb\r\nx!#$%&'*+-.^_`|~9: :\r\n\
         X-Long: {long}\r\n"
    )
    .into_bytes();
    fields.extend_from_slice(b"X-Not-Ascii: \xffpi\xc3\xa8ce\x80\r\n\r\n");
    for line in
        ["GET http://hello/a%20b?c=d&e={f} HTTP/1.1", "OPTIONS http://hello HTTP/1.1", "PUT / HTTP/1.1"]
    {
        let bad = breaks_before_an_answer(Then::Close);
        let good = Backend::patient();
        let weir = Weir::serving("hello", &[bad.addr(), good.addr()]);
        let sent = [line.as_bytes(), b"\r\n", &fields].concat();
        eventually("one that is tried again", || {
            weir.client().send(&sent).response().expect_body("ok");
            bad.count() > 0
        });
        let (first, second) = (bad.raw().concat(), good.raw().concat());
        assert!(
            first.ends_with(b"\r\n\r\n") && first.len() > long.len(),
            "{}",
            String::from_utf8_lossy(&first)
        );
        assert!(second.ends_with(&first), "{line}: {}", String::from_utf8_lossy(&second));
    }
}

#[test]
fn an_answer_of_5xx_is_the_backends_word_and_is_not_tried_again() {
    let bad = Backend::http().answer(Answer::status(503)).start();
    let good = Backend::patient();
    let weir = Weir::serving("hello", &[bad.addr(), good.addr()]);
    for _ in 0..20 {
        let answer = weir.get("http://hello/");
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        assert!(answer.l5d_err().is_empty());
    }
    assert_eq!(bad.count() + good.count(), 20);
}

#[test]
fn an_answer_that_has_begun_is_not_tried_again() {
    let bad = Backend::http().answer(Answer::raw("HTTP/1.1 20").then(Then::Close)).start();
    let good = Backend::patient();
    let weir = Weir::serving("hello", &[bad.addr(), good.addr()]);
    for _ in 0..20 {
        weir.get("http://hello/");
    }
    assert_eq!(bad.count() + good.count(), 20);
    assert!(bad.count() > 0);
}

#[test]
fn a_kept_connection_that_died_meanwhile_costs_not_even_a_post() {
    // The backend resets the idle connection; weir learns of it before it sends, or hands the request to another.
    let mut backend = Backend::http().start();
    let weir = Weir::new().set("workers", "1").service("hello", &[backend.addr()]).start();
    for _ in 0..10 {
        weir.ask(&Request::post("http://hello/", "x")).expect_body("ok");
        backend.kill();
        backend.restart();
        // The reset is on its way over loopback; only when it has arrived is the outcome certain.
        eventually("the reset to arrive", || weir.get("http://hello/").status == 200);
    }
}
