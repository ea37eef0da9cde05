//! Streams that stop being HTTP: CONNECT, and extended CONNECT.

use std::io::{Read, Write};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::http2::Stream;
use e2e::raw::{self, TcpServer, loopback};
use e2e::{Answer, Backend, Ended, Frames, Http2, eventually};
use hyper::Request;

use super::{serving, weir};

fn connect(client: &Http2, authority: &str) -> Stream {
    client.start(Request::connect(authority).body(()).unwrap(), false)
}

#[test]
fn a_connect_is_a_tunnel_in_its_stream_and_the_other_streams_go_on() {
    let backend = Backend::http().answers("ok").start();
    let echo = TcpServer::echo(raw::listen(loopback()).unwrap());
    let weir = weir().service("hello", &[backend.addr()]).service("echo:7", &[echo.addr()]).start();
    let client = Http2::to(weir.outgoing());
    let mut tunnels = [connect(&client, "echo:7"), connect(&client, "echo:7")];
    for (at, tunnel) in tunnels.iter_mut().enumerate() {
        let head = tunnel.head().unwrap();
        assert_eq!((head.status(), head.headers().get("content-length")), (hyper::StatusCode::OK, None));
        tunnel.send(format!("ping {at}"), false);
        assert_eq!(tunnel.data().unwrap(), format!("ping {at}"));
        assert_eq!(client.get("http://hello/").text(), "ok");
    }
    eventually("two tunnels", || weir.metric("weir_tunnels_open", &[]) == 2.0);
    let [mut first, mut second] = tunnels;
    // END_STREAM is the client's FIN, and the server's comes back as one.
    first.send("last", true);
    assert_eq!((first.data().unwrap(), first.data().unwrap()), ("last".into(), "".into()));
    second.send.send_reset(h2::Reason::CANCEL);
    eventually("the tunnels' end", || weir.metric("weir_tunnels_open", &[]) == 0.0);
    eventually("the streams' end", || weir.metric("weir_http2_open_streams", &[]) == 0.0);
    assert_eq!(weir.metric("weir_tunnels_ended_total", &[("end", "closed")]), 1.0);
    assert_eq!(weir.metric("weir_tunnels_ended_total", &[]), 2.0);
}

#[test]
fn a_tunnel_carries_much_and_waits_for_who_does_not_read() {
    let echo = TcpServer::echo(raw::listen(loopback()).unwrap());
    let weir = serving("echo:7", &[echo.addr()]);
    let client = Http2::to(weir.outgoing());
    let mut tunnel = connect(&client, "echo:7");
    assert_eq!(tunnel.head().unwrap().status(), 200);
    let bytes: Vec<u8> = (0..2_000_000_u32).map(|i| (i % 251) as u8).collect();
    tunnel.send(bytes.clone(), true);
    let mut came = Vec::new();
    loop {
        let data = tunnel.data().unwrap();
        if data.is_empty() {
            break;
        }
        came.extend_from_slice(&data);
    }
    assert!(came == bytes, "{} of {} bytes", came.len(), bytes.len());
}

#[test]
fn a_servers_reset_is_a_reset_of_the_stream() {
    let server = TcpServer::on(raw::listen(loopback()).unwrap(), |mut stream| {
        let _ = stream.read(&mut [0; 16]);
        let _ = stream.write_all(b"part");
        raw::abort(&stream);
    });
    let weir = serving("echo:7", &[server.addr()]);
    let client = Http2::to(weir.outgoing());
    let mut tunnel = connect(&client, "echo:7");
    assert_eq!(tunnel.head().unwrap().status(), 200);
    tunnel.send("x", false);
    let reset = loop {
        match tunnel.data() {
            Ok(data) if data.is_empty() => panic!("an end in order"),
            Ok(_) => {}
            Err(reset) => break reset,
        }
    };
    assert_eq!(reset, Some(h2::Reason::CONNECT_ERROR));
}

#[test]
fn a_connect_that_cannot_be_is_answered() {
    let weir = weir().start();
    let client = Http2::to(weir.outgoing());
    for (authority, status) in [("nobody:80", 502), ("127.0.0.1:1", 403), ("hello", 400)] {
        assert_eq!(connect(&client, authority).head().unwrap().status(), status, "{authority}");
    }
    let mut frames = Frames::to(weir.outgoing());
    frames.request(
        1,
        &[(":method", b"CONNECT"), (":scheme", b"http"), (":path", b"/"), (":authority", b"a:1")],
        true,
    );
    assert_eq!(frames.ended(1), Ended::Reset(super::PROTOCOL));
}

#[test]
fn an_extended_connect_is_an_upgrade_for_an_endpoint_of_http1() {
    let backend =
        Backend::http().script(|request| websocket(request.head.get("sec-websocket-key").unwrap())).start();
    let weir = serving("hello", &[backend.addr()]);
    let mut frames = Frames::to(weir.outgoing());
    // weir says that it takes one: SETTINGS_ENABLE_CONNECT_PROTOCOL.
    let settings = frames.until(4);
    assert!(settings.payload.chunks(6).any(|it| it == [0, 8, 0, 0, 0, 1]), "{settings:?}");
    let fields: [(&str, &[u8]); 6] = [
        (":method", b"CONNECT"),
        (":protocol", b"websocket"),
        (":scheme", b"http"),
        (":authority", b"hello"),
        (":path", b"/chat"),
        ("sec-websocket-version", b"13"),
    ];
    frames.request(1, &fields, false);
    let head = frames.until(1);
    assert_eq!((head.status(), head.flags & 1), (Some(200), 0), "{head:?}");
    frames.frame(0, 0, 1, b"ping");
    assert_eq!(frames.until(0).payload, b"ping");
    frames.frame(0, 1, 1, b"last");
    assert_eq!(frames.until(0).payload, b"last");
    assert_eq!(frames.ended(1), Ended::Answered(0));
    let request = backend.only_request().head;
    assert_eq!((request.start.as_str(), request.get("upgrade")), ("GET /chat HTTP/1.1", Some("websocket")));
    assert!(request.lists("connection", "upgrade"), "{request:?}");
    assert_eq!(request.get("sec-websocket-key").map(str::len), Some(24));
}

