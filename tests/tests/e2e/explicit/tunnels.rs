//! Connections that stop being HTTP: 101 answers and CONNECT.

use std::net::TcpListener;
use std::time::Duration;

use e2e::backend::Then;
use e2e::client::Closed;
use e2e::raw::{self, Refusing, TcpServer};
use e2e::{Answer, Backend, Client, Request, Response, Weir, eventually};

#[test]
fn an_upgrade_becomes_a_tunnel() {
    let backend = Backend::http().answer(Answer::upgrade("websocket").with("X-Kept", "1")).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    client.start(&upgrade("http://hello/chat", "websocket"));
    let head = client.head();
    assert_eq!(
        (head.status(), head.get("upgrade"), head.get("x-kept")),
        (Some(101), Some("websocket"), Some("1"))
    );
    assert!(head.lists("connection", "upgrade"), "{head:?}");
    client.send("ping").expect("ping").send([0, 255, 13, 10]).expect([0, 255, 13, 10]);
    client.half_close();
    assert_eq!(client.closed(), Closed::End);
    let request = backend.only_request().head;
    assert_eq!(request.get("upgrade"), Some("websocket"));
    assert!(request.lists("connection", "upgrade"), "{request:?}");
    assert_eq!(request.get("sec-websocket-key"), Some("eA=="));
}

#[test]
fn a_tunnel_carries_much_both_ways_at_once() {
    let backend = Backend::http().answer(Answer::upgrade("chat")).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    client.start(&upgrade("http://hello/", "chat"));
    assert_eq!(client.head().status(), Some(101));
    let bytes: Vec<u8> = (0..4_000_000_u32).map(|i| (i % 251) as u8).collect();
    let (mut upload, sent) = (client.stream().try_clone().unwrap(), bytes.clone());
    let sender = std::thread::spawn(move || std::io::Write::write_all(&mut upload, &sent));
    client.expect(&bytes);
    sender.join().unwrap().unwrap();
}

#[test]
fn bytes_that_come_together_with_the_101_are_not_lost() {
    let greeting = "HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\nwelcome";
    let backend = Backend::http().answer(Answer::raw(greeting).then(Then::Echo)).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    client.start(&upgrade("http://hello/", "chat"));
    assert_eq!(client.head().status(), Some(101));
    client.expect("welcome").send("x").expect("x");
}

#[test]
fn a_refused_upgrade_is_an_ordinary_answer() {
    let backend = Backend::http().answers("no").start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    client.ask(&upgrade("http://hello/", "chat")).expect_body("no");
    client.get("http://hello/").expect_body("no");
}

#[test]
fn an_upgrade_to_h2c_is_left_out() {
    let backend = Backend::http().answers("plain").start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let request = Request::get("http://hello/")
        .with("Connection", "Upgrade, HTTP2-Settings")
        .with("Upgrade", "h2c")
        .with("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA");
    weir.ask(&request).expect_body("plain");
    let head = backend.only_request().head;
    assert_eq!((head.get("upgrade"), head.get("http2-settings")), (None, None), "{head:?}");
    assert!(!head.lists("connection", "upgrade"), "{head:?}");
}

#[test]
fn an_upgrade_that_http10_asks_for_is_ignored() {
    let backend = Backend::http().script(|request| match request.head.get("upgrade") {
        Some(_) => Answer::upgrade("chat"),
        None => Answer::ok("plain"),
    });
    let backend = backend.start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    client.send("GET http://hello/ HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n");
    client.response().expect_body("plain");
    assert!(!backend.only_request().head.lists("connection", "upgrade"));
    assert_eq!(weir.failures(backend.addr()), 0);
}

#[test]
fn connect_becomes_a_tunnel_to_the_service() {
    let server = TcpServer::echo(listener());
    let weir = Weir::serving("hello", &[server.addr()]);
    for authority in ["hello:80", "HELLO.default.svc.cluster.local:80"] {
        let mut client = connect(&weir, authority);
        client.send("ping").expect("ping").half_close();
        assert_eq!(client.closed(), Closed::End);
    }
    assert_eq!(server.accepted(), 2);
}

