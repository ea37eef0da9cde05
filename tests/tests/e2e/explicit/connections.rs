//! Connections on either side: kept, closed, pipelined, bounded.

use std::time::{Duration, Instant};

use e2e::backend::Then;
use e2e::client::Closed;
use e2e::message::End;
use e2e::time::within;
use e2e::{Answer, Backend, Clock, Request, Weir, eventually};

#[test]
fn a_hundred_requests_use_one_connection_on_either_side() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    for _ in 0..50 {
        client.get("http://hello/").expect_body("ok");
        client.ask(&Request::post("http://hello/", "body")).expect_body("ok");
    }
    assert_eq!((backend.count(), backend.connections()), (100, 1));
}

#[test]
fn a_client_that_closes_leaves_the_backends_connection_to_the_next() {
    let backend = Backend::http().start();
    let weir = Weir::new().set("workers", "1").service("hello", &[backend.addr()]).start();
    for _ in 0..5 {
        weir.client().get("http://hello/").expect_body("ok");
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn connection_close_of_a_client_is_answered_and_followed() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    let answer = client.ask(&Request::get("http://hello/").with("Connection", "close"));
    answer.expect_body("ok");
    assert!(answer.head.lists("connection", "close"), "{:?}", answer.head);
    assert_eq!(client.closed(), Closed::End);
    assert!(
        !backend.only_request().head.lists("connection", "close"),
        "it is the client's, not the backend's"
    );
}

#[test]
fn connection_close_of_a_backend_is_not_the_clients() {
    let backend = Backend::http().answer(Answer::ok("ok").closing()).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    for _ in 0..3 {
        let answer = client.get("http://hello/");
        answer.expect_body("ok");
        assert!(!answer.head.lists("connection", "close"), "{:?}", answer.head);
    }
    assert_eq!(backend.connections(), 3);
}

#[test]
fn a_backend_that_closes_kept_connections_without_a_word_costs_no_get() {
    let backend = Backend::http().closes_after(3).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    for _ in 0..60 {
        client.get("http://hello/").expect_body("ok");
    }
    assert!(backend.connections() >= 20);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::http()
        .script(|request| {
            let slow = request.head.target() == "/1";
            Answer::ok(request.head.target()).after(Duration::from_millis(if slow { 100 } else { 0 }))
        })
        .start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    let requests: Vec<u8> = ["/1", "/2", "/3"]
        .iter()
        .flat_map(|path| Request::post(&format!("http://hello{path}"), "body").bytes())
        .collect();
    client.send(requests);
    for path in ["/1", "/2", "/3"] {
        client.response().expect_body(path);
    }
}

#[test]
fn an_http10_client_gets_an_answer_that_ends_with_the_connection() {
    let backend = Backend::http().answer(Answer::chunks(&["one", "two"])).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    client.send("GET http://hello/ HTTP/1.0\r\n\r\n");
    let answer = client.response();
    answer.expect_body("onetwo");
    assert_eq!(answer.get("transfer-encoding"), None, "HTTP/1.0 knows no chunks");
    assert_eq!(client.closed(), Closed::End);
    let head = backend.only_request().head;
    assert_eq!((head.start.as_str(), head.get("host")), ("GET / HTTP/1.1", Some("hello")));
}

#[test]
fn an_answer_cut_short_is_no_whole_answer_to_an_http10_client() {
    let half = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    for then in [Then::Close, Then::Reset] {
        let backend = Backend::http().answer(Answer::raw(half).then(then)).start();
        let weir = Weir::serving("hello", &[backend.addr()]);
        let mut client = weir.client();
        client.send("GET http://hello/ HTTP/1.0\r\n\r\n");
        assert_eq!(client.rest().1, Closed::Reset, "{then:?}: its end looks like the answer's");
    }
}

#[test]
fn an_http10_client_that_asks_keeps_its_connection() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nHost: hello\r\nConnection: keep-alive\r\n\r\n");
        client.response().expect_body("ok");
    }
}

#[test]
fn an_http10_backend_serves_an_http11_client() {
    let backend = Backend::http().answer(Answer::until_close("old").http10()).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    for _ in 0..2 {
        let answer = client.get("http://hello/");
        answer.expect_body("old");
        assert_eq!((answer.end, answer.head.start.split(' ').next()), (End::Complete, Some("HTTP/1.1")));
    }
}