/// The answer of an endpoint that has read `key` (RFC 6455 §4.2.2).
fn websocket(key: &str) -> Answer {
    let whole = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let proof = digest(&SHA1_FOR_LEGACY_USE_ONLY, whole.as_bytes());
    Answer::upgrade("websocket").with("Sec-WebSocket-Accept", &STANDARD.encode(proof))
}

#[test]
fn an_endpoint_that_has_not_read_the_key_is_no_websocket() {
    let of_another = websocket("dGhlIHNhbXBsZSBub25jZQ==");
    for answer in
        [Answer::upgrade("websocket"), of_another.clone(), of_another.with("Sec-WebSocket-Accept", "x")]
    {
        let backend = Backend::http().answer(answer).start();
        let weir = serving("hello", &[backend.addr()]);
        let mut frames = Frames::to(weir.outgoing());
        let fields: [(&str, &[u8]); 5] = [
            (":method", b"CONNECT"),
            (":protocol", b"websocket"),
            (":scheme", b"http"),
            (":authority", b"hello"),
            (":path", b"/chat"),
        ];
        frames.request(1, &fields, false);
        assert_eq!(frames.ended(1), Ended::Answered(502));
        assert_eq!(weir.failures(backend.addr()), 1);
    }
}

#[test]
fn a_field_of_the_clients_own_proves_nothing() {
    let backend = Backend::http().answer(Answer::upgrade("chat")).start();
    let weir = serving("hello", &[backend.addr()]);
    let mut frames = Frames::to(weir.outgoing());
    let fields: [(&str, &[u8]); 6] = [
        (":method", b"CONNECT"),
        (":protocol", b"chat"),
        (":scheme", b"http"),
        (":authority", b"hello"),
        (":path", b"/chat"),
        ("sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    frames.request(1, &fields, false);
    assert_eq!(frames.until(1).status(), Some(200));
    assert_eq!(weir.failures(backend.addr()), 0);
}

#[test]
fn a_tunnel_of_an_extended_connect_that_is_cut_short_is_cancelled() {
    let server = TcpServer::on(raw::listen(loopback()).unwrap(), |mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n");
        // A reset takes back what was not passed on yet: the client has the head when it sends this.
        let _ = stream.read(&mut [0; 16]);
        raw::abort(&stream);
    });
    let weir = weir().service("hello", &[server.addr()]).start();
    let client = Http2::to(weir.outgoing());
    // The client waits for weir's SETTINGS before it may ask.
    assert_eq!(client.get("http://nobody/").status, 502);
    let mut request = Request::connect("http://hello/chat").body(()).unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static("chat"));
    let mut tunnel = client.start(request, false);
    assert_eq!(tunnel.head().unwrap().status(), 200);
    tunnel.send("x", false);
    // RFC 8441 §5; with CONNECT it is CONNECT_ERROR.
    assert_eq!(tunnel.data(), Err(Some(h2::Reason::CANCEL)));
}

#[test]
fn an_upgrade_that_an_endpoint_refuses_is_its_answer_but_never_a_2xx() {
    for (answer, status, body) in [
        (Answer::status(403), 403, "403"),
        (
            Answer::ok("a page"),
            502,
            "the endpoint answered 200 OK and did not switch protocols, as extended CONNECT asks\n",
        ),
    ] {
        let backend = Backend::http().answer(answer).start();
        let weir = serving("hello", &[backend.addr()]);
        let client = Http2::to(weir.outgoing());
        // The client waits for weir's SETTINGS before it may ask.
        assert_ne!(client.get("http://hello/").status, 0);
        let mut request = Request::connect("http://hello/chat").body(()).unwrap();
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        let mut stream = client.start(request, false);
        assert_eq!(stream.head().unwrap().status(), status);
        assert_eq!(stream.data().unwrap(), body);
    }
}

#[test]
fn only_a_switch_of_protocols_is_a_tunnel() {
    let backend = Backend::http().answers("ok").start();
    let weir = serving("hello", &[backend.addr()]);
    for (protocol, status, requests) in [("websocket", 502, 1), ("foo", 502, 2), ("h2c", 400, 2)] {
        let mut frames = Frames::to(weir.outgoing());
        let fields: [(&str, &[u8]); 5] = [
            (":method", b"CONNECT"),
            (":protocol", protocol.as_bytes()),
            (":scheme", b"http"),
            (":authority", b"hello"),
            (":path", b"/chat"),
        ];
        frames.request(1, &fields, false);
        assert_eq!(frames.ended(1), Ended::Answered(status), "{protocol}");
        assert_eq!(backend.count(), requests, "{protocol}");
    }
    // The endpoint is not at fault for what it does not speak.
    assert_eq!(weir.failures(backend.addr()), 0);
    // With HTTP/1.1 it is an answer like any other.
    let upgrade = e2e::Request::get("http://hello/").with("Connection", "upgrade").with("Upgrade", "foo");
    weir.ask(&upgrade).expect_body("ok");
}
