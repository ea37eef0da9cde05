//! Answers of backends that are not HTTP, or not framed: 502, and the connection is not used again.

use e2e::backend::Then;
use e2e::{Answer, Backend, Request, Weir};

#[test]
fn an_answer_that_is_not_http_is_a_502_that_says_so() {
    let broken = [
        "garbage\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01",
        "HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok!",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 2\r\n\r\nok",
        "220 smtp.example ESMTP\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
    ];
    let mut wrong = Vec::new();
    for bytes in broken {
        let backend = Backend::http().answer(Answer::raw(bytes).then(Then::Close)).start();
        let weir = Weir::serving("hello", &[backend.addr()]);
        let answer = weir.ask(&Request::post("http://hello/", "x"));
        if answer.status != 502 || answer.l5d_err().is_empty() {
            wrong.push(format!("{bytes:?} became {:?}", answer.head));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_endless_head_of_a_backend_is_bounded() {
    let endless = format!("HTTP/1.1 200 OK\r\n{}", "X-A: aaaaaaaaaaaaaaaa\r\n".repeat(100_000));
    let backend = Backend::http().answer(Answer::raw(endless).then(Then::Hang)).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    weir.ask(&Request::post("http://hello/", "x")).expect_status(502);
}

#[test]
fn bytes_behind_an_answer_are_never_the_next_ones_answer() {
    let doubled =
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let backend = Backend::http().answer(Answer::raw(doubled)).start();
    let weir = Weir::new().set("workers", "1").service("hello", &[backend.addr()]).start();
    let mut client = weir.client();
    for _ in 0..5 {
        let answer = client.ask(&Request::post("http://hello/", "x"));
        assert_ne!(answer.text(), "evil", "an answer that nobody asked for");
    }
}

#[test]
fn an_answer_nobody_asked_for_does_no_harm() {
    // A server that speaks on a kept connection between requests, as many do before they close it for idleness.
    let late = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let parting = "HTTP/1.1 408 Idle\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let backend = Backend::http().answer(Answer::raw(format!("{late}{parting}")).then(Then::Close)).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    for _ in 0..10 {
        weir.get("http://hello/").expect_body("ok");
    }
}