#[test]
fn a_client_idle_for_too_long_is_closed_in_order() {
    let backend = Backend::http().start();
    let weir = Weir::new().set("limits", "{ idle: 200ms }").service("hello", &[backend.addr()]).start();
    let mut client = weir.client();
    client.get("http://hello/").expect_body("ok");
    assert_eq!(client.closed(), Closed::End);
}

#[test]
fn a_backends_connection_idle_for_too_long_is_closed() {
    let backend = Backend::http().start();
    let weir = Weir::new().set("limits", "{ poolIdle: 200ms }").service("hello", &[backend.addr()]).start();
    weir.get("http://hello/").expect_body("ok");
    eventually("the idle connection's end", || backend.open() == 0);
    weir.get("http://hello/").expect_body("ok");
    assert_eq!(backend.connections(), 2);
}

#[test]
fn a_backends_connection_is_closed_within_a_second_of_its_time() {
    const IDLE: Duration = Duration::from_secs(1);
    let backend = Backend::http().start();
    let weir = Weir::new().set("limits", "{ poolIdle: 1s }").service("hello", &[backend.addr()]).start();
    let lasted = [(); 3].map(|()| {
        let (asked, clock) = (Instant::now(), Clock::start());
        weir.get("http://hello/").expect_body("ok");
        eventually("the unused connection's end", || backend.open() == 0);
        (asked.elapsed(), clock.elapsed())
    });
    assert!(lasted.iter().all(|it| it.0 >= IDLE), "{lasted:?}");
    // A busy machine may make some of them late, whatever weir does.
    assert!(lasted.iter().any(|it| it.1 <= IDLE + Duration::from_secs(1)), "{lasted:?}");
}

#[test]
fn the_connections_of_a_peak_are_closed_soon_and_those_in_use_stay() {
    let backend = Backend::http().script(|_| Answer::ok("ok").after(Duration::from_millis(500))).start();
    let limits = "{ poolIdle: 1h, poolPurgeDelay: 500ms }";
    let weir =
        Weir::new().set("limits", limits).set("workers", "1").service("hello", &[backend.addr()]).start();
    let mut clients: Vec<_> = (0..16).map(|_| weir.client()).collect();
    for client in &mut clients {
        client.start(&Request::get("http://hello/"));
    }
    for client in &mut clients {
        client.response().expect_body("ok");
    }
    let peak = backend.connections();
    assert!(peak > 8, "{peak} connections for 16 requests at the same time");
    eventually("the end of those that nobody needs", || {
        weir.get("http://hello/").expect_body("ok");
        backend.open() <= 2
    });
    assert_eq!(backend.connections(), peak, "one that was needed was closed, too");
}

#[test]
fn connections_over_the_limit_wait_until_one_leaves() {
    let backend = Backend::http().script(|request| match request.head.target() {
        "/hang" => Answer::raw("").then(Then::Hang),
        _ => Answer::ok("ok"),
    });
    let backend = backend.start();
    let limits = "{ connections: 4 }";
    let weir = Weir::new().set("limits", limits).service("hello", &[backend.addr()]).start();
    // Idle ones would make room.
    let mut held: Vec<_> = (0..4).map(|_| weir.client()).collect();
    for client in &mut held {
        client.start(&Request::get("http://hello/hang"));
    }
    backend.wait_for(4);
    let mut fifth = weir.client();
    fifth.start(&Request::get("http://hello/"));
    assert!(fifth.silent_for(Duration::from_millis(300)), "a fifth connection was served, or closed");
    assert!(weir.turned_away("outgoing", "full") >= 1.0, "nothing says that the limit was reached");
    held.pop().unwrap().vanish();
    fifth.response().expect_body("ok");
}

#[test]
fn connections_that_end_leave_no_descriptor_behind() {
    let backend = Backend::http().start();
    let weir = Weir::new().set("limits", "{ poolIdle: 200ms }").service("hello", &[backend.addr()]).start();
    weir.get("http://hello/").expect_body("ok");
    eventually("the idle connection's end", || backend.open() == 0);
    let before = weir.descriptors();
    for _ in 0..100 {
        weir.get("http://hello/").expect_body("ok");
    }
    within(Duration::from_secs(10), "the descriptors of ended connections", || {
        weir.descriptors() <= before + 1
    });
}
