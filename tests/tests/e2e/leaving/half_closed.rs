//! A client that closes its sending side behind a complete request may still read: its endpoint decides, as without weir.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::Between;
use e2e::client::Closed;
use e2e::raw::{self, TcpServer};
use e2e::witness::{EVENT, Manner};
use e2e::{Client, Weir, eventually};

const GET: &str = "GET / HTTP/1.1\r\nHost: hello\r\n\r\n";

#[test]
fn a_request_followed_by_a_fin_reaches_its_endpoint_with_that_fin_and_is_answered() {
    let requests = [
        GET.to_owned(),
        "GET /a HTTP/1.0\r\nHost:hello\r\n\r\n".into(),
        "GET http://hello/ HTTP/1.1\r\nHost:   hello\r\n\r\n".into(),
        "POST / HTTP/1.1\r\nHost: hello\r\nContent-Length: 4\r\n\r\nbody".into(),
        "POST / HTTP/1.1\r\nHost: hello\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n".into(),
        format!("POST / HTTP/1.1\r\nHost: hello\r\nContent-Length: 300000\r\n\r\n{}", "x".repeat(300_000)),
    ];
    Between::both("{ halfClosed: 1h }", |between| {
        let witness = between.witness(Manner::AnswersAtTheEnd);
        for (at, request) in requests.iter().enumerate() {
            let mut client = between.client();
            client.send(request).half_close();
            client.response().expect_body("late");
            assert_eq!(client.closed(), Closed::End);
            assert_eq!(witness.wait_for_end(at + 1).how, Closed::End);
        }
        // None of their connections was used again.
        assert_eq!(witness.accepted(), requests.len());
        between.expect_nothing_in_flight();
    });
}

#[test]
fn a_fin_that_comes_while_the_answer_is_awaited_or_passes_is_passed_on() {
    Between::both("{ halfClosed: 1h }", |between| {
        let witness = between.witness(Manner::AnswersAtTheEnd);
        let mut client = between.client();
        client.send(GET);
        witness.wait_for(1);
        client.half_close().response().expect_body("late");
        drop(witness);

        let witness = between.witness(Manner::Streams);
        let mut client = between.client();
        client.send(GET);
        assert_eq!(client.head().status(), Some(200));
        client.half_close();
        assert_eq!(witness.wait_for_end(1).how, Closed::End);
        assert!(client.silent_for(Duration::from_millis(200)) || client.read(1) == b"9", "still open");
    });
}

#[test]
fn a_half_closed_exchange_that_is_silent_is_given_up_and_says_why() {
    Between::both("{ halfClosed: 300ms }", |between| {
        let witness = between.witness(Manner::Silent);
        let answer = between.client().send(GET).half_close().response();
        assert_eq!(answer.status, 504, "{answer:?}");
        assert!(
            answer.text().contains("closed its sending side") && answer.text().contains("300ms"),
            "{}",
            answer.text()
        );
        assert_eq!(witness.wait_for_end(1).how, Closed::End);
        assert_eq!(between.weir().faults("half_closed"), 1.0);
        drop(witness);

        let witness = between.witness(Manner::Streams);
        let mut client = between.client();
        client.send(GET).half_close();
        let (got, _) = client.rest();
        assert!(
            got.ends_with(b"data: 1\n\n\r\n") && !got.is_empty(),
            "no end of the chunks: {}",
            EVENT.len()
        );
        assert_eq!(witness.accepted(), 1, "no second attempt");
        let listener = between.listener();
        assert_eq!(between.weir().turned_away(listener, "half_closed"), 1.0);
        between.expect_nothing_in_flight();
        let failures = between.weir().metric("weir_endpoint_failures_total", &[]);
        assert_eq!(failures, 0.0, "the endpoint is not to blame");
    });
}

#[test]
fn an_endpoint_that_closes_because_its_client_did_is_neither_blamed_nor_replaced() {
    Between::both("{ halfClosed: 1h }", |between| {
        let witness = between.witness(Manner::ClosesAtTheEnd);
        let answer = between.client().send(GET).half_close().response();
        assert_eq!(answer.status, 504, "{answer:?}");
        assert_eq!(witness.accepted(), 1, "a GET is not tried again");
        let failures = between.weir().metric("weir_endpoint_failures_total", &[]);
        assert_eq!(failures, 0.0);
    });
}

