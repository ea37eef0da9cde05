//! `Expect: 100-continue`: who waits for whom. The endpoints here never ask for a body, and weir's own patience is longer
//! than a test's: whoever waits where nobody has to, waits in vain.

use std::time::Duration;

use e2e::{Answer, Backend, Client, Weir};

const HEAD: &str = "POST http://hello/ HTTP/1.1\r\nHost: hello\r\nExpect: 100-continue\r\n";

fn patient(answer: Answer) -> (Weir, Backend) {
    let backend = Backend::http().answer(answer).start();
    let limits = "{ expectContinue: 5m }";
    let weir = Weir::new().set("limits", limits).service("hello", &[backend.addr()]).start();
    (weir, backend)
}

fn silent() -> (Weir, Backend) {
    patient(Answer::ok("ok").unasked())
}

/// Sends `pieces` with a pause before each but the first, long enough for weir to see them one by one.
fn send(client: &mut Client, pieces: &[&str]) {
    for (at, piece) in pieces.iter().enumerate() {
        if at > 0 {
            std::thread::sleep(Duration::from_millis(50));
        }
        client.send(piece);
    }
}

#[test]
fn a_body_that_comes_unasked_waits_for_nobody() {
    let head = |field: &str| format!("{HEAD}{field}\r\n\r\n");
    let (length, chunked) = (head("Content-Length: 4"), head("Transfer-Encoding: chunked"));
    let tight =
        "POST http://hello/ HTTP/1.1\r\nHost:hello\r\nExpect:100-Continue\r\nContent-Length:4\r\n\r\n";
    let tight_chunks = tight.replace("Content-Length:4", "Transfer-Encoding:chunked");
    let cases: [(&[&str], &str); 12] = [
        (&[&format!("{length}body")], "body"),
        (&[&format!("{length}\r\n\r\n")], "\r\n\r\n"),
        (&[&format!("{chunked}4\r\nbody\r\n0\r\n\r\n")], "body"),
        (&[&format!("{length}b"), "ody"], "body"),
        (&[&length, "body"], "body"),
        (&[&length, "b", "od", "y"], "body"),
        (&[&chunked, "4\r\nbody\r\n", "0\r\n\r\n"], "body"),
        (&[&length[..20], &format!("{}body", &length[20..])], "body"),
        (&[&format!("{tight}body")], "body"),
        (&[&format!("{tight}\r\n\r\n")], "\r\n\r\n"),
        (&[&format!("{tight_chunks}1\r\nb\r\n0\r\n\r\n")], "b"),
        (&[tight, "body"], "body"),
    ];
    let (weir, backend) = silent();
    let mut kept = weir.client();
    for (pieces, body) in cases {
        for client in [&mut kept, &mut weir.client()] {
            backend.forget();
            send(client, pieces);
            client.response().expect_body("ok");
            let request = backend.only_request();
            assert_eq!((request.body.as_slice(), request.complete), (body.as_bytes(), true), "{pieces:?}");
            assert_eq!(request.head.get("expect").map(str::to_lowercase).as_deref(), Some("100-continue"));
        }
    }
    assert_eq!(weir.metric("weir_expect_timeouts_total", &[]), 0.0);
}

#[test]
fn a_pipelined_body_waits_for_nobody() {
    let (weir, backend) = silent();
    let mut client = weir.client();
    let one = format!("{HEAD}Content-Length: 4\r\n\r\nbody");
    client.send(one.repeat(3));
    for _ in 0..3 {
        client.response().expect_body("ok");
    }
    assert_eq!(backend.count(), 3);
}

#[test]
fn what_http10_expects_is_ignored_and_does_not_go_on() {
    let (weir, backend) = silent();
    let head = HEAD.replace("HTTP/1.1", "HTTP/1.0") + "Content-Length: 4\r\n\r\n";
    for pieces in [&[&*format!("{head}body")][..], &[&head, "body"]] {
        backend.forget();
        let mut client = weir.client();
        send(&mut client, pieces);
        let answer = client.response();
        answer.expect_body("ok");
        assert_eq!(answer.interim, [0_u16; 0]);
        let request = backend.only_request();
        assert_eq!((request.head.get("expect"), request.body.as_slice()), (None, &b"body"[..]));
    }
}

#[test]
fn expectations_that_are_not_known_keep_nothing_back() {
    for fields in ["Expect: 200-ok", "Expect: 100-continue, x", "Expect: 100-continue\r\nExpect: x"] {
        let (weir, backend) = silent();
        let mut client = weir.client();
        client.send(format!(
            "POST http://hello/ HTTP/1.1\r\nHost: hello\r\n{fields}\r\nContent-Length: 4\r\n\r\nbody"
        ));
        client.response().expect_body("ok");
        assert_eq!(backend.only_request().body, b"body", "{fields}");
    }
}

#[test]
fn a_client_that_waits_is_not_told_to_go_on_before_the_endpoint_says_so() {
    for answer in [Answer::status(417), Answer::status(401).after(Duration::from_millis(300))] {
        let (weir, _backend) = patient(answer.unread().closing());
        let mut client = weir.client();
        client.send(format!("{HEAD}Content-Length: 4\r\n\r\n"));
        let answer = client.response();
        assert_eq!(answer.interim, [0_u16; 0], "{:?}", answer.head);
    }
}

#[test]
fn a_client_that_waits_for_an_endpoint_that_never_asks_is_told_to_go_on_after_a_while() {
    let backend = Backend::http().answer(Answer::ok("ok").unasked()).start();
    let limits = "{ expectContinue: 100ms }";
    let weir = Weir::new().set("limits", limits).service("hello", &[backend.addr()]).start();
    let mut client = weir.client();
    client.send(format!("{HEAD}Content-Length: 4\r\n\r\n"));
    assert_eq!(client.head().status(), Some(100));
    client.send("body").response().expect_body("ok");
    assert_eq!(weir.metric("weir_expect_timeouts_total", &[]), 1.0);
}
