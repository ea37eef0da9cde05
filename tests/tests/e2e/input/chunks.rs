//! Chunked bodies: beside a Content-Length they are re-framed; broken ones never complete a request.

use e2e::{Backend, Request, Weir, eventually};

#[test]
fn chunked_beside_a_length_is_one_request_framed_anew() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    for fields in
        ["Content-Length: 4\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 4"]
    {
        backend.forget();
        let mut client = weir.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: hello\r\n{fields}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"));
        client.response().expect_body("ok");
        let request = backend.only_request();
        assert_eq!((request.body.as_slice(), request.complete), (&b"hello"[..], true));
        let framings = request.head.all("content-length").len() + request.head.all("transfer-encoding").len();
        assert_eq!(framings, 1, "one framing only: {:?}", request.head);
        assert_ne!(request.head.get("content-length"), Some("4"), "the client's length went on");
    }
}

#[test]
fn a_request_behind_chunked_and_a_length_is_not_smuggled_into_its_body() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    // One server would see five bytes of body; another an end, and a second request.
    client.send(
        "POST /one HTTP/1.1\r\nHost: hello\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\nGET /two HTTP/1.1\r\nHost: hello\r\n\r\n",
    );
    client.response().expect_body("ok");
    client.rest_or_silence();
    // By RFC 9112, section 6.3, chunked wins and the rest is a second request; section 11.2 allows to close instead.
    for (request, target) in backend.requests().iter().zip(["/one", "/two"]) {
        assert_eq!((request.head.target(), request.length, request.complete), (target, 0, true));
    }
    assert!((1..=2).contains(&backend.count()));
}

#[test]
fn a_broken_chunk_never_completes_a_request() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let broken = [
        ("no number", "z\r\nabc\r\n0\r\n\r\n"),
        ("a sign", "+3\r\nabc\r\n0\r\n\r\n"),
        ("a prefix", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("nothing", "\r\nabc\r\n0\r\n\r\n"),
        ("a space inside", "1 1\r\nabc\r\n0\r\n\r\n"),
        ("over 64 bits", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("too little", "2\r\nabc\r\n0\r\n\r\n"),
        ("too much", "4\r\nabc\r\n0\r\n\r\n"),
        ("a bare LF after the size", "3\nabc\r\n0\r\n\r\n"),
        ("a bare CR after the size", "3\rabc\r\n0\r\n\r\n"),
        ("a bare LF in the extension", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
        ("a later chunk", "3\r\nabc\r\nq\r\nabc\r\n0\r\n\r\n"),
        ("no end of the chunk", "3\r\nabcX0\r\n\r\n"),
    ];
    let mut wrong = Vec::new();
    for (what, body) in broken {
        backend.forget();
        let mut client = weir.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: hello\r\nTransfer-Encoding: chunked\r\n\r\n{body}"));
        client.send("GET /smuggled HTTP/1.1\r\nHost: hello\r\n\r\n");
        let answer = client.half_close().try_response();
        client.rest_or_silence();
        let taken = backend.requests().iter().filter(|r| r.complete).count();
        if taken > 0 || answer.as_ref().is_ok_and(|a| a.status == 200) {
            wrong.push(format!(
                "{what}: answered {:?}, the backend took {:?}",
                answer.map(|a| a.status),
                backend.requests()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    weir.get("http://hello/").expect_body("ok");
}

#[test]
fn endless_chunk_extensions_and_trailers_are_bounded() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let head = "POST / HTTP/1.1\r\nHost: hello\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (start, piece) in [("3;", "x=y;"), ("0\r\n", "X-Trailer: abcdefgh\r\n")] {
        let mut client = weir.client();
        client.send(head).send(start);
        let before = weir.resident();
        for _ in 0..256 {
            client.send(piece.repeat(4096));
        }
        client.rest();
        assert!(weir.resident() < before + (4 << 20), "weir kept it");
    }
    assert_eq!(backend.requests().iter().filter(|r| r.complete).count(), 0);
}

#[test]
fn a_chunk_that_breaks_resets_the_backends_connection() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    client.send("POST / HTTP/1.1\r\nHost: hello\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    backend.wait_for(1);
    client.send("oops\r\n").half_close();
    eventually("the end of the backend's connection", || backend.open() == 0);
    assert!(!backend.only_request().complete);
    weir.ask(&Request::post("http://hello/", "x")).expect_body("ok");
}
