//! Requests whose extent two servers could see differently never reach a backend: 400 and a closed connection
//! (RFC 9112, sections 2.2, 3.2, 5.1, 5.2, 6.1, 6.3, 11.2).

use e2e::backend::Then;
use e2e::{Answer, Backend, Client, Request, Weir};

/// What is wrong, and the request. `{}` in its place would be fine.
const AMBIGUOUS: &[(&str, &str)] = &[
    (
        "two lengths that differ",
        "POST / HTTP/1.1\r\nHost: hello\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    ),
    ("a list of lengths that differ", "POST / HTTP/1.1\r\nHost: hello\r\nContent-Length: 3, 4\r\n\r\nabcd"),
    ("a length with a plus sign", "POST / HTTP/1.1\r\nHost: hello\r\nContent-Length: +3\r\n\r\nabc"),
    ("a length below zero", "POST / HTTP/1.1\r\nHost: hello\r\nContent-Length: -3\r\n\r\nabc"),
    ("a length in hexadecimal", "POST / HTTP/1.1\r\nHost: hello\r\nContent-Length: 0x3\r\n\r\nabc"),
    ("a length that is no number", "POST / HTTP/1.1\r\nHost: hello\r\nContent-Length: three\r\n\r\nabc"),
    ("a length of two words", "POST / HTTP/1.1\r\nHost: hello\r\nContent-Length: 3 3\r\n\r\nabc"),
    ("an empty length", "POST / HTTP/1.1\r\nHost: hello\r\nContent-Length: \r\n\r\nabc"),
    (
        "a length over 64 bits",
        "POST / HTTP/1.1\r\nHost: hello\r\nContent-Length: 18446744073709551619\r\n\r\nabc",
    ),
    ("a space before the colon", "POST / HTTP/1.1\r\nHost: hello\r\nContent-Length : 3\r\n\r\nabc"),
    ("a tab before the colon", "POST / HTTP/1.1\r\nHost: hello\r\nContent-Length\t: 3\r\n\r\nabc"),
    ("a space before the first colon", "GET / HTTP/1.1\r\nHost : hello\r\n\r\n"),
    ("a folded field", "GET / HTTP/1.1\r\nHost: hello\r\nX-A: a\r\n b\r\n\r\n"),
    ("a folded field with a tab", "GET / HTTP/1.1\r\nHost: hello\r\nX-A: a\r\n\tb\r\n\r\n"),
    ("a folded length", "POST / HTTP/1.1\r\nHost: hello\r\nContent-Length:\r\n 3\r\n\r\nabc"),
    ("a space before the first field", "GET / HTTP/1.1\r\n Host: hello\r\n\r\n"),
    ("a bare CR in a value", "GET / HTTP/1.1\r\nHost: hello\r\nX-A: a\rX-B: b\r\n\r\n"),
    ("a bare CR that hides a length", "POST / HTTP/1.1\r\nHost: hello\r\nX-A: a\rContent-Length: 3\r\n\r\n"),
    ("a bare CR in the request line", "GET /\rx HTTP/1.1\r\nHost: hello\r\n\r\n"),
    ("a NUL in a value", "GET / HTTP/1.1\r\nHost: hello\r\nX-A: a\0b\r\n\r\n"),
    ("a NUL in a name", "GET / HTTP/1.1\r\nHost: hello\r\nX\0A: a\r\n\r\n"),
    ("a NUL in the target", "GET /\0 HTTP/1.1\r\nHost: hello\r\n\r\n"),
    ("a NUL in the host", "GET / HTTP/1.1\r\nHost: hel\0lo\r\n\r\n"),
    ("a field without a colon", "GET / HTTP/1.1\r\nHost: hello\r\nX-A\r\n\r\n"),
    ("a field without a name", "GET / HTTP/1.1\r\nHost: hello\r\n: a\r\n\r\n"),
    ("a name with a slash", "GET / HTTP/1.1\r\nHost: hello\r\nX/A: a\r\n\r\n"),
    (
        "chunked that is not last",
        "POST / HTTP/1.1\r\nHost: hello\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    ),
    (
        "a coding that is not chunked",
        "POST / HTTP/1.1\r\nHost: hello\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    ),
    (
        "a coding before chunked",
        "POST / HTTP/1.1\r\nHost: hello\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    ("identity", "POST / HTTP/1.1\r\nHost: hello\r\nTransfer-Encoding: identity\r\n\r\n"),
    (
        "chunked twice",
        "POST / HTTP/1.1\r\nHost: hello\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked in two fields, the last another",
        "POST / HTTP/1.1\r\nHost: hello\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    ),
    ("a misspelt coding", "POST / HTTP/1.1\r\nHost: hello\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("a quoted coding", "POST / HTTP/1.1\r\nHost: hello\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    (
        "a coding after a control",
        "POST / HTTP/1.1\r\nHost: hello\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a length beside a coding that is not chunked",
        "POST / HTTP/1.1\r\nHost: hello\r\nContent-Length: 3\r\nTransfer-Encoding: x\r\n\r\nabc",
    ),
    ("chunked in HTTP/1.0", "POST / HTTP/1.0\r\nHost: hello\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("no version", "GET /\r\nHost: hello\r\n\r\n"),
    ("a version with a tail", "GET / HTTP/1.1x\r\nHost: hello\r\n\r\n"),
    ("a version in lower case", "GET / http/1.1\r\nHost: hello\r\n\r\n"),
    ("a version of the future", "GET / HTTP/3.7\r\nHost: hello\r\n\r\n"),
    ("a space in the target", "GET /a b HTTP/1.1\r\nHost: hello\r\n\r\n"),
    ("a method that is no token", "G(T / HTTP/1.1\r\nHost: hello\r\n\r\n"),
];

/// Wrong too, but of a certain extent: refused, and what follows on the connection is a request of its own.
const WRONG: &[(&str, &str)] = &[
    (
        "two hosts beside an absolute target",
        "GET http://hello/ HTTP/1.1\r\nHost: hello\r\nHost: other\r\n\r\n",
    ),
    ("no host", "GET / HTTP/1.1\r\nAccept: */*\r\n\r\n"),
    ("two hosts", "GET / HTTP/1.1\r\nHost: hello\r\nHost: hello\r\n\r\n"),
    ("two hosts that differ", "GET / HTTP/1.1\r\nHost: hello\r\nHost: other\r\n\r\n"),
    ("a host of two words", "GET / HTTP/1.1\r\nHost: hello other\r\n\r\n"),
    ("a host with a path", "GET / HTTP/1.1\r\nHost: hello/x\r\n\r\n"),
    ("a host with a user", "GET / HTTP/1.1\r\nHost: a@hello\r\n\r\n"),
    ("a host with a bad port", "GET / HTTP/1.1\r\nHost: hello:8x\r\n\r\n"),
    ("an empty host", "GET / HTTP/1.1\r\nHost: \r\n\r\n"),
];

#[test]
fn a_wrong_request_of_a_certain_extent_is_refused_and_no_backend_hears_of_it() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut wrong = Vec::new();
    for (what, request) in WRONG {
        let answer = weir.client().send(request).try_response();
        if !answer.as_ref().is_ok_and(|a| matches!(a.status, 400 | 501)) || backend.connections() > 0 {
            wrong.push(format!("{what}: {answer:?}; the backend saw {:?}", seen(&backend)));
        }
        backend.forget();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_ambiguous_request_is_refused_and_no_backend_hears_of_it() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut wrong = Vec::new();
    for (what, request) in AMBIGUOUS {
        let mut client = weir.client();
        // What follows must not be taken for a request either.
        client.send(request).send("GET /smuggled HTTP/1.1\r\nHost: hello\r\n\r\n");
        let verdict = judge(&mut client);
        if backend.connections() > 0 || verdict != "refused and closed" {
            wrong.push(format!("{what}: {verdict}; the backend saw {:?}", seen(&backend)));
        }
        backend.forget();
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), AMBIGUOUS.len(), wrong.join("\n"));
}

#[test]
fn lines_that_end_with_a_bare_lf_are_one_request_or_none() {
    // RFC 9112, section 2.2, allows to take a single LF for the end of a line; then it must be written anew.
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    client.send("GET / HTTP/1.1\nHost: hello\nX-A: a\n\n");
    let answer = client.response();
    assert!(matches!(answer.status, 200 | 400), "{answer:?}");
    assert_eq!(backend.count(), usize::from(answer.status == 200));
    let raw = backend.raw().concat();
    assert_eq!(raw.iter().filter(|b| **b == b'\n').count(), raw.windows(2).filter(|w| w == b"\r\n").count());
}

#[test]
fn a_length_that_an_endpoint_says_twice_is_said_once() {
    for lengths in ["Content-Length: 2\r\nContent-Length: 2", "Content-Length: 2, 2"] {
        let backend = Backend::http().script(move |request| {
            let body = if request.head.method() == "HEAD" { "" } else { "ab" };
            Answer::raw(format!("HTTP/1.1 200 OK\r\n{lengths}\r\n\r\n{body}"))
        });
        let backend = backend.start();
        let weir = Weir::serving("hello", &[backend.addr()]);
        for method in ["GET", "HEAD"] {
            let answer = weir.ask(&Request::new(method, "http://hello/"));
            answer.expect_status(200);
            assert_eq!(answer.head.all("content-length"), ["2"], "{method} {lengths:?}");
        }
    }
}

#[test]
fn lengths_of_an_endpoint_that_differ_or_are_no_numbers_are_502_for_head_too() {
    for lengths in [
        "Content-Length: 2\r\nContent-Length: 3",
        "Content-Length: 2, 3",
        "Content-Length: -1",
        "Content-Length: +2",
    ] {
        let backend = Backend::http()
            .answer(Answer::raw(format!("HTTP/1.1 200 OK\r\n{lengths}\r\n\r\n")).then(Then::Close));
        let backend = backend.start();
        let weir = Weir::serving("hello", &[backend.addr()]);
        for method in ["GET", "HEAD"] {
            weir.ask(&Request::new(method, "http://hello/")).expect_status(502);
        }
    }
}

#[test]
fn equal_lengths_said_twice_are_one_length_or_refused() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    for fields in ["Content-Length: 3\r\nContent-Length: 3", "Content-Length: 3, 3"] {
        let mut client = weir.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: hello\r\n{fields}\r\n\r\nabc"));
        let answer = client.response();
        assert!(matches!(answer.status, 200 | 400), "{fields}: {answer:?}");
    }
    for request in backend.requests() {
        assert_eq!((request.head.all("content-length"), request.body), (vec!["3"], b"abc".to_vec()));
    }
}

#[test]
fn weir_serves_on_after_all_of_them() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    for (_, request) in AMBIGUOUS.iter().chain(WRONG) {
        weir.client().send(request);
    }
    weir.get("http://hello/").expect_body("ok");
    assert_eq!(backend.count(), 1);
}

fn judge(client: &mut Client) -> String {
    match client.try_response() {
        // 501 is what RFC 9112, section 6.1, asks for where the transfer coding is not understood; 505 for versions.
        Ok(answer) if matches!(answer.status, 400 | 501 | 505) => {}
        Ok(answer) => return format!("{} {:?}", answer.status, answer.l5d_err()),
        Err(_) => return "closed without an answer".into(),
    }
    let rest = client.rest_or_silence();
    match (rest.is_empty(), client.is_closed()) {
        (true, true) => "refused and closed".into(),
        (true, false) => "refused and left open".into(),
        (false, _) => format!("more: {:?}", String::from_utf8_lossy(&rest)),
    }
}

fn seen(backend: &Backend) -> Vec<String> {
    backend.raw().iter().map(|raw| String::from_utf8_lossy(raw).into_owned()).collect()
}
