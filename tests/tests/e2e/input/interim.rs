//! Interim answers (1xx): a few pass, and an endpoint that sends no end of them harms nobody but its own clients.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use e2e::backend::Then;
use e2e::raw::{self, TcpServer};
use e2e::{Answer, Backend, Request, Weir, eventually};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";

/// An endpoint that answers each head with `said` for as long as anybody listens, and how many of its connections are open.
fn flooding(said: impl Into<Vec<u8>>) -> (TcpServer, Arc<AtomicUsize>) {
    let (said, open) = (said.into(), Arc::new(AtomicUsize::new(0)));
    let count = open.clone();
    let server = TcpServer::on(raw::listen(raw::loopback()).unwrap(), move |mut stream| {
        count.fetch_add(1, Ordering::SeqCst);
        let _ = stream.read(&mut [0; 4096]);
        while stream.write_all(&said).is_ok() {}
        count.fetch_sub(1, Ordering::SeqCst);
    });
    (server, open)
}

#[test]
fn a_flood_of_interim_answers_is_a_502_and_holds_up_nobody_else() {
    let (flood, open) = flooding(HINTS.repeat(1000));
    let backend = Backend::http().start();
    // All of them share one worker.
    let weir = Weir::new().set("workers", "1").service("flood", &[flood.addr()]);
    let weir = weir.service("hello", &[backend.addr()]).start();
    let mut other = weir.client();
    other.get("http://hello/").expect_body("ok");
    let flooded: Vec<_> = (0..16)
        .map(|_| {
            let mut client = weir.client();
            std::thread::spawn(move || client.get("http://flood/"))
        })
        .collect();
    for _ in 0..50 {
        other.get("http://hello/").expect_body("ok");
    }
    let answers: Vec<_> = flooded.into_iter().map(|it| it.join().unwrap()).collect();
    let by_limit =
        answers.iter().filter(|it| it.text().contains("more than 100 interim answers (1xx)")).count();
    for answer in &answers {
        // Those that come after a few of them find the endpoint taken out.
        assert!(matches!(answer.status, 502 | 503), "{answer:?}");
    }
    assert!(by_limit > 0, "{answers:?}");
    assert_eq!(weir.faults("interim"), by_limit as f64);
    let failed = weir.metric("weir_attempts_total", &[("service", "/svc/flood"), ("outcome", "bad_framing")]);
    assert_eq!(failed, by_limit as f64);
    eventually("its connections to be closed", || open.load(Ordering::SeqCst) == 0);
}

#[test]
fn every_kind_of_flood_ends_in_a_502() {
    let floods = [
        ("100 alone", "HTTP/1.1 100 Continue\r\n\r\n".repeat(500)),
        ("the shortest heads", "HTTP/1.1 199\n\n".repeat(500)),
        ("empty lines", "\r\n".repeat(5000)),
        ("few heads with many bytes", format!("HTTP/1.1 103 Hints\r\nLink: {}\r\n\r\n", "x".repeat(30_000))),
        ("an answer behind too many of them", HINTS.repeat(101) + OK),
    ];
    let requests = [
        Request::get("http://flood/"),
        Request::post("http://flood/", "order"),
        Request::post("http://flood/", "order").with("Expect", "100-continue"),
        Request::new("HEAD", "http://flood/"),
    ];
    for (kind, said) in floods {
        let (flood, open) = flooding(said);
        let weir = Weir::serving("flood", &[flood.addr()]);
        for request in &requests {
            assert_eq!(weir.ask(request).status, 502, "{kind}: {request:?}");
        }
        eventually("its connections to be closed", || open.load(Ordering::SeqCst) == 0);
        // Empty lines may also be too large a head.
        let faults = weir.faults("interim") + weir.faults("framing");
        assert_eq!(faults, requests.len() as f64, "{kind}");
    }
}

#[test]
fn a_few_interim_answers_pass_for_every_request_of_a_connection() {
    let mixed = ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 102\r\n\r\n", HINTS].concat();
    let long_head = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 2\r\n\r\nok", "x".repeat(40_000));
    for before in
        ["HTTP/1.1 100 Continue\r\n\r\n".to_owned(), HINTS.to_owned(), mixed.repeat(10), HINTS.repeat(100)]
    {
        for answer in [OK, &long_head] {
            let backend = Backend::http().answer(Answer::raw(before.clone() + answer)).start();
            let weir = Weir::new().set("workers", "1").service("hello", &[backend.addr()]).start();
            let mut client = weir.client();
            // A client that did not ask for 100 has no use for it.
            let kinds = [("103 Early", 103), ("102\r", 102)];
            let count = |text: &str| before.matches(text).count();
            for _ in 0..20 {
                let answer = client.ask(&Request::post("http://hello/", "order"));
                answer.expect_body("ok");
                for (text, status) in kinds {
                    let came = answer.interim.iter().filter(|it| **it == status).count();
                    assert_eq!((came, answer.interim.contains(&100)), (count(text), false), "{status}");
                }
            }
            assert_eq!(backend.connections(), 1);
        }
    }
}