#[test]
fn a_pipelined_request_is_no_end_of_its_client() {
    Between::both("{ halfClosed: 1h }", |between| {
        let backend = TcpServer::on(between.listen(), |mut stream| {
            // Reads and answers one request at a time, and notes an end before the next request.
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut piece) {
                std::thread::sleep(Duration::from_millis(300));
                stream.set_nonblocking(true).unwrap();
                let ended = matches!(stream.peek(&mut [0]), Ok(0));
                stream.set_nonblocking(false).unwrap();
                let target = String::from_utf8_lossy(&piece[..n]).split(' ').nth(1).unwrap().to_owned();
                let body = format!("{target} {}", if ended { "ended" } else { "open" });
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: hello\r\n\r\n");
        let expect = |client: &mut Client, bodies: &[&str]| {
            for body in bodies {
                client.response().expect_body(body);
            }
        };
        // Together with the first one, and behind it.
        let mut client = between.client();
        client.send(get("/a") + &get("/b"));
        expect(&mut client, &["/a open", "/b open"]);
        client.send(get("/c"));
        eventually("the request at the endpoint", || backend.accepted() > 0);
        client.send(get("/d"));
        expect(&mut client, &["/c open", "/d open"]);
        // A client that asks twice and closes its sending side: the end is behind the second request.
        let mut client = between.client();
        client.send(get("/e") + &get("/f")).half_close();
        expect(&mut client, &["/e open", "/f ended"]);
        assert_eq!(client.closed(), Closed::End);
    });
}

#[test]
fn clients_that_pipeline_and_leave_are_given_up_too() {
    Between::both("{ halfClosed: 300ms }", |between| {
        let witness = between.witness(Manner::Silent);
        for (at, later) in [false, true].into_iter().enumerate() {
            let mut client = between.client();
            client.send(GET);
            if later {
                witness.wait_for(at + 1);
            }
            client.send(GET);
            drop(client);
            witness.wait_for_end(at + 1);
        }
        between.expect_nothing_in_flight();
    });
}

#[test]
fn a_body_that_ends_early_is_no_half_closed_request() {
    Between::both("{ halfClosed: 1h }", |between| {
        let backend = TcpServer::counts_to_the_end(between.listen());
        for request in [
            "POST / HTTP/1.1\r\nHost: hello\r\nContent-Length: 9\r\n\r\nbody",
            "POST / HTTP/1.1\r\nHost: hello\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n",
        ] {
            let answer = between.client().send(request).half_close().rest().0;
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        }
        between.expect_nothing_in_flight();
        drop(backend);
    });
}

#[test]
fn a_half_closed_request_on_a_connection_that_its_endpoint_has_given_up_is_sent_again() {
    let accepted = AtomicUsize::new(0);
    let backend = TcpServer::on(raw::listen(raw::loopback()).unwrap(), move |mut stream| {
        let mut piece = [0; 4096];
        let is_first = accepted.fetch_add(1, Ordering::SeqCst) == 0;
        let mut is_used = false;
        while let Ok(n @ 1..) = stream.read(&mut piece) {
            assert!(piece[..n].starts_with(b"GET"));
            if is_first && is_used {
                // Until the client's end has come, too.
                while let Ok(1..) = stream.read(&mut piece) {}
                return;
            }
            is_used = true;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let limits = "{ halfClosed: 1h }";
    let weir =
        Weir::new().set("workers", "1").set("limits", limits).service("hello", &[backend.addr()]).start();
    weir.client().get("http://hello/").expect_body("ok");
    let request = "GET http://hello/ HTTP/1.1\r\nHost: hello\r\n\r\n";
    weir.client().send(request).half_close().response().expect_body("ok");
    assert_eq!((backend.accepted(), weir.faults("half_closed")), (2, 0.0));
}
