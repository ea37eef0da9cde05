//! Requests and their answers, each stream on its own.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use e2e::backend::Then;
use e2e::http2::PREFACE;
use e2e::{Answer, Backend, Ended, Frames, Http2, eventually};
use hyper::Request;
use nix::sys::signal::Signal;

use super::{serving, weir};

fn post(url: &str) -> hyper::http::request::Builder {
    Request::post(url)
}

#[test]
fn a_request_goes_on_as_http1_and_its_answer_comes_back_with_its_trailers() {
    let answer =
        Answer::chunks(&["a", "bc"]).trailer("x-sum", "3").with("X-Kept", "1").with("Keep-Alive", "9");
    let backend = Backend::http().answer(answer).start();
    let weir = serving("hello", &[backend.addr()]);
    let client = Http2::to(weir.outgoing());
    let request =
        post("http://hello/x?y").header("cookie", "a=1").header("cookie", "b=2").header("te", "trailers");
    let answer = client.ask(request.body(()).unwrap(), Some(b"hello"));
    assert_eq!((answer.status, answer.text().as_str(), answer.reset), (200, "abc", None));
    assert_eq!(
        (answer.get("x-kept"), answer.get("via"), answer.get("keep-alive")),
        (Some("1"), Some("1.1 weir"), None)
    );
    assert_eq!((answer.get("transfer-encoding"), answer.get("connection")), (None, None));
    assert_eq!(answer.trailers["x-sum"], "3");
    let received = backend.only_request();
    assert_eq!(
        (received.head.start.as_str(), received.body.as_slice()),
        ("POST /x?y HTTP/1.1", &b"hello"[..])
    );
    assert_eq!((received.head.all("host"), received.head.all("via")), (vec!["hello"], vec!["2 weir"]));
    assert_eq!((received.head.all("cookie"), received.head.get("te")), (vec!["a=1; b=2"], Some("trailers")));
    assert!(received.complete);
    assert_eq!(weir.metric("weir_http2_streams_total", &[("listener", "outgoing")]), 1.0);
    assert_eq!(weir.metric("weir_http2_open_connections", &[("listener", "outgoing")]), 1.0);
    drop(client);
    eventually("the connection's end", || weir.metric("weir_http2_open_connections", &[]) == 0.0);
}

#[test]
fn one_connection_is_balanced_stream_by_stream() {
    let backends: Vec<_> = ["a", "b", "c"].map(|name| Backend::http().answers(name).start()).into();
    let addresses: Vec<SocketAddr> = backends.iter().map(Backend::addr).collect();
    let weir = serving("hello", &addresses);
    let client = Http2::to(weir.outgoing());
    let bodies = client.many("http://hello/", 3000, 50);
    for name in ["a", "b", "c"] {
        let share = bodies.iter().filter(|body| *body == name).count();
        assert!((840..=1140).contains(&share), "{name} got {share} of 3000");
    }
    assert_eq!(weir.accepted("outgoing"), 1.0);
}

#[test]
fn a_preface_in_pieces_is_one_however_slow() {
    let backend = Backend::http().answers("a").start();
    let weir = serving("hello", &[backend.addr()]);
    for size in [1, 3, 23] {
        let mut frames = Frames::bare(TcpStream::connect(weir.outgoing()).unwrap());
        for piece in PREFACE.chunks(size) {
            frames.send(piece);
            std::thread::sleep(Duration::from_millis(5));
        }
        frames.frame(4, 0, 0, &[0, 1, 0, 0, 0, 0]).get(1, "hello", "/");
        assert_eq!(frames.ended(1), Ended::Answered(200), "in pieces of {size}");
    }
    // What only begins like one is HTTP/1, and answered so.
    let mut other = weir.client();
    other.send("PRI * HTTP/2.0\r\n\r\nXX");
    assert_eq!(other.head().status(), Some(400));
    assert_eq!(weir.get("http://hello/").text(), "a");
}

#[test]
fn curl_speaks_it_with_prior_knowledge() {
    let backend = Backend::http().answers("a").start();
    let weir = serving("hello", &[backend.addr()]);
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--http2-prior-knowledge", "-H", "Host: hello", "-w", " %{http_version} %{http_code}"]);
    let output = curl.arg(format!("http://{}/x", weir.outgoing())).output();
    let output = output.expect("curl (Debian: apt-get install curl)");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a 2 200", "{output:?}");
    assert_eq!(backend.only_request().head.get("host"), Some("hello"));
}

#[test]
fn a_clients_cancel_ends_its_exchange_at_once_and_no_other() {
    let backend = Backend::http().script(|request| match request.head.target() {
        "/slow" => Answer::raw("").then(Then::Hang),
        _ => Answer::ok("ok"),
    });
    let backend = backend.start();
    let weir = serving("hello", &[backend.addr()]);
    let client = Http2::to(weir.outgoing());
    let mut slow = client.start(Request::get("http://hello/slow").body(()).unwrap(), true);
    backend.wait_for(1);
    slow.send.send_reset(h2::Reason::CANCEL);
    eventually("the endpoint's connection to be closed", || backend.open() == 0);
    assert_eq!(client.get("http://hello/").text(), "ok");
    let received = [("direction", "received"), ("code", "CANCEL")];
    assert_eq!(weir.metric("weir_http2_resets_total", &received), 1.0);
    eventually("the streams' end", || weir.metric("weir_http2_open_streams", &[]) == 0.0);
    assert_eq!(weir.metric("weir_attempts_total", &[("outcome", "abandoned")]), 1.0);
}

