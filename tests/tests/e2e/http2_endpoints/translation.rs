//! Requests of HTTP/1.1 and their answers, where the endpoint speaks HTTP/2.

use std::time::Duration;

use e2e::backend::http2::frames::{Does, Frame, FrameServer, kind};
use e2e::backend::http2::{Reply, Then};
use e2e::weir::folder::service;
use e2e::{H2Backend, Http2, Request, Weir, eventually};

use super::of;

/// What clients and endpoints learn of a message.
fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_service_port_says_by_its_app_protocol_what_its_endpoints_speak() {
    for (declared, protocol) in
        [("kubernetes.io/h2c", "http2"), ("grpc", "http2"), ("http2", "http2"), ("H2C", "http2")]
    {
        let backend = H2Backend::http2().answers("two").start();
        let address = backend.addr();
        let hello = service("hello", &["10.96.0.10"]).port("http", 80, address.port()).app_protocol(declared);
        let weir = Weir::new().kubernetes(&hello.endpoints(&[address.ip()])).start();
        weir.get("http://hello/").expect_body("two");
        assert_eq!(backend.connections(), 1, "{declared}");
        let policy = weir.state()["services"][0]["clusters"][0]["policy"].clone();
        assert_eq!(policy["protocol"], protocol, "{declared}");
        let text = weir.admin_get("/api/explain?name=/svc/hello&format=text").text();
        assert!(text.contains("HTTP/2"), "{text}");
    }
}

#[test]
fn a_policy_says_otherwise_than_the_app_protocol() {
    let backend = H2Backend::http2().start();
    let address = backend.addr();
    let hello = service("hello", &["10.96.0.10"]).port("http", 80, address.port()).app_protocol("http");
    let weir = Weir::new().kubernetes(&hello.endpoints(&[address.ip()]));
    let rule = "{ clients: [{ prefix: \"/#/io.l5d.k8s/default/http/hello\", protocol: http2 }] }";
    let weir = weir.set("policies", rule).start();
    weir.get("http://hello/").expect_body("ok");
}

#[test]
fn a_request_of_http1_is_whole_for_an_endpoint_of_http2() {
    let backend = H2Backend::http2().start();
    let weir = of(&[&backend]).set("outgoing", "{ listen: 127.0.0.1:0, via: false }").start();
    let request = Request::new("POST", "http://hello/a/b?c=d").chunks(&["one ", "two"]).trailer("x-sum", "7");
    let request = request.with("Host", "hello").with("Connection", "x-gone, keep-alive").with("X-Gone", "1");
    let request =
        request.with("Keep-Alive", "timeout=5").with("TE", "trailers, deflate").with("Cookie", "a=1; b=2");
    weir.ask(&request.with("X-Kept", "1").with("x-kept", "2").with("Trailer", "x-sum")).expect_body("ok");
    let arrived = backend.only_request();
    assert_eq!((arrived.method.as_str(), arrived.target.as_str()), ("POST", "http://hello/a/b?c=d"));
    assert_eq!((arrived.body.as_slice(), arrived.trailers), (&b"one two"[..], pairs(&[("x-sum", "7")])));
    let kept: Vec<_> = arrived.fields.into_iter().filter(|(name, _)| !name.starts_with("l5d-")).collect();
    let expected =
        [("te", "trailers"), ("cookie", "a=1; b=2"), ("x-kept", "1"), ("x-kept", "2"), ("trailer", "x-sum")];
    let (mut kept, mut expected) = (kept, pairs(&expected));
    kept.sort();
    expected.sort();
    assert_eq!(kept, expected);
}

#[test]
fn an_answer_of_http2_is_whole_for_a_client_of_http1() {
    let cases = [
        (Reply::ok("hello").with("content-length", "5"), 200, "hello", Some("content-length")),
        (Reply::ok("hello"), 200, "hello", Some("transfer-encoding")),
        (Reply::ok("").with("content-length", "0"), 200, "", Some("content-length")),
        (Reply::ok("").status(204), 204, "", None),
        (Reply::ok("").status(304), 304, "", None),
        (Reply::ok("no").status(404).with("content-length", "2"), 404, "no", Some("content-length")),
    ];
    for (reply, status, body, framing) in cases {
        let backend = H2Backend::http2().reply(reply.clone()).start();
        let weir = of(&[&backend]).start();
        let mut client = weir.client();
        // Twice on one connection: a wrong length would leave something behind, or wait.
        for _ in 0..2 {
            let answer = client.get("http://hello/");
            assert_eq!((answer.status, answer.text().as_str()), (status, body), "{reply:?}");
            for field in ["content-length", "transfer-encoding"] {
                assert_eq!(
                    answer.get(field).is_some(),
                    framing == Some(field),
                    "{reply:?}: {:?}",
                    answer.head
                );
            }
        }
    }
}

#[test]
fn a_head_request_has_the_length_of_what_it_would_have_got() {
    let backend = H2Backend::http2().reply(Reply::ok("").with("content-length", "5000")).start();
    let weir = of(&[&backend]).start();
    let mut client = weir.client();
    for _ in 0..2 {
        let answer = client.ask(&Request::new("HEAD", "http://hello/"));
        assert_eq!((answer.status, answer.get("content-length"), answer.length), (200, Some("5000"), 0));
    }
}

#[test]
fn trailers_of_an_answer_reach_a_client_that_takes_them() {
    let announced = Reply::ok("a").with("trailer", "x-sum").trailer("x-sum", "3");
    for (reply, trailer) in [(announced, ("x-sum", "3")), (Reply::grpc(5), ("grpc-status", "5"))] {
        let backend = H2Backend::http2().reply(reply).start();
        let weir = of(&[&backend]).start();
        let answer = weir.ask(&Request::get("http://hello/").with("TE", "trailers").with("Connection", "te"));
        assert_eq!(answer.trailers, pairs(&[trailer]));
    }
}

