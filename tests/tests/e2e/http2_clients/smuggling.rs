//! Requests of HTTP/2 that would be two requests, or others, as HTTP/1.1. After "HTTP/2: The Sequel is Always Worse"
//! (James Kettle, 2021), whose payloads hide a second request in each part of a head, and RFC 9113 §10.3.

use e2e::backend::Received;
use e2e::http2::{encode, field};
use e2e::{Backend, Ended, Frames, Http2};

use super::weir;

const HIDDEN: &str = "GET /admin HTTP/1.1\r\nHost: admin\r\n\r\n";

/// The head of a request with one part replaced by a payload, and the body sent with it.
struct Payload {
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

fn head(method: &str, path: &str, authority: &str) -> Vec<(String, Vec<u8>)> {
    [(":method", method), (":scheme", "http"), (":authority", authority), (":path", path)]
        .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
        .into()
}

fn payloads() -> Vec<Payload> {
    let mut all = Vec::new();
    let mut add = |fields: Vec<(String, Vec<u8>)>, body: &str| {
        all.push(Payload { fields, body: body.as_bytes().to_vec() });
    };
    // A length that is not the body's (H2.CL), in all spellings.
    for length in
        ["0", "1", "3", "999", "+5", "-1", "5,6", "0x5", "5 5", "05", "", "5\0", "18446744073709551616"]
    {
        let mut fields = head("POST", "/", "hello");
        fields.push(("content-length".into(), length.into()));
        add(fields, "0\r\n\r\nGET /admin HTTP/1.1\r\nHost: admin\r\n\r\n");
    }
    // Two lengths.
    for (one, other) in [("5", "6"), ("0", "36"), ("36", "0")] {
        let mut fields = head("POST", "/", "hello");
        fields.extend([one, other].map(|it| ("content-length".to_owned(), it.as_bytes().to_vec())));
        add(fields, HIDDEN);
    }
    // A coding (H2.TE), in all spellings.
    for (name, value) in [
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "Chunked"),
        ("transfer-encoding", "identity, chunked"),
        ("Transfer-Encoding", "chunked"),
        ("transfer-encoding ", "chunked"),
        ("transfer-encoding:", "chunked"),
        ("transfer_encoding\r\ntransfer-encoding", "chunked"),
        ("connection", "transfer-encoding"),
        ("te", "chunked"),
        ("upgrade", "h2c"),
    ] {
        let mut fields = head("POST", "/", "hello");
        fields.push((name.into(), value.into()));
        add(fields, "0\r\n\r\nGET /admin HTTP/1.1\r\nHost: admin\r\n\r\n");
    }
    // A line's end in each part of the head.
    let split = format!(" HTTP/1.1\r\nHost: admin\r\n\r\n{HIDDEN}");
    for end in ["\r\n", "\n", "\r", "\0"] {
        add(head(&format!("GET /admin HTTP/1.1{end}x: y"), "/", "hello"), "");
        add(head("GET", &format!("/{}", split.replace("\r\n", end)), "hello"), "");
        add(head("GET", "/", &format!("hello{end}x: y")), "");
        let mut fields = head("GET", "/", "hello");
        fields.push(("x".into(), format!("y{end}transfer-encoding: chunked").into_bytes()));
        add(fields, "");
        let mut fields = head("GET", "/", "hello");
        fields.push((format!("x: y{end}transfer-encoding"), b"chunked".to_vec()));
        add(fields, "");
    }
    // Another host, another line.
    for (path, authority) in [
        ("/ HTTP/1.1", "hello"),
        ("/admin?x= HTTP/1.1", "hello"),
        ("http://admin/", "hello"),
        ("//admin/", "hello"),
        ("admin", "hello"),
        ("/", "hello@admin"),
        ("/", "hello/admin"),
        ("/", "hello:80@admin"),
        ("/", "hello admin"),
        ("/", ""),
    ] {
        add(head("GET", path, authority), "");
    }
    for scheme in ["http://admin/?", "http\r\n", "file", "", "http://"] {
        let mut fields = head("GET", "/", "hello");
        fields[1].1 = scheme.into();
        add(fields, "");
    }
    all
}