#[test]
fn interim_answers_pass_and_a_body_waits_for_its_100() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let backend = Backend::http().answer(Answer::raw(hints)).start();
    let weir = serving("hello", &[backend.addr()]);
    let answer = Http2::to(weir.outgoing()).get("http://hello/");
    assert_eq!((answer.interim.as_slice(), answer.status, answer.text().as_str()), (&[103][..], 200, "ok"));

    let backend = Backend::http().answers("taken").start();
    let weir = serving("hello", &[backend.addr()]);
    let mut frames = Frames::to(weir.outgoing());
    let fields: [(&str, &[u8]); 6] = [
        (":method", b"POST"),
        (":scheme", b"http"),
        (":authority", b"hello"),
        (":path", b"/"),
        ("expect", b"100-continue"),
        ("content-length", b"5"),
    ];
    frames.request(1, &fields, false);
    // HEADERS without END_STREAM: the interim answer.
    let interim = frames.until(1);
    assert_eq!((interim.flags & 1, interim.status()), (0, Some(100)), "{interim:?}");
    frames.frame(0, 1, 1, b"hello");
    assert_eq!(frames.ended(1), Ended::Answered(200));
    assert_eq!(backend.only_request().body, b"hello");
}

#[test]
fn an_answer_that_breaks_off_is_a_reset() {
    let part = Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart").then(Then::Reset);
    let backend = Backend::http().answer(part).start();
    let weir = serving("hello", &[backend.addr()]);
    let client = Http2::to(weir.outgoing());
    let answer = client.get("http://hello/");
    assert_eq!((answer.status, answer.reset), (200, Some(h2::Reason::INTERNAL_ERROR)));
    let sent = [("direction", "sent"), ("code", "INTERNAL_ERROR")];
    assert_eq!(weir.metric("weir_http2_resets_total", &sent), 1.0);
}

#[test]
fn an_early_answer_is_whole_and_the_body_ends_in_its_own_time() {
    let backend = Backend::http().answer(Answer::ok("early").early()).start();
    let weir = serving("hello", &[backend.addr()]);
    let client = Http2::to(weir.outgoing());
    let mut stream = client.start(post("http://hello/").body(()).unwrap(), false);
    stream.send("part", false);
    assert_eq!(stream.head().unwrap().status(), 200);
    assert_eq!(stream.data().unwrap(), "early");
    assert_eq!(weir.metric("weir_http2_open_streams", &[]), 1.0);
    stream.send("rest", true);
    eventually("the stream's end", || weir.metric("weir_http2_open_streams", &[]) == 0.0);
    // Its endpoint may read it a moment later.
    eventually("the whole body", || backend.only_request().body == b"partrest");
}

#[test]
fn on_drain_streams_finish_after_a_goaway() {
    let backend = Backend::http().answer(Answer::ok("late").after(Duration::from_secs(1))).start();
    let mut weir = weir().set("drain", "{ grace: 20s }").service("hello", &[backend.addr()]).start();
    let mut frames = Frames::to(weir.outgoing());
    frames.get(1, "hello", "/");
    backend.wait_for(1);
    weir.signal(Signal::SIGTERM);
    let goaway = frames.until(7);
    assert_eq!(&goaway.payload[4..8], [0, 0, 0, 0], "NO_ERROR");
    assert_eq!(frames.until(1).status(), Some(200));
    assert_eq!(frames.goodbye(), Ended::Closed);
    assert!(weir.wait(Duration::from_secs(20)).success());
}

#[test]
fn weirs_own_answer_to_head_has_a_length_and_no_content() {
    let weir = weir().set("outgoing", "{ listen: 127.0.0.1:0, diagnostics: [127.0.0.0/8] }").start();
    let client = Http2::to(weir.outgoing());
    for fields in [&[][..], &[("max-forwards", "0"), ("l5d-add-context", "true")]] {
        let ask = |method: &str| {
            let mut request = Request::builder().method(method).uri("http://nobody/");
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            client.ask(request.body(()).unwrap(), None)
        };
        let (get, head) = (ask("GET"), ask("HEAD"));
        assert_eq!((head.status, head.reset, head.body.len()), (get.status, None, 0), "{head:?}");
        assert!(!get.body.is_empty());
        assert!(head.get("content-length").is_some_and(|it| it != "0"), "{head:?}");
    }
}

#[test]
fn an_interim_answer_has_what_is_for_its_client_alone() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: X-Hop\r\nX-Hop: 1\r\nl5d-dst-client: /a\r\n\r\n";
    let backend =
        Backend::http().answer(Answer::raw(format!("{hints}HTTP/1.1 204 No Content\r\n\r\n"))).start();
    let trusted = serving("hello", &[backend.addr()]);
    let strict = weir()
        .set("outgoing", "{ listen: 127.0.0.1:0, overrides: [] }")
        .service("hello", &[backend.addr()])
        .start();
    for (weir, is_stranger) in [(&trusted, false), (&strict, true)] {
        let answer = Http2::to(weir.outgoing()).get("http://hello/");
        let fields = &answer.interim_fields[0];
        assert_eq!((answer.interim.as_slice(), fields["link"].to_str().unwrap()), (&[103][..], "</a>"));
        assert_eq!((fields.get("x-hop"), fields.get("connection")), (None, None), "{fields:?}");
        assert_eq!(fields.get("l5d-dst-client").is_none(), is_stranger, "{fields:?}");
    }
}