#[test]
fn interim_answers_of_http2_reach_a_client_of_http1() {
    let reply = Reply::ok("ok").interim(103, "link", "</a>").interim(102, "x-step", "2");
    let backend = H2Backend::http2().reply(reply).start();
    let weir = of(&[&backend]).start();
    let mut client = weir.client();
    for _ in 0..10 {
        let answer = client.get("http://hello/");
        assert_eq!((answer.interim.as_slice(), answer.text().as_str()), (&[103, 102][..], "ok"));
    }
}

#[test]
fn a_body_that_is_held_back_is_sent_when_the_endpoint_asks_for_it() {
    let backend = H2Backend::http2().start();
    let weir = of(&[&backend]).start();
    let mut client = weir.client();
    client.send(
        "POST http://hello/ HTTP/1.1\r\nHost: hello\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    );
    assert_eq!(client.head().status(), Some(100));
    client.send("hello");
    client.response().expect_body("ok");
    assert_eq!(backend.only_request().body, b"hello");
}

#[test]
fn an_upgrade_is_not_asked_of_an_endpoint_that_speaks_http2() {
    let backend = H2Backend::http2().start();
    let weir = of(&[&backend]).start();
    let request = Request::get("http://hello/").with("Connection", "Upgrade").with("Upgrade", "chat");
    weir.ask(&request).expect_body("ok");
    assert_eq!(backend.only_request().get("upgrade"), None);
}

#[test]
fn an_answer_is_whole_with_its_last_byte_wherever_its_stream_ends() {
    let cases = [
        ("GET", Reply::ok("hello").with("content-length", "5"), "hello"),
        ("GET", Reply::ok("").with("content-length", "0"), ""),
        ("GET", Reply::ok("no").status(404).with("content-length", "2"), "no"),
        ("GET", Reply::ok("").status(204), ""),
        ("GET", Reply::ok("").status(304).with("content-length", "5"), ""),
        ("HEAD", Reply::ok("").with("content-length", "5"), ""),
        ("HEAD", Reply::ok(""), ""),
        ("GET", Reply::ok("hello"), "hello"),
    ];
    for (method, reply, body) in cases {
        let reply = reply.then(Then::EndLater(Duration::from_millis(50)));
        let backend = H2Backend::http2().reply(reply.clone()).start();
        let limits = "{ idle: 500ms, tunnelIdle: 1h, body: 1h, response: 1h }";
        let weir = of(&[&backend]).set("workers", "1").set("limits", limits).start();
        let mut client = weir.client();
        for _ in 0..2 {
            assert_eq!(client.ask(&Request::new(method, "http://hello/")).text(), body, "{reply:?}");
        }
        // Its connection is between two requests, and that is limited.
        eventually(&format!("the end of the client's connection: {method} {reply:?}"), || client.is_closed());
        eventually("no stream in use", || weir.metric("weir_http2_endpoint_streams", &[]) == 0.0);
        assert_eq!(weir.metric("weir_http2_endpoint_cancels_total", &[]), 0.0, "{method} {reply:?}");
        assert!(backend.resets().is_empty(), "{method} {reply:?}: {:?}", backend.resets());
        assert_eq!((backend.connections(), weir.failures(backend.addr())), (1, 0), "{method} {reply:?}");
    }
}

#[test]
fn trailers_that_http2_does_not_have_are_left_out() {
    let none: [(&str, &str); 5] = [
        ("Connection", "close"),
        ("Keep-Alive", "timeout=5"),
        ("Upgrade", "h2c"),
        ("Transfer-Encoding", "chunked"),
        ("TE", "gzip"),
    ];
    for (name, value) in none {
        let backend = H2Backend::http2().start();
        let weir = of(&[&backend]).set("limits", "{ response: 3s }").start();
        let request = || Request::new("POST", "http://hello/").chunks(&["body"]);
        weir.ask(&request().trailer(name, value)).expect_body("ok");
        weir.ask(&request().trailer(name, value).trailer("x-sum", "7")).expect_body("ok");
        let arrived: Vec<_> = backend.requests().into_iter().map(|it| (it.body, it.trailers)).collect();
        let body = b"body".to_vec();
        assert_eq!(arrived, [(body.clone(), Vec::new()), (body, pairs(&[("x-sum", "7")]))], "{name}");
    }
}

#[test]
fn an_endpoint_of_http2_cannot_switch_protocols() {
    let server = FrameServer::start(true, |frame| match frame.kind {
        kind::HEADERS => {
            // `:status: 101`, as a literal that is not indexed, with the name of entry 8.
            let switches = [&[0x08, 3][..], b"101"].concat();
            vec![Does::Sends(Frame::new(kind::HEADERS, 4, frame.stream, switches))]
        }
        _ => Vec::new(),
    });
    let weir = super::asking(&[server.addr()]).set("limits", "{ response: 3s }").start();
    let answer = weir.ask(&Request::post("http://hello/", "x"));
    answer.expect_status(502);
    assert!(answer.l5d_err().contains("101"), "{}", answer.l5d_err());
    let request = hyper::Request::post("http://hello/").body(()).unwrap();
    let answer = Http2::to(weir.outgoing()).ask(request, Some(b"x"));
    assert_eq!((answer.status, answer.interim.as_slice()), (502, &[][..]));
    assert_eq!(weir.faults("framing"), 2.0);
    assert_eq!(weir.failures(server.addr()), 2);
}
