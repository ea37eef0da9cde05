//! Clients and endpoints that both speak HTTP/2, and clients of HTTP/2 whose endpoints do not.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use e2e::backend::http2::{Reply, Then};
use e2e::weir::folder::service;
use e2e::{Backend, H2Backend, Http2, Weir, eventually};
use hyper::Request;

fn serving(backends: &[&H2Backend]) -> Weir {
    let addresses: Vec<_> = backends.iter().map(|it| it.addr()).collect();
    Weir::serving("hello", &addresses)
}

fn call() -> Request<()> {
    let call = Request::post("http://hello/a.B/C").header("te", "trailers");
    call.header("content-type", "application/grpc").body(()).unwrap()
}

#[test]
fn a_client_of_http2_has_an_endpoint_of_http2_where_nothing_is_declared() {
    let reply = Reply::grpc(0).interim(103, "link", "</a>").with("x-kept", "1");
    let backend = H2Backend::http2().reply(reply).start();
    let weir = serving(&[&backend]);
    let answer = Http2::to(weir.outgoing()).ask(call(), Some(&[0; 5]));
    assert_eq!((answer.status, answer.interim.as_slice(), answer.reset), (200, &[103][..], None));
    assert_eq!((answer.body.as_slice(), answer.fields["x-kept"].to_str().unwrap()), (&[0; 5][..], "1"));
    assert_eq!((answer.trailers.len(), answer.trailers["grpc-status"].to_str().unwrap()), (1, "0"));
    let arrived = backend.only_request();
    assert_eq!((arrived.target.as_str(), arrived.body.as_slice()), ("http://hello/a.B/C", &[0; 5][..]));
    assert_eq!((arrived.get("te"), arrived.get("via")), (Some("trailers"), Some("2 weir")));
    assert_eq!((arrived.get("host"), arrived.get("connection")), (None, None));
}

#[test]
fn a_port_that_declares_http_is_asked_in_http1_whatever_its_client_speaks() {
    let backend = Backend::http().answers("one").start();
    let address = backend.addr();
    let hello = service("hello", &["10.96.0.10"]).port("http", 80, address.port()).app_protocol("http");
    let weir = Weir::new().kubernetes(&hello.endpoints(&[address.ip()])).start();
    let request = Request::post("http://hello/x").header("cookie", "a=1").header("cookie", "b=2");
    let answer = Http2::to(weir.outgoing()).ask(request.body(()).unwrap(), Some(b"body"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "one"));
    let arrived = backend.only_request();
    assert_eq!((arrived.head.start.as_str(), arrived.body.as_slice()), ("POST /x HTTP/1.1", &b"body"[..]));
    assert_eq!((arrived.head.all("cookie"), arrived.head.get("host")), (vec!["a=1; b=2"], Some("hello")));
}

#[test]
fn one_channel_spreads_its_calls_over_three_endpoints() {
    let backends = ["a", "b", "c"].map(|name| H2Backend::http2().answers(name).start());
    let weir = serving(&[&backends[0], &backends[1], &backends[2]]);
    let mut counts = BTreeMap::<String, usize>::new();
    for body in Http2::to(weir.outgoing()).many("http://hello/", 3000, 50) {
        *counts.entry(body).or_default() += 1;
    }
    assert!(counts.len() == 3 && counts.values().all(|n| (840..=1140).contains(n)), "{counts:?}");
    assert!(backends.iter().all(|it| it.connections() == 1), "one connection to each, from one worker");
}

#[test]
fn a_call_that_is_not_processed_goes_to_another_endpoint() {
    let refuses = || H2Backend::http2().reply(Reply::reset(7)).start();
    let (bad, good) =
        (refuses(), H2Backend::http2().reply(Reply::grpc(0).after(Duration::from_millis(5))).start());
    let weir = serving(&[&bad, &good]);
    let client = Http2::to(weir.outgoing());
    for _ in 0..20 {
        assert_eq!(client.ask(call(), Some(&[7; 500])).trailers["grpc-status"], "0");
    }
    assert!(bad.begun() > 0, "it was never asked, so this shows nothing");
    assert!(good.requests().iter().all(|it| it.body == [7; 500]));
}

#[test]
fn a_clients_cancel_reaches_the_endpoint_and_no_other_stream() {
    let script = |arrived: &e2e::backend::http2::Arrived| match arrived.target.ends_with("/slow") {
        true => Reply::ok("begun").then(Then::Nothing),
        false => Reply::ok("ok"),
    };
    let backend = H2Backend::http2().script(script).start();
    let weir = Weir::new().set("workers", "1").service("hello", &[backend.addr()]).start();
    let client = Http2::to(weir.outgoing());
    let mut took = Vec::new();
    for n in 1..=20 {
        let mut stream = client.start(Request::get("http://hello/slow").body(()).unwrap(), true);
        assert_eq!(stream.head().unwrap().status(), 200);
        let began = Instant::now();
        stream.send.send_reset(h2::Reason::CANCEL);
        eventually("the reset", || backend.resets().len() == n);
        took.push(backend.resets()[n - 1].1.saturating_duration_since(began));
        assert_eq!(client.get("http://hello/").text(), "ok");
    }
    took.sort();
    println!("a cancel took {:?} at the median and {:?} at most", took[took.len() / 2], took[took.len() - 1]);
    assert!(backend.resets().iter().all(|(code, _)| *code == 8), "{:?}", backend.resets());
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_slow_reader_of_one_stream_stalls_no_other_of_its_own_connection() {
    let much = vec![b'x'; 8 << 20];
    let script = move |arrived: &e2e::backend::http2::Arrived| match arrived.target.ends_with("/much") {
        true => Reply::ok(much.clone()),
        false => Reply::ok("ok"),
    };
    let backend = H2Backend::http2().script(script).start();
    let weir = serving(&[&backend]);
    let stream = TcpStream::connect(weir.outgoing()).unwrap();
    // Its own window for the connection is larger than that of one stream.
    let client = Http2::with(stream, h2::client::Builder::new().initial_connection_window_size(1 << 20));
    let mut slow = client.start(Request::get("http://hello/much").body(()).unwrap(), true);
    assert_eq!(slow.head().unwrap().status(), 200);
    assert_eq!(client.many("http://hello/", 300, 10).len(), 300);
    let mut length = 0;
    loop {
        match slow.data().unwrap().len() {
            0 => break,
            n => length += n,
        }
    }
    assert_eq!(length, 8 << 20);
}