#[test]
fn an_interim_answer_tells_a_stranger_nothing_of_linkerds_fields() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nL5d-Dst-Client: /a\r\nl5d-err: b\r\n\r\n";
    let backend =
        Backend::http().answer(Answer::raw(format!("{hints}HTTP/1.1 204 No Content\r\n\r\n"))).start();
    for (overrides, is_stranger) in [("[127.0.0.0/8]", false), ("[]", true)] {
        let outgoing = format!("{{ listen: 127.0.0.1:0, overrides: {overrides} }}");
        let weir = Weir::new().set("outgoing", &outgoing).service("hello", &[backend.addr()]).start();
        let mut client = weir.client();
        client.start(&Request::get("http://hello/"));
        let hint = client.head();
        assert_eq!((hint.status(), hint.get("Link")), (Some(103), Some("</a>")));
        let told = ["l5d-dst-client", "l5d-err"].map(|name| hint.get(name).is_some());
        assert_eq!(told, [!is_stranger; 2], "{hint:?}");
    }
}

#[test]
fn an_interim_answer_reaches_its_client_before_the_answer_is_there() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = TcpServer::on(raw::listen(raw::loopback()).unwrap(), move |mut stream| {
        while stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {
            // In pieces, as the network may cut it.
            let (first, rest) = HINTS.split_at(30);
            for piece in [first, rest] {
                stream.write_all(piece.as_bytes()).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
            wait.lock().unwrap().recv().unwrap();
            stream.write_all(OK.as_bytes()).unwrap();
        }
    });
    let weir = Weir::serving("hello", &[server.addr()]);
    let mut client = weir.client();
    for _ in 0..3 {
        client.start(&Request::get("http://hello/"));
        let hint = client.head();
        assert_eq!((hint.status(), hint.get("Link")), (Some(103), Some("</a.css>; rel=preload")));
        go.send(()).unwrap();
        client.response().expect_body("ok");
    }
    // HTTP/1.0 has none (RFC 9110 §15.2).
    go.send(()).unwrap();
    let mut client = weir.client();
    client.send("GET http://hello/ HTTP/1.0\r\n\r\n");
    assert_eq!(client.head().status(), Some(200));
}

#[test]
fn interim_answers_of_pipelined_requests_come_each_before_its_answer() {
    let backend = Backend::http().answer(Answer::raw(HINTS.repeat(2) + OK)).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    for _ in 0..8 {
        client.start(&Request::get("http://hello/"));
    }
    for _ in 0..8 {
        let answer = client.response();
        assert_eq!(answer.interim, [103, 103]);
        answer.expect_body("ok");
    }
}

#[test]
fn the_bounds_on_interim_answers_can_be_set() {
    let backend = Backend::http().answer(Answer::raw(HINTS.repeat(3) + OK)).start();
    for (limits, status) in
        [("{ interimAnswers: 3 }", 200), ("{ interimAnswers: 2 }", 502), ("{ interimBytes: 1KiB }", 200)]
    {
        let weir = Weir::new().set("limits", limits).service("hello", &[backend.addr()]).start();
        assert_eq!(weir.get("http://hello/").status, status, "{limits}");
    }
    let long = Answer::raw(HINTS.repeat(30) + OK).then(Then::Close);
    let backend = Backend::http().answer(long).start();
    let weir =
        Weir::new().set("limits", "{ interimBytes: 1KiB }").service("hello", &[backend.addr()]).start();
    let answer = weir.get("http://hello/");
    answer.expect_status(502);
    assert!(answer.text().contains("or 1024 bytes of them"), "{}", answer.text());
}

#[test]
fn an_endpoint_that_goes_on_with_interim_answers_for_ever_is_bounded_in_time_too() {
    let server = TcpServer::on(raw::listen(raw::loopback()).unwrap(), |mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        while stream.write_all(HINTS.as_bytes()).is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let weir = Weir::new().set("limits", "{ response: 500ms }").service("hello", &[server.addr()]).start();
    weir.ask(&Request::post("http://hello/", "x")).expect_status(504);
}