#[test]
fn no_request_becomes_two_and_none_another() {
    let (backend, admin) = (Backend::http().answers("ok").start(), Backend::http().answers("admin").start());
    let weir = weir().service("hello", &[backend.addr()]).service("admin", &[admin.addr()]).start();
    let payloads = payloads();
    assert!(payloads.len() >= 40, "{}", payloads.len());
    for Payload { fields, body } in payloads {
        let shown: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{name:?}: {:?}", String::from_utf8_lossy(value)))
            .collect();
        backend.forget();
        let mut frames = Frames::to(weir.outgoing());
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        frames.request(1, &fields, body.is_empty());
        if !body.is_empty() {
            frames.frame(0, 1, 1, &body);
        }
        let ended = frames.ended(1);
        // What was sent on one connection before would be seen by the next request.
        assert_eq!(Http2::to(weir.outgoing()).get("http://hello/after").text(), "ok", "{shown:?}");
        assert_eq!(admin.count(), 0, "{shown:?} {ended:?}");
        let received = backend.requests();
        assert!(
            received.iter().all(|it| it.head.all("host") == ["hello"]),
            "{shown:?} {ended:?}: {received:?}"
        );
        // One that was reset halfway is the last one on its connection.
        let is_last = |one: &Received| {
            let on = received.iter().filter(|it| it.connection == one.connection).count();
            matches!(ended, Ended::Reset(_)) && on == 1
        };
        assert!(received.iter().all(|it| it.complete || is_last(it)), "{shown:?} {ended:?}: {received:?}");
        let (after, first): (Vec<_>, Vec<_>) = received.iter().partition(|it| it.head.target() == "/after");
        assert_eq!(after.len(), 1, "{shown:?} {ended:?}: {received:?}");
        assert!(first.len() <= 1, "{shown:?} {ended:?}: {received:?}");
        for request in first.into_iter().filter(|it| it.complete) {
            let is_framed = |name: &str| request.head.get(name).is_some();
            // What comes after the length that was said resets the stream, but may come after the request has gone on.
            let length = request.head.get("content-length").and_then(|it| it.parse().ok());
            let is_begun = matches!(ended, Ended::Reset(_)) && length == Some(request.body.len());
            assert!(
                request.body == body || (is_begun && body.starts_with(&request.body)),
                "{shown:?} {ended:?}: {request:?}"
            );
            assert!(!(is_framed("content-length") && is_framed("transfer-encoding")), "{:?}", request.head);
        }
    }
}

#[test]
fn a_connect_has_no_content_whatever_it_says() {
    let backend = Backend::http().answers("ok").start();
    let weir = weir().service("hello", &[backend.addr()]).start();
    // The next requests would be read as its content.
    for protocol in ["foo", "websocket", "connect-udp"] {
        for length in ["1", "200", "0200"] {
            let fields: [(&str, &[u8]); 6] = [
                (":method", b"CONNECT"),
                (":protocol", protocol.as_bytes()),
                (":scheme", b"http"),
                (":authority", b"hello"),
                (":path", b"/"),
                ("content-length", length.as_bytes()),
            ];
            let mut frames = Frames::to(weir.outgoing());
            frames.request(1, &fields, false);
            assert_eq!(frames.ended(1), Ended::Answered(400), "{protocol} {length}");
            for _ in 0..3 {
                assert_eq!(Http2::to(weir.outgoing()).get("http://hello/after").text(), "ok");
            }
        }
    }
    let received = backend.requests();
    assert!(received.iter().all(|it| it.head.target() == "/after" && it.body.is_empty()), "{received:?}");
}

#[test]
fn an_upload_that_is_cancelled_is_never_a_whole_one() {
    let backend = Backend::http().answers("ok").start();
    let weir = weir().service("hello", &[backend.addr()]).start();
    for round in 0..50 {
        // All of it in one write: the end is there before anything was passed on.
        let block: Vec<u8> = head("POST", "/part", "hello").iter().flat_map(|(n, v)| field(n, v)).collect();
        let mut bytes = encode(1, 4, 1, &block);
        bytes.extend(encode(0, 0, 1, b"part"));
        if round % 2 == 0 {
            bytes.extend(encode(0, 0, 1, b"more"));
        }
        bytes.extend(encode(3, 0, 1, &[0, 0, 0, 8]));
        let mut frames = Frames::to(weir.outgoing());
        frames.until(4);
        frames.send(bytes).get(3, "hello", "/after");
        assert_eq!(frames.ended(3), Ended::Answered(200));
    }
    let whole =
        backend.requests().into_iter().filter(|it| it.head.target() == "/part" && it.complete).count();
    assert_eq!(whole, 0);
}
