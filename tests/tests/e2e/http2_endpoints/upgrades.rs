//! Upgrades that an endpoint of HTTP/2 takes: extended CONNECT (RFC 8441).

use e2e::backend::http2::{Reply, Then};
use e2e::client::Closed;
use e2e::raw::{self, TcpServer};
use e2e::{H2Backend, Http2, Request, eventually};

use super::of;

/// A key, and the proof that it was read (RFC 6455 §1.3).
const KEY: (&str, &str) = ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");

/// The code of a stream that was cut short (RFC 8441 §5).
const CANCEL: u32 = 8;

fn upgrade(protocol: &str) -> Request {
    let upgrade =
        Request::get("http://hello/chat?x=1").with("Connection", "Upgrade").with("Upgrade", protocol);
    upgrade.with("Sec-WebSocket-Key", KEY.0).with("X-Asked", "1")
}

fn extended(protocol: &'static str) -> hyper::Request<()> {
    let mut request =
        hyper::Request::connect("http://hello/chat?x=1").header("x-asked", "1").body(()).unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static(protocol));
    request
}

#[test]
fn an_upgrade_is_an_extended_connect_for_an_endpoint_that_takes_it() {
    for protocol in ["websocket", "chat"] {
        let backend = H2Backend::http2().takes_tunnels().reply(Reply::ok("").with("x-kept", "1")).start();
        let weir = of(&[&backend]).start();
        let mut client = weir.client();
        client.start(&upgrade(protocol));
        let head = client.head();
        assert_eq!((head.status(), head.get("x-kept")), (Some(101), Some("1")), "{head:?}");
        assert_eq!((head.get("upgrade"), head.get("sec-websocket-accept")), (Some(protocol), Some(KEY.1)));
        assert!(head.lists("connection", "upgrade"), "{head:?}");
        client.send("ping").expect("ping").send([0, 255, 13, 10]).expect([0, 255, 13, 10]);
        assert_eq!(weir.metric("weir_tunnels_open", &[]), 1.0);
        client.half_close();
        assert_eq!(client.closed(), Closed::End);
        let arrived = backend.only_request();
        assert_eq!((arrived.method.as_str(), arrived.protocol.as_deref()), ("CONNECT", Some(protocol)));
        assert_eq!((arrived.target.as_str(), arrived.get("x-asked")), ("http://hello/chat?x=1", Some("1")));
        for gone in ["upgrade", "connection", "host", "sec-websocket-key"] {
            assert_eq!(arrived.get(gone), None, "{gone}");
        }
        eventually("the tunnel's end", || weir.metric("weir_tunnels_open", &[]) == 0.0);
        let cut = ["client", "server", "aborted"]
            .map(|end| weir.metric("weir_tunnels_ended_total", &[("end", end)]));
        assert_eq!(cut, [0.0; 3]);
        assert!(backend.resets().is_empty());
    }
}

#[test]
fn an_extended_connect_stays_one_where_both_sides_speak_http2() {
    let backend = H2Backend::http2().takes_tunnels().start();
    let weir = of(&[&backend]).start();
    let client = Http2::to(weir.outgoing());
    // The client waits for weir's SETTINGS before it may ask.
    assert_eq!(client.get("http://hello/").status, 200);
    let mut tunnels = ["websocket", "chat"].map(|protocol| client.start(extended(protocol), false));
    for tunnel in &mut tunnels {
        let head = tunnel.head().unwrap();
        assert_eq!(
            (head.status(), head.headers().get("sec-websocket-accept")),
            (hyper::StatusCode::OK, None)
        );
        tunnel.send("ping", false);
        assert_eq!(tunnel.data().unwrap(), "ping");
        assert_eq!(client.get("http://hello/").text(), "ok");
    }
    for tunnel in &mut tunnels {
        tunnel.send("last", true);
        assert_eq!((tunnel.data().unwrap(), tunnel.data().unwrap()), ("last".into(), "".into()));
    }
    assert_eq!(backend.connections(), 1);
    assert_eq!(backend.requests().iter().filter(|it| it.get("sec-websocket-key").is_some()).count(), 0);
    eventually("the streams' end", || weir.metric("weir_http2_endpoint_streams", &[]) == 0.0);
}

#[test]
fn a_tunnel_on_a_stream_carries_much_both_ways_at_once() {
    let backend = H2Backend::http2().takes_tunnels().start();
    let weir = of(&[&backend]).start();
    let mut client = weir.client();
    client.start(&upgrade("chat"));
    assert_eq!(client.head().status(), Some(101));
    let bytes: Vec<u8> = (0..4_000_000_u32).map(|i| (i % 251) as u8).collect();
    let (mut upload, sent) = (client.stream().try_clone().unwrap(), bytes.clone());
    let sender = std::thread::spawn(move || std::io::Write::write_all(&mut upload, &sent));
    client.expect(&bytes);
    sender.join().unwrap().unwrap();
}