#[test]
fn bytes_of_a_tunnel_that_look_like_interim_answers_are_bytes() {
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000);
    for bytes in [interim, vec![b'1'; 250_000], b"HTTP/1.1 1".repeat(25_000)] {
        let server = TcpServer::echo(raw::listen(raw::loopback()).unwrap());
        let upgrades = Backend::http().answer(Answer::upgrade("chat")).start();
        let weir =
            Weir::new().service("bytes", &[server.addr()]).service("hello", &[upgrades.addr()]).start();
        let upgraded = || {
            let mut client = weir.client();
            client.start(&upgrade("http://hello/", "chat"));
            assert_eq!(client.head().status(), Some(101));
            client
        };
        for mut client in [connect(&weir, "bytes:80"), upgraded()] {
            let (mut upload, sent) = (client.stream().try_clone().unwrap(), bytes.clone());
            let sender = std::thread::spawn(move || std::io::Write::write_all(&mut upload, &sent));
            client.expect(&bytes);
            sender.join().unwrap().unwrap();
        }
    }
}

#[test]
fn connect_goes_by_its_target_whatever_stands_beside_it() {
    let (server, other) = (TcpServer::echo(listener()), TcpServer::echo(listener()));
    let weir = Weir::new().service("hello", &[server.addr()]).service("other", &[other.addr()]).start();
    for fields in
        ["Host: other:80", "Via: 1.0 x\r\nX-A: other\r\nHost: other", "X-A: other", "Content-Length: 0"]
    {
        let mut client = weir.client();
        client.send(format!("CONNECT hello:80 HTTP/1.1\r\n{fields}\r\n\r\nearly"));
        assert_eq!(client.head().status(), Some(200), "{fields}");
        client.expect("early");
    }
    assert_eq!((server.accepted(), other.accepted()), (4, 0));
}

#[test]
fn bytes_that_come_together_with_the_connect_are_not_lost() {
    let server = TcpServer::echo(listener());
    let weir = Weir::serving("hello", &[server.addr()]);
    let mut client = weir.client();
    client.send("CONNECT hello:80 HTTP/1.1\r\nHost: hello:80\r\n\r\nearly");
    assert_eq!(client.head().status(), Some(200));
    client.expect("early");
}

#[test]
fn a_server_may_speak_first_in_a_tunnel() {
    let server = TcpServer::greets(listener(), "220 ready\r\n");
    let weir = Weir::serving("mail", &[server.addr()]);
    connect(&weir, "mail:80").expect("220 ready\r\n").send("HELO").expect("HELO");
}

#[test]
fn either_side_of_a_tunnel_may_close_first() {
    let counts = TcpServer::counts_to_the_end(listener());
    let (tell, told) = std::sync::mpsc::channel();
    let closes = TcpServer::closes_first(listener(), "bye", tell);
    let weir = Weir::new().service("counts", &[counts.addr()]).service("closes", &[closes.addr()]).start();

    let mut client = connect(&weir, "counts:80");
    client.send("12345").half_close().expect("got 5");
    assert_eq!(client.closed(), Closed::End);

    let mut client = connect(&weir, "closes:80");
    client.expect("bye");
    assert_eq!(client.closed(), Closed::End);
    client.send("1234567").half_close();
    assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(7));
}

#[test]
fn the_answer_to_connect_has_no_framing() {
    let server = TcpServer::echo(listener());
    let weir = Weir::serving("hello", &[server.addr()]);
    let mut client = weir.client();
    client.send("CONNECT hello:80 HTTP/1.1\r\nHost: hello:80\r\n\r\n");
    let head = client.head();
    assert_eq!((head.get("content-length"), head.get("transfer-encoding")), (None, None), "{head:?}");
}

#[test]
fn connect_tries_another_endpoint_when_one_refuses() {
    let (refusing, server) = (Refusing::new(), TcpServer::echo(listener()));
    let weir = Weir::serving("hello", &[refusing.addr(), server.addr()]);
    for _ in 0..20 {
        connect(&weir, "hello:80").send("x").expect("x");
    }
}

