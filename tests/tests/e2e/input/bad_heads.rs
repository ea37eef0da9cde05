//! Heads that hyper cannot read: weir's own answer, in place of hyper's bare status.

use e2e::backend::Then;
use e2e::raw::{self, TcpServer};
use e2e::{Answer, Backend, Client, Response, Weir};
use std::io::{Read as _, Write as _};

/// Heads that hyper refuses, with the status, the fault and a word of the answer.
fn bad_heads() -> Vec<(String, u16, &'static str, &'static str)> {
    let get = |field: &str| format!("GET http://hello/ HTTP/1.1\r\nHost: hello\r\n{field}\r\n\r\n");
    let post = |fields: &str| format!("POST http://hello/ HTTP/1.1\r\nHost: hello\r\n{fields}\r\n\r\n");
    let (bad, large) = (("bad_head", "RFC 9112"), ("head_too_large", "limits.headerBytes"));
    let many: String = (0..60).map(|i| format!("X-{i}: 1\r\n")).collect();
    let mut heads = Vec::new();
    for head in [
        "\0\0\0\0\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "GET / HTTP/3.0\r\nHost: hello\r\n\r\n".to_owned(),
        "HEAD /<a> HTTP/1.1\r\nHost: hello\r\n\r\n".to_owned(),
        "GET /<a> HTTP/1.0\r\n\r\n".to_owned(),
        get("X (odd): 1"),
        get("X-Space : 1"),
        get("X: a\r\n folded"),
        get("X: a\0b"),
        post("Content-Length: x"),
        post("Content-Length: 3\r\nContent-Length: 4"),
        post("Transfer-Encoding: gzip"),
    ] {
        heads.push((head, 400, bad.0, bad.1));
    }
    for head in [get(many.trim_end()), get(&format!("X: {}", "a".repeat(20_000)))] {
        heads.push((head, 431, large.0, large.1));
    }
    heads
}

/// The answer, and that the connection ends behind it.
fn last_answer(client: &mut Client, bytes: &str) -> Response {
    let answer = client.send(bytes).response();
    assert_eq!(client.rest().0, b"", "{bytes:?}");
    answer
}

#[test]
fn a_head_that_cannot_be_read_gets_an_answer_of_weirs_that_says_why() {
    let backend = Backend::http().start();
    let limits = "{ headerBytes: 16KiB, headerCount: 50 }";
    let weir = Weir::new().set("limits", limits).service("hello", &[backend.addr()]).start();
    for kept in [false, true] {
        for (head, status, kind, says) in bad_heads() {
            let (faults, closed) = (weir.faults(kind), weir.turned_away("outgoing", "bad_head"));
            let mut client = weir.client();
            if kept {
                client.get("http://hello/").expect_body("ok");
            }
            let answer = last_answer(&mut client, &head);
            answer.expect_status(status);
            let shown = format!("kept: {kept}, {:?}: {answer:?}", &head[..40.min(head.len())]);
            assert_eq!(answer.get("connection"), Some("close"), "{shown}");
            assert_eq!(answer.get("via"), Some("1.1 weir"), "{shown}");
            assert_eq!(answer.get("content-type"), Some("text/plain; charset=utf-8"), "{shown}");
            assert!(answer.text().contains(says) && answer.text().ends_with('\n'), "{shown}");
            assert!(answer.l5d_err().contains("%20"), "{shown}");
            assert_eq!(weir.faults(kind), faults + 1.0, "{shown}");
            e2e::eventually("its connection to be counted", || {
                weir.turned_away("outgoing", "bad_head") == closed + 1.0
            });
        }
    }
    assert_eq!(backend.count(), bad_heads().len(), "those before, on kept connections");
}

#[test]
fn a_target_longer_than_hyper_reads_is_414_with_a_word_why() {
    let weir = Weir::new().set("limits", "{ headerBytes: 1MiB }").start();
    let head = format!("GET http://hello/{} HTTP/1.1\r\nHost: hello\r\n\r\n", "a".repeat(66_000));
    let answer = last_answer(&mut weir.client(), &head);
    assert!(answer.expect_status(414).text().contains("65534 bytes"), "{answer:?}");
    assert!(!answer.l5d_err().is_empty() && answer.get("via").is_some(), "{answer:?}");
}

#[test]
fn a_stranger_learns_what_the_status_means_and_a_listener_without_via_says_none() {
    let outgoing = "{ listen: 127.0.0.1:0, overrides: [], via: false }";
    let weir = Weir::new().set("outgoing", outgoing).start();
    let answer = last_answer(&mut weir.client(), "GET /<a> HTTP/1.1\r\nHost: hello\r\n\r\n");
    answer.expect_status(400);
    assert_eq!((answer.text().as_str(), answer.l5d_err()), ("Bad Request\n", "Bad%20Request"));
    assert_eq!(answer.get("via"), None);
}

#[test]
fn a_bad_head_behind_others_in_one_packet_does_not_change_their_answers() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let good = "GET http://hello/ HTTP/1.1\r\nHost: hello\r\n\r\n";
    let nowhere = "GET http://nowhere/ HTTP/1.1\r\nHost: nowhere\r\n\r\n";
    let mut client = weir.client();
    client.send(format!("{good}{nowhere}{good}GET /<a> HTTP/1.1\r\nHost: hello\r\n\r\n{good}"));
    client.response().expect_body("ok");
    client.response().expect_status(502);
    client.response().expect_body("ok");
    let answer = client.response();
    assert!(answer.expect_status(400).text().contains("RFC 9112"), "{answer:?}");
    assert_eq!(client.rest().0, b"");
}

#[test]
fn an_endpoints_own_answer_of_the_same_bytes_passes_as_it_is() {
    let bare = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    let backend = Backend::http().answer(Answer::raw(bare).then(Then::Close)).start();
    let weir = Weir::new().set("outgoing", "{ listen: 127.0.0.1:0, via: false }");
    let weir = weir.service("hello", &[backend.addr()]).start();
    // To the byte what hyper answers of itself.
    for (version, answer) in [
        ("1.1", "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"),
        ("1.0", "HTTP/1.0 400 Bad Request\r\ncontent-length: 0\r\n\r\n"),
    ] {
        let mut client = weir.client();
        client.send(format!("GET http://hello/ HTTP/{version}\r\nHost: hello\r\nConnection: close\r\n\r\n"));
        let (bytes, _) = client.rest();
        assert_eq!(String::from_utf8_lossy(&bytes), answer);
    }
    assert_eq!(weir.faults("bad_head"), 0.0);
}

#[test]
fn bytes_in_a_tunnel_are_never_taken_for_an_answer_of_hypers() {
    const BARE: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let listener = raw::listen(raw::loopback()).unwrap();
    let server = TcpServer::on(listener, |mut stream| {
        let mut asked = [0; 4];
        while stream.read_exact(&mut asked).is_ok() {
            let _ = stream.write_all(BARE);
        }
    });
    let weir = Weir::serving("hello", &[server.addr()]);
    let mut client = weir.client();
    client.send("CONNECT hello:80 HTTP/1.1\r\nHost: hello:80\r\n\r\n");
    assert_eq!(client.head().status(), Some(200));
    for _ in 0..3 {
        client.send("ping").expect(BARE);
    }
    assert_eq!(weir.faults("bad_head"), 0.0);
}
