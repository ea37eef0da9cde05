//! What an endpoint's answer may look like, one leniency at a time: what is unambiguous passes and reaches the client in
//! one form only, what is not is a 502. docs/http.md has the same table in words.

use e2e::backend::Then;
use e2e::message::End;
use e2e::{Answer, Backend, Request, Response, Weir};

/// The answer to one request of `method` whose endpoint says `bytes` and closes, and the weir that passed it on.
fn answered(method: &str, bytes: &str) -> Response {
    let backend = Backend::http().answer(Answer::raw(bytes).then(Then::Close)).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    weir.ask(&Request::new(method, "http://hello/"))
}

#[test]
fn what_is_unambiguous_passes_and_comes_out_in_one_form() {
    const OK: &str = "HTTP/1.1 200 OK\r\n";
    let cases = [
        // Spaces between a name and its colon, which a proxy removes (RFC 9112 §5.1).
        (format!("{OK}X-Old : 1\r\nContent-Length: 2\r\n\r\nok"), "X-Old", "1"),
        (format!("{OK}X-Old \t : 1\r\nContent-Length: 2\r\n\r\nok"), "X-Old", "1"),
        (format!("{OK}X-Old :\r\nContent-Length: 2\r\n\r\nok"), "X-Old", ""),
        (format!("{OK}Content-Length : 2\r\n\r\nok"), "Content-Length", "2"),
        (
            format!("{OK}Transfer-Encoding : chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
            "Transfer-Encoding",
            "chunked",
        ),
        // Lines that end with LF alone (RFC 9112 §2.2).
        ("HTTP/1.1 200 OK\nX-Old: 1\nContent-Length: 2\n\nok".into(), "X-Old", "1"),
        // Empty lines before the answer.
        (format!("\r\n\n{OK}Content-Length: 2\r\n\r\nok"), "Content-Length", "2"),
        // No reason, an odd one, one that is not ASCII (RFC 9112 §4: clients ignore it).
        ("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok".into(), "Content-Length", "2"),
        ("HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok".into(), "Content-Length", "2"),
        ("HTTP/1.1 200   Fine by me\r\nContent-Length: 2\r\n\r\nok".into(), "Content-Length", "2"),
        ("HTTP/1.1 200 caf\u{e9}\r\nContent-Length: 2\r\n\r\nok".into(), "Content-Length", "2"),
        // Bytes beyond ASCII, and tabs, in values (RFC 9110 §5.5).
        (format!("{OK}X-Old: caf\u{e9}\tx\r\nContent-Length: 2\r\n\r\nok"), "X-Old", "caf\u{e9}\tx"),
        // The same length several times (RFC 9112 §6.3).
        (format!("{OK}Content-Length: 2\r\nContent-Length: 2\r\n\r\nok"), "Content-Length", "2"),
        (format!("{OK}Content-Length: 2, 2\r\n\r\nok"), "Content-Length", "2"),
        // HTTP/1.0, and a body that ends with the connection.
        ("HTTP/1.0 200 OK\r\nX-Old: 1\r\n\r\nok".into(), "X-Old", "1"),
        (format!("{OK}X-Old: 1\r\n\r\nok"), "X-Old", "1"),
        // Sizes of chunks with spaces, extensions, zeros and capitals (RFC 9112 §7.1).
        (
            format!("{OK}Transfer-Encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\n"),
            "Transfer-Encoding",
            "chunked",
        ),
        (
            format!("{OK}Transfer-Encoding: CHUNKED\r\n\r\n002;a=b\r\nok\r\n00\r\n\r\n"),
            "Transfer-Encoding",
            "chunked",
        ),
        // A length beside a coding says nothing (RFC 9112 §6.3).
        (
            format!("{OK}Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
            "Transfer-Encoding",
            "chunked",
        ),
    ];
    for (bytes, name, value) in cases {
        let answer = answered("GET", &bytes);
        assert_eq!(
            (answer.status, answer.end, answer.text().as_str()),
            (200, End::Complete, "ok"),
            "{bytes:?}"
        );
        assert_eq!(answer.head.all(name), [value], "{bytes:?} became {:?}", answer.head);
        let framed = answer.head.all("content-length").len() + answer.head.all("transfer-encoding").len();
        assert_eq!(framed, 1, "{bytes:?} became {:?}", answer.head);
        let raw = String::from_utf8_lossy(&answer.head.raw).into_owned();
        assert!(!raw.contains(" :") && !raw.contains("\t:"), "{bytes:?} became {raw:?}");
        assert_eq!(raw.matches('\n').count(), raw.matches("\r\n").count(), "{bytes:?} became {raw:?}");
    }
}

#[test]
fn what_is_ambiguous_is_a_502_that_says_so() {
    let heads = [
        // Not HTTP/1.
        "ICY 200 OK\r\nContent-Length: 2",
        "HTTP/0.9 200 OK\r\nContent-Length: 2",
        "HTTP/1.2 200 OK\r\nContent-Length: 2",
        "HTTP/2 200 OK\r\nContent-Length: 2",
        "http/1.1 200 OK\r\nContent-Length: 2",
        " HTTP/1.1 200 OK\r\nContent-Length: 2",
        "HTTP/1.1  200 OK\r\nContent-Length: 2",
        "HTTP/1.1\t200 OK\r\nContent-Length: 2",
        "HTTP/1.1 20 OK\r\nContent-Length: 2",
        "HTTP/1.1 2000 OK\r\nContent-Length: 2",
        "HTTP/1.1 099 OK\r\nContent-Length: 2",
        "HTTP/1.1 200 O\u{1}K\r\nContent-Length: 2",
        // Lines that are no fields, and bytes that no field has.
        "HTTP/1.1 200 OK\r\nnothing\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\n: nothing\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nX Y: 1\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\n X-First: 1\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nX(: 1\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nX: a\u{7f}\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nContent-Length\0: 2",
        // Folded fields, of which a proxy may say so (RFC 9112 §5.2).
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nX:\r\n\ta\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n 2",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n chunked",
        // Lengths that are not one number.
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3",
        "HTTP/1.1 200 OK\r\nContent-Length : 2\r\nContent-Length: 3",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 3",
        "HTTP/1.1 200 OK\r\nContent-Length: 2,",
        "HTTP/1.1 200 OK\r\nContent-Length:",
        "HTTP/1.1 200 OK\r\nContent-Length: +2",
        "HTTP/1.1 200 OK\r\nContent-Length: -2",
        "HTTP/1.1 200 OK\r\nContent-Length: 0x2",
        "HTTP/1.1 200 OK\r\nContent-Length: 2 2",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999",
        "HTTP/1.1 200 OK\r\nContent-Length: \u{661}",
        // Codings other than one chunked, or of HTTP/1.0 (RFC 9112 §6.1).
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding:",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked;q=1",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\nContent-Length: 2",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2",
        // A protocol that nobody asked for.
        "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x",
    ];
    let mut wrong = Vec::new();
    for head in heads {
        let answer = answered("POST", &format!("{head}\r\n\r\nok"));
        if answer.status != 502 || answer.l5d_err().is_empty() {
            wrong.push(format!("{head:?} became {:?}", answer.head));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_body_that_breaks_its_own_framing_is_cut_short() {
    let bodies = [
        "zz\r\nmore",
        "-1\r\nmore",
        "+1\r\nm\r\n0\r\n\r\n",
        "0x1\r\nm\r\n0\r\n\r\n",
        " 1\r\nm\r\n0\r\n\r\n",
        "1 1\r\nm\r\n0\r\n\r\n",
        "1\nm\n0\n\n",
        "1\r\nm\n0\r\n\r\n",
        "1;a\nb\r\nm\r\n0\r\n\r\n",
        "1\r\nmore\r\n0\r\n\r\n",
        "\r\nmore",
        "ffffffffffffffffff\r\nmore",
        "1\r\nm\r\n",
        "1\r\nm\r\n0\r\nX : 1\r\n\r\n",
        "1\r\nm\r\n0\r\nnothing\r\n\r\n",
    ];
    for body in bodies {
        let answer = answered(
            "GET",
            &format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n{body}"),
        );
        assert!(answer.status == 502 || answer.end == End::Truncated, "{body:?} became {answer:?}");
    }
    let short = answered("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npart");
    assert_eq!(short.end, End::Truncated);
}

#[test]
fn an_answer_that_has_no_body_may_say_how_long_it_would_be() {
    for (method, status, field) in [
        ("HEAD", "200 OK", "Content-Length: 5"),
        ("HEAD", "200 OK", "Content-Length: 5, 5"),
        ("HEAD", "200 OK", "Transfer-Encoding: chunked"),
        ("GET", "304 Not Modified", "Content-Length: 5"),
        ("GET", "304 Not Modified", "Transfer-Encoding: chunked"),
        ("GET", "204 No Content", "Content-Length: 0"),
    ] {
        let backend =
            Backend::http().answer(Answer::raw(format!("HTTP/1.1 {status}\r\n{field}\r\n\r\n"))).start();
        let weir = Weir::new().set("workers", "1").service("hello", &[backend.addr()]).start();
        let mut client = weir.client();
        for _ in 0..3 {
            let answer = client.ask(&Request::new(method, "http://hello/"));
            assert_eq!(
                (answer.status.to_string().as_str(), answer.text().as_str()),
                (&status[..3], ""),
                "{field}"
            );
            let length = answer.head.all("content-length");
            assert!(
                length.is_empty() || length == ["5"] || length == ["0"],
                "{field} became {:?}",
                answer.head
            );
        }
        assert_eq!(backend.connections(), 1, "{method} {status} {field}");
    }
}

#[test]
fn a_connection_whose_framing_was_doubtful_is_not_used_again() {
    let chunks = "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let cases = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(), 1),
        ("HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok".to_owned(), 1),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok".to_owned(), 1),
        (format!("HTTP/1.1 200 OK\r\n{chunks}"), 1),
        (format!("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n{chunks}"), 4),
        (format!("HTTP/1.1 200 OK\r\nContent-Length : 15\r\n{chunks}"), 4),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more".to_owned(), 4),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(), 4),
    ];
    for (bytes, connections) in cases {
        let backend = Backend::http().answer(Answer::raw(bytes.clone())).start();
        let weir = Weir::new().set("workers", "1").service("hello", &[backend.addr()]).start();
        let mut client = weir.client();
        for _ in 0..4 {
            client.ask(&Request::post("http://hello/", "x")).expect_body("ok");
        }
        assert_eq!(backend.connections(), connections, "{bytes:?}");
    }
}