#[test]
fn a_server_that_turns_clients_away_is_no_failure_and_one_that_only_resets_is() {
    let rude = || {
        TcpServer::on(listener(), |mut stream| {
            let mut first = [0];
            let _ = std::io::Read::read_exact(&mut stream, &mut first);
            if first == *b"x" {
                let _ = std::io::Write::write_all(&mut stream, b"go away");
            }
            // The rest is unread, so this is a reset.
        })
    };
    let servers = [rude(), rude()];
    let weir = Weir::serving("hello", &[servers[0].addr(), servers[1].addr()]);
    let try_with = |what: &str| connect(&weir, "hello:80").send(what).rest();
    for _ in 0..20 {
        try_with("x and more");
    }
    let ejections = || weir.metric("weir_endpoint_ejections_total", &[]);
    assert_eq!(ejections(), 0.0);
    for _ in 0..20 {
        try_with("y and more");
    }
    eventually("an ejection", || ejections() > 0.0);
}

/// A CONNECT that is refused, with what its client sends on at once: bytes for the tunnel that look like a request.
fn refused(weir: &Weir, head: &str) -> Response {
    let mut client = weir.client();
    client.send(format!("{head}\r\n\r\nGET http://other/ HTTP/1.1\r\nHost: other\r\n\r\n"));
    let answer = client.response();
    let (rest, _) = client.rest();
    assert_eq!(String::from_utf8_lossy(&rest), "", "{head:?} was followed by another answer");
    answer
}

#[test]
fn what_follows_a_refused_connect_is_never_a_request() {
    let (server, other, refusing) = (TcpServer::echo(listener()), Backend::http().start(), Refusing::new());
    let weir = Weir::new().service("hello", &[server.addr()]).service("other", &[other.addr()]);
    let weir = weir.service("dead", &[refusing.addr()]).file("empty", "").start();
    let cases = [
        ("http://hello:80/x", 400),
        ("http://hello:80/", 400),
        ("http://hello:80", 400),
        ("https://hello:443/x", 400),
        ("me@hello:80", 400),
        ("me:secret@hello:80", 400),
        ("hello", 400),
        ("hello:", 400),
        ("hello:0", 400),
        ("hello:+80", 400),
        ("hello:65536", 400),
        ("hello:80:80", 400),
        ("hello:http", 400),
        (":80", 400),
        ("hello:80/x", 400),
        ("hello:80?x", 400),
        ("hello:80#x", 400),
        ("/hello:80", 400),
        ("//hello:80", 400),
        ("*", 400),
        ("[fd00::1", 400),
        ("fd00::1:80", 400),
        ("169.254.169.254:80", 403),
        ("nowhere:80", 502),
        ("dead:80", 502),
        ("empty:80", 503),
    ];
    for (target, status) in cases {
        for version in ["HTTP/1.1\r\nHost: hello:80", "HTTP/1.0"] {
            let answer = refused(&weir, &format!("CONNECT {target} {version}"));
            assert_eq!(answer.status, status, "{target} {version}: {:?}", answer.head);
            assert!(answer.head.lists("connection", "close"), "{target}: {:?}", answer.head);
        }
    }
    let two = "CONNECT hello:80 HTTP/1.1\r\nHost: hello:80\r\nHost: hello:80";
    refused(&weir, two).expect_status(400);
    assert_eq!((server.accepted(), other.connections()), (0, 0));
}

#[test]
fn a_refused_connect_is_told_so_whatever_its_client_sends_on() {
    let weir = Weir::new().start();
    let mut client = weir.client();
    client.send("CONNECT nowhere:80 HTTP/1.1\r\nHost: nowhere:80\r\n\r\n").send(vec![b'x'; 200_000]);
    client.response().expect_status(502);
}

#[test]
fn connect_to_what_is_not_there_says_so() {
    let refusing = Refusing::new();
    let weir = Weir::new().service("dead", &[refusing.addr()]).file("empty", "").start();
    for (authority, statuses) in [("nowhere:80", &[502][..]), ("dead:80", &[502, 503]), ("empty:80", &[503])]
    {
        let mut client = weir.client();
        client.start(&Request::new("CONNECT", authority));
        let answer = client.response();
        assert!(statuses.contains(&answer.status), "{authority}: {:?}", answer.head);
        assert!(!answer.l5d_err().is_empty(), "{authority}: {:?}", answer.head);
    }
}

