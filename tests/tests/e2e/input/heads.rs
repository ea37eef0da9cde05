//! Heads over a bound, and heads that say nothing useful: a proper status, a closed connection, a word why.

use std::time::{Duration, Instant};

use e2e::time::PATIENCE;
use e2e::{Backend, Request, Weir};

#[test]
fn a_head_that_comes_too_slowly_is_408_or_a_close() {
    let backend = Backend::http().start();
    let weir = Weir::new().set("limits", "{ headerRead: 300ms }").service("hello", &[backend.addr()]).start();
    let mut client = weir.client();
    let begun = Instant::now();
    let head = format!("GET http://hello/ HTTP/1.1\r\nHost: hello\r\nX-Slow: {}", "a".repeat(1000));
    client.drip(head, Duration::from_millis(20));
    let (bytes, _) = client.rest();
    assert!(begun.elapsed() < PATIENCE);
    assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 408"), "{:?}", String::from_utf8_lossy(&bytes));
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_slow_head_on_a_kept_connection_has_the_same_bound() {
    let backend = Backend::http().start();
    let weir = Weir::new().set("limits", "{ headerRead: 300ms }").service("hello", &[backend.addr()]).start();
    let mut client = weir.client();
    client.get("http://hello/").expect_body("ok");
    client.send("GET http://hello/ HTTP/1.1\r\n");
    let (bytes, _) = client.rest();
    assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 408"), "{:?}", String::from_utf8_lossy(&bytes));
}

#[test]
fn a_client_that_says_nothing_is_closed() {
    let weir = Weir::new().set("limits", "{ headerRead: 300ms, idle: 300ms }").start();
    let mut client = weir.client();
    let (bytes, _) = client.rest();
    assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 408"), "{:?}", String::from_utf8_lossy(&bytes));
}

#[test]
fn an_endless_head_is_431_and_a_close() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    client.send("GET http://hello/ HTTP/1.1\r\nHost: hello\r\n");
    for _ in 0..64 {
        client.send(format!("X-Long: {}\r\n", "a".repeat(16384)));
    }
    client.response().expect_status(431);
    client.rest();
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_single_endless_field_is_431_and_a_close() {
    let weir = Weir::new().set("limits", "{ headerBytes: 8KiB }").start();
    let mut client = weir.client();
    client
        .send(format!("GET http://hello/ HTTP/1.1\r\nHost: hello\r\nX-Long: {}\r\n\r\n", "a".repeat(20_000)));
    client.response().expect_status(431);
    client.rest();
}

#[test]
fn too_many_fields_are_431() {
    let backend = Backend::http().start();
    let weir = Weir::new().set("limits", "{ headerCount: 50 }").service("hello", &[backend.addr()]).start();
    let many = |n: usize| (0..n).fold(Request::get("http://hello/"), |r, i| r.with(&format!("X-{i}"), "1"));
    weir.ask(&many(40)).expect_body("ok");
    weir.ask(&many(60)).expect_status(431);
    assert_eq!(backend.count(), 1);
}

#[test]
fn a_target_too_long_is_414() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    weir.get(&format!("http://hello/{}", "a".repeat(7000))).expect_body("ok");
    let answer = weir.get(&format!("http://hello/{}", "a".repeat(9000)));
    answer.expect_status(414);
    assert_eq!(backend.count(), 1);
}

#[test]
fn more_than_twenty_weirs_in_via_are_a_loop() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let list = |n: usize| Request::get("http://hello/").with("Via", &vec!["1.1 weir"; n].join(", "));
    let lines = |n: usize| (0..n).fold(Request::get("http://hello/"), |r, _| r.with("Via", "1.1 weir"));
    weir.ask(&list(20)).expect_body("ok");
    weir.ask(&lines(20)).expect_body("ok");
    let answer = weir.ask(&list(21));
    assert!(!answer.expect_status(508).l5d_err().is_empty());
    weir.ask(&lines(21)).expect_status(508);
    let mixed = Request::get("http://hello/").with("Via", &["1.0 weir, 1.1 weir"; 11].join(", "));
    weir.ask(&mixed).expect_status(508);
    let others = Request::get("http://hello/").with("Via", &vec!["1.1 squid"; 30].join(", "));
    weir.ask(&others).expect_body("ok");
    assert_eq!(backend.count(), 3);
}

#[test]
fn weirs_that_point_at_each_other_end_with_508() {
    let (one, two) = (Weir::new().file("hello", "").start(), Weir::new().file("hello", "").start());
    one.folder().service("hello", &[two.outgoing()]);
    two.folder().service("hello", &[one.outgoing()]);
    e2e::eventually("both to know the other", || one.get("http://hello/").status == 508);
}

#[test]
fn schemes_that_a_plain_proxy_does_not_serve_are_400() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let wrong: Vec<_> = ["https://hello/", "ftp://hello/", "http:///x", "http://", "hello", "//hello/"]
        .into_iter()
        .map(|target| (target, weir.ask(&Request::get(target).with("Host", "hello")).status))
        .filter(|(target, status)| *status != 400 && !(*target == "//hello/" && *status == 200))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    // A target that begins with two slashes is a path like any other.
    assert!(backend.requests().iter().all(|r| r.head.target() == "//hello/"), "{:?}", backend.requests());
}
