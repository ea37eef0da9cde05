//! Endpoints that leave, terminate or are not ready.

use std::time::Duration;

use super::{NOT_READY, PLAIN, READY, TERMINATING, backends, objects};
use e2e::time::within;
use e2e::{Answer, Backend, Clock, Request, Weir, eventually, folder};

#[test]
fn a_terminating_endpoint_is_used_only_when_nothing_else_is_left() {
    let [a, b] = backends(["a", "b"]);
    let with = |a_is, b_is| objects("hello", PLAIN, &[(a.addr(), a_is), (b.addr(), b_is)]);
    let weir = Weir::new().file("hello.yaml", &with(TERMINATING, READY)).start();
    for _ in 0..20 {
        weir.get("http://hello/").expect_body("b");
    }
    weir.folder().replace("hello.yaml", &with(TERMINATING, NOT_READY));
    within(Duration::from_secs(1), "its use", || weir.get("http://hello/").text() == "a");
    weir.folder().replace("hello.yaml", &with(TERMINATING, READY));
    within(Duration::from_secs(1), "its end", || weir.get("http://hello/").text() == "b");
    let before = a.count();
    for _ in 0..20 {
        weir.get("http://hello/").expect_body("b");
    }
    assert_eq!(a.count(), before);
}

#[test]
fn an_endpoint_that_begins_to_terminate_is_left_without_idle_connections() {
    let [a, b] = backends(["a", "b"]);
    let with = |a_is| objects("hello", PLAIN, &[(a.addr(), a_is), (b.addr(), READY)]);
    let weir = Weir::new().file("hello.yaml", &with(READY)).start();
    eventually("a connection to it", || {
        weir.get("http://hello/").expect_status(200);
        a.open() > 0
    });
    weir.folder().replace("hello.yaml", &with(TERMINATING));
    eventually("the end of its connections", || a.open() == 0);
    weir.get("http://hello/").expect_body("b");
}

#[test]
fn a_request_that_finishes_on_a_terminating_endpoint_leaves_it_no_idle_connection() {
    let a = Backend::http().script(|request| match request.head.target() {
        "/slow" => Answer::ok("a").after(Duration::from_secs(6)),
        _ => Answer::ok("a"),
    });
    let [b] = backends(["b"]);
    let a = a.on(([127, 0, 1, 2], b.addr().port()).into()).start();
    let with = |a_is, b_is| objects("hello", PLAIN, &[(a.addr(), a_is), (b.addr(), b_is)]);
    let weir = Weir::new().file("hello.yaml", &with(READY, NOT_READY)).start();
    let mut running = weir.client();
    running.start(&Request::get("http://hello/slow"));
    a.wait_for(1);
    weir.folder().replace("hello.yaml", &with(TERMINATING, READY));
    within(Duration::from_secs(5), "the change", || weir.get("http://hello/").text() == "b");
    running.response().expect_body("a");
    eventually("the end of its connection", || a.open() == 0);
    weir.folder().replace("hello.yaml", &with(READY, NOT_READY));
    eventually("its return", || weir.get("http://hello/").text() == "a");
    assert!(a.open() > 0, "one that is back keeps its connections again");
}

#[test]
fn a_request_that_runs_on_an_endpoint_that_leaves_finishes_and_the_next_goes_elsewhere() {
    let slow = Backend::http().answer(Answer::ok("slow").after(Duration::from_secs(1))).start();
    let other = Backend::http().answers("other").start();
    let weir = Weir::serving("hello", &[slow.addr()]);
    let mut running = weir.client();
    running.start(&Request::get("http://hello/"));
    slow.wait_for(1);
    weir.folder().replace("hello", &folder::line(other.addr()));
    within(Duration::from_millis(800), "the change", || !weir.knows(slow.addr()));
    for _ in 0..20 {
        weir.get("http://hello/").expect_body("other");
    }
    running.response().expect_body("slow");
    assert_eq!(slow.count(), 1);
    eventually("the end of its connection", || slow.open() == 0);
}

#[test]
fn a_service_without_a_ready_endpoint_is_503_at_once_and_says_how_many_are_not_ready() {
    let [a, b] = backends(["a", "b"]);
    let unready = objects("hello", PLAIN, &[(a.addr(), NOT_READY), (b.addr(), NOT_READY)]);
    let weir =
        Weir::new().file("hello.yaml", &unready).file("none.yaml", &objects("none", PLAIN, &[])).start();
    for (url, why) in [
        ("http://hello/", "/svc/hello has no ready endpoint (2 not ready)"),
        ("http://none/", "/svc/none has no endpoint"),
    ] {
        let begun = Clock::start();
        let answer = weir.get(url);
        answer.expect_status(503);
        assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
        assert_eq!(answer.text(), format!("{why}\n"));
        assert_eq!(answer.l5d_err(), why.replace(' ', "%20").replace('(', "%28").replace(')', "%29"));
        assert!(answer.get("retry-after").is_some());
    }
    weir.folder().replace("hello.yaml", &objects("hello", PLAIN, &[(a.addr(), READY)]));
    within(Duration::from_secs(1), "an answer", || weir.get("http://hello/").status == 200);
}