#[test]
fn a_refused_extended_connect_is_an_ordinary_answer() {
    let refusal = Reply::ok("no").status(403);
    let backend = H2Backend::http2().takes_tunnels().reply(refusal).start();
    let weir = of(&[&backend]).set("workers", "1").start();
    let mut client = weir.client();
    for _ in 0..2 {
        let answer = client.ask(&upgrade("websocket"));
        assert_eq!((answer.status, answer.text()), (403, "no".to_owned()));
    }
    let client = Http2::to(weir.outgoing());
    assert_eq!(client.get("http://hello/").status, 403);
    let mut stream = client.start(extended("websocket"), false);
    assert_eq!(stream.head().unwrap().status(), 403);
    assert_eq!(stream.data().unwrap(), "no");
    // A refusal ends the request; it is not cancelled.
    eventually("the streams' end", || weir.metric("weir_http2_endpoint_streams", &[]) == 0.0);
    assert_eq!((backend.resets().len(), backend.connections()), (0, 1));
}

#[test]
fn either_sides_reset_cuts_the_tunnel_on_the_other() {
    let resets = Reply::ok("").then(Then::Reset(CANCEL));
    let backend = H2Backend::http2().takes_tunnels().reply(resets).start();
    let weir = of(&[&backend]).start();
    let mut client = weir.client();
    client.start(&upgrade("websocket"));
    assert_eq!((client.head().status(), client.closed()), (Some(101), Closed::Reset));
    let http2 = Http2::to(weir.outgoing());
    assert_ne!(http2.get("http://hello/").status, 0);
    let mut tunnel = http2.start(extended("websocket"), false);
    assert_eq!(tunnel.head().unwrap().status(), 200);
    assert_eq!(tunnel.data(), Err(Some(h2::Reason::CANCEL)));

    let backend = H2Backend::http2().takes_tunnels().start();
    let weir = of(&[&backend]).start();
    let mut client = weir.client();
    client.start(&upgrade("websocket"));
    assert_eq!(client.head().status(), Some(101));
    raw::abort(client.stream());
    eventually("the endpoint's reset", || backend.resets().iter().map(|it| it.0).eq([CANCEL]));
}

#[test]
fn an_extended_connect_is_not_sent_to_who_does_not_take_it() {
    let backend = H2Backend::http2().start();
    let weir = of(&[&backend]).start();
    weir.ask(&upgrade("websocket")).expect_body("ok");
    let arrived = backend.only_request();
    assert_eq!((arrived.method.as_str(), arrived.protocol.as_deref()), ("GET", None));
    assert_eq!(arrived.get("upgrade"), None);
    assert_eq!(weir.failures(backend.addr()), 0);
}

#[test]
fn only_a_get_without_content_becomes_an_extended_connect() {
    let backend = H2Backend::http2().takes_tunnels().start();
    let weir = of(&[&backend]).start();
    let upgrade = |method: &str| {
        let request = Request::new(method, "http://hello/chat").with("Connection", "Upgrade");
        request.with("Upgrade", "websocket").with("Sec-WebSocket-Key", KEY.0)
    };
    for request in [upgrade("POST"), upgrade("DELETE"), upgrade("GET").chunks(&["x"])] {
        weir.ask(&request).expect_body("ok");
    }
    let methods: Vec<_> = backend.requests().into_iter().map(|it| (it.method, it.protocol)).collect();
    assert_eq!(methods, ["POST", "DELETE", "GET"].map(|method| (method.to_owned(), None)));
    let mut client = weir.client();
    client.start(&upgrade("GET").with("Content-Length", "0").with("Expect", "100-continue"));
    assert_eq!(client.head().status(), Some(101));
    client.send("ping").expect("ping");
    let arrived = backend.requests().pop().unwrap();
    assert_eq!((arrived.get("content-length"), arrived.get("expect")), (None, None));
}

#[test]
fn a_tunnel_that_nobody_reads_holds_up_no_other_request() {
    let backend = H2Backend::http2().takes_tunnels().script(|request| match request.protocol {
        Some(_) => Reply::ok("").then(Then::Nothing),
        None => Reply::ok("ok"),
    });
    let backend = backend.start();
    let weir = of(&[&backend]).set("workers", "1").start();
    let mut client = weir.client();
    client.start(&upgrade("websocket"));
    assert_eq!(client.head().status(), Some(101));
    // More than the window of the connection, which is 65,535 bytes.
    client.send(vec![0; 100_000]);
    eventually("another connection", || {
        // One that is early has its body held up.
        let answer = weir.ask(&Request::get("http://hello/"));
        assert_eq!(answer.status, 200);
        weir.metric("weir_http2_endpoint_stalled_total", &[]) > 0.0
    });
    weir.ask(&Request::post("http://hello/", "x".repeat(70_000))).expect_body("ok");
    assert_eq!(backend.connections(), 2);
}

#[test]
fn an_endpoint_that_closes_before_its_settings_is_no_wait() {
    let server = TcpServer::on(raw::listen(raw::loopback()).unwrap(), |mut stream| {
        let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
    });
    let weir = super::asking(&[server.addr()]).set("limits", "{ connect: 1m, connectTotal: 1m }").start();
    assert_eq!(weir.ask(&upgrade("websocket")).status, 502);
}