#[test]
fn a_silent_tunnel_ends_after_its_bound() {
    let server = TcpServer::echo(listener());
    let limits = "{ tunnelIdle: 1s }";
    let weir = Weir::new().set("limits", limits).service("hello", &[server.addr()]).start();
    let mut client = connect(&weir, "hello:80");
    for _ in 0..15 {
        client.send("x").expect("x");
        std::thread::sleep(Duration::from_millis(100));
    }
    client.rest();
}

#[test]
fn a_tunnel_is_one_of_its_listeners_connections_until_it_ends() {
    let server = TcpServer::echo(listener());
    let upgrading = Backend::http().answer(Answer::upgrade("chat")).start();
    let weir = Weir::new().set("limits", "{ connections: 2 }");
    let weir = weir.service("hello", &[server.addr()]).service("chat", &[upgrading.addr()]).start();
    let tunnel = connect(&weir, "hello:80");
    let mut upgraded = weir.client();
    upgraded.start(&upgrade("http://chat/", "chat"));
    assert_eq!(upgraded.head().status(), Some(101));
    let open = || weir.metric("weir_listener_open_connections", &[("listener", "outgoing")]);
    assert_eq!(open(), 2.0);
    let mut third = weir.client();
    third.start(&Request::new("CONNECT", "hello:80"));
    assert!(third.silent_for(Duration::from_millis(300)), "a third connection was served, or closed");
    tunnel.vanish();
    assert_eq!(third.head().status(), Some(200));
    third.vanish();
    upgraded.vanish();
    eventually("no connection", || open() == 0.0);
}

#[test]
fn a_connect_with_a_body_is_refused() {
    let server = TcpServer::echo(listener());
    let weir = Weir::serving("hello", &[server.addr()]);
    for framing in
        ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
    {
        let mut client = weir.client();
        client.send(format!("CONNECT hello:80 HTTP/1.1\r\nHost: hello:80\r\n{framing}"));
        client.response().expect_status(400);
    }
    assert_eq!(server.accepted(), 0);
}

#[test]
fn a_tunnel_whose_reader_pauses_loses_nothing() {
    let server = TcpServer::on(listener(), |mut stream| {
        let mut first = [0];
        std::io::Read::read_exact(&mut stream, &mut first).unwrap();
        if first == *b"r" {
            std::thread::sleep(Duration::from_secs(4));
            let mut all = Vec::new();
            let _ = std::io::Read::read_to_end(&mut stream, &mut all);
            let _ = std::io::Write::write_all(&mut stream, format!("got {}", all.len()).as_bytes());
        } else {
            let _ = std::io::Write::write_all(&mut stream, &vec![b'x'; MUCH]);
        }
    });
    let limits = "{ unacknowledged: 1s }";
    let weir = Weir::new().set("limits", limits).service("hello", &[server.addr()]).start();
    let (mut reader, mut writer) = (connect(&weir, "hello:80"), connect(&weir, "hello:80"));
    reader.send("w");
    let mut upload = writer.stream().try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let mut all = vec![b'x'; MUCH + 1];
        all[0] = b'r';
        std::io::Write::write_all(&mut upload, &all).unwrap();
        upload.shutdown(std::net::Shutdown::Write).unwrap();
    });
    // Four times as long as TCP waits for what is lost: the far side answers its probes all the while.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(reader.rest().0.len(), MUCH);
    writer.expect(format!("got {MUCH}"));
    sender.join().unwrap();
}

/// More than all the buffers on the way hold.
const MUCH: usize = 32 << 20;

fn upgrade(url: &str, protocol: &str) -> Request {
    Request::get(url)
        .with("Connection", "Upgrade")
        .with("Upgrade", protocol)
        .with("Sec-WebSocket-Key", "eA==")
}

fn connect(weir: &Weir, authority: &str) -> Client {
    let mut client = weir.client();
    client.start(&Request::new("CONNECT", authority));
    assert_eq!(client.head().status(), Some(200));
    client
}

fn listener() -> TcpListener {
    raw::listen(raw::loopback()).unwrap()
}
