//! Everything that is not HTTP/1: forwarded as bytes to a balanced endpoint of the dialled service.

use std::net::IpAddr;
use std::time::Duration;

use super::{Stage, TARGET, V4, V6};
use e2e::client::Closed;
use e2e::raw::TcpServer;
use e2e::weir::builder::Builder;
use e2e::{Answer, Backend, Pod, Weir, folder};

fn listener(pod: &Pod) -> std::net::TcpListener {
    pod.listen(pod.at(TARGET)).unwrap()
}

#[test]
fn bytes_pass_and_either_side_may_close_first() {
    let Some(stage) = Stage::with_one_endpoint() else { return };
    {
        let _server = TcpServer::counts_to_the_end(listener(&stage.a));
        let mut client = stage.dial(V4);
        client.send([0; 70_000]).half_close().expect("got 70000");
        assert_eq!(client.closed(), Closed::End);
    }
    let (tell, told) = std::sync::mpsc::channel();
    let _server = TcpServer::closes_first(listener(&stage.a), "bye", tell);
    let mut client = stage.dial(V4);
    client.send([1]).expect("bye");
    assert_eq!(client.closed(), Closed::End);
    client.send([2; 999]).half_close();
    assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(1000));
}

#[test]
fn a_server_may_speak_first() {
    let Some(stage) = Stage::with_one_endpoint() else { return };
    let _server = TcpServer::greets(listener(&stage.a), "220 ready\r\n");
    let mut client = stage.dial(V4);
    client.expect("220 ready\r\n").send("EHLO me\r\n").expect("EHLO me\r\n");
}

#[test]
fn a_client_that_only_listens_hears_the_server() {
    let Some(stage) = Stage::with_one_endpoint() else { return };
    let _server = TcpServer::greets(listener(&stage.a), "220 ready\r\n");
    let mut client = stage.dial(V4);
    client.half_close().expect("220 ready\r\n");
    assert_eq!(client.closed(), Closed::End);
}

#[test]
fn a_client_that_thinks_before_it_speaks_http_is_still_http() {
    let Some(stage) = Stage::with_one_endpoint() else { return };
    let backend = Backend::http().inside(&stage.a).on(stage.a.at(TARGET)).start();
    let mut client = stage.dial(V4);
    assert!(client.silent_for(Duration::from_millis(600)));
    client.get("/").expect_body("ok");
    client.get("/").expect_body("ok");
    assert_eq!(backend.count(), 2);
}

#[test]
fn protocols_pass_byte_for_byte() {
    let Some(stage) = Stage::with_one_endpoint() else { return };
    let _server = TcpServer::echo(listener(&stage.a));
    let hello_of_tls = [22, 3, 1, 0, 5, 1, 0, 0, 1, 0];
    for bytes in [&hello_of_tls[..], b"\0", b"SELECT 1\n", b"*1\r\n$4\r\nPING\r\n"] {
        stage.dial(V4).send(bytes).expect(bytes);
    }
}

#[test]
fn much_passes_both_ways_at_once() {
    let Some(stage) = Stage::with_one_endpoint() else { return };
    let _server = TcpServer::echo(listener(&stage.a));
    let bytes: Vec<u8> = (0..8_000_000_u32).map(|i| (i % 253) as u8).collect();
    let mut client = stage.dial(V4);
    let (mut upload, sent) = (client.stream().try_clone().unwrap(), bytes.clone());
    let sender = std::thread::spawn(move || std::io::Write::write_all(&mut upload, &sent));
    client.expect(&bytes);
    sender.join().unwrap().unwrap();
}

#[test]
fn a_slow_reader_fills_no_memory() {
    let Some(mut stage) = Stage::with_one_endpoint() else { return };
    let _server = TcpServer::on(listener(&stage.a), |mut stream| {
        // A close with a byte unread would be a reset, and lose what is under way.
        std::io::Read::read_exact(&mut stream, &mut [0]).unwrap();
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..64 {
            if std::io::Write::write_all(&mut stream, &piece).is_err() {
                return;
            }
        }
    });
    let before = stage.weir().resident();
    let mut client = stage.dial(V4);
    client.send("\0");
    assert!(e2e::time::holds_for(Duration::from_secs(1), || stage.weir().resident() < before + (16 << 20)));
    assert_eq!(client.rest().0.len(), 64 << 20);
}

#[test]
fn connections_are_balanced_and_a_dead_endpoint_costs_none() {
    let Some(stage) = Stage::running() else { return };
    let (a, b) = (TcpServer::echo(listener(&stage.a)), TcpServer::echo(listener(&stage.b)));
    // The IPv6 endpoints refuse all the while.
    for to in [V4, V6] {
        for _ in 0..30 {
            stage.dial(to).send("\0x").expect("\0x");
        }
    }
    assert!(a.accepted() > 5 && b.accepted() > 5, "{} and {}", a.accepted(), b.accepted());
    drop(a);
    for _ in 0..30 {
        stage.dial(V4).send("\0x").expect("\0x");
    }
}

#[test]
fn a_port_declared_opaque_is_not_parsed() {
    let Some(mut stage) = Stage::set() else { return };
    let hello = folder::service("hello", &["10.96.0.10"]).port("http", 80, TARGET).app_protocol("tcp");
    let hello = hello.endpoints(&[stage.a.v4()]);
    let builder: Builder = Weir::new().on_node(&stage.net).kubernetes(&hello);
    stage.start(builder);
    let _server = TcpServer::echo(listener(&stage.a));
    let odd = "GET / HTTP/1.1\nContent-Length: 1\nContent-Length: 2\n\n";
    stage.dial(V4).send(odd).expect(odd);
}

#[test]
fn a_client_that_vanishes_ends_the_other_side() {
    let Some(mut stage) = Stage::with_one_endpoint() else { return };
    let backend = Backend::http().answer(Answer::raw("")).inside(&stage.a).on(stage.a.at(TARGET)).start();
    let mut client = stage.dial(V4);
    client.send("\0not http");
    e2e::eventually("the bytes at the endpoint", || backend.raw().concat() == b"\0not http");
    client.vanish();
    e2e::eventually("the end of the endpoint's connection", || backend.open() == 0);
    e2e::eventually("nothing in flight", || stage.weir().in_flight() == 0);
}

#[test]
fn endpoints_without_a_route_or_a_listener_cost_no_diverted_connection() {
    let Some(mut stage) = Stage::set() else { return };
    let _http = Backend::http().inside(&stage.a).on(stage.a.at(TARGET)).start();
    let _echo = TcpServer::echo(stage.a.listen(stage.a.at(TARGET + 1)).unwrap());
    // Nobody listens in three of the pods, and the node has no route to four addresses.
    let refusing = [&stage.b, &stage.client, &stage.beyond].map(Pod::v4);
    let unreachable = [1, 2, 3, 4].map(|last| IpAddr::from([203, 0, 113, last]));
    let endpoints = [&refusing[..], &unreachable, &[stage.a.v4()]].concat();
    let service =
        |name, at, target| folder::service(name, &[at]).port("any", 80, target).endpoints(&endpoints);
    let builder = Weir::new().on_node(&stage.net).kubernetes(&service("hello", "10.96.0.10", TARGET));
    stage.start(builder.kubernetes(&service("echo", "10.96.0.11", TARGET + 1)));
    for _ in 0..10 {
        stage.dial(V4).get("/").expect_body("ok");
        stage.dial("10.96.0.11:80").send([0; 9]).expect([0; 9]);
    }
}

/// First heads that servers take, and weir's parser does not.
const ODD: [&[u8]; 12] = [
    b"GET /api/v1/query?query=up{job=\"node\"} HTTP/1.1\r\nHost: hello\r\n\r\n",
    b"GET /?q=<a> HTTP/1.1\r\nHost: hello\r\n\r\n",
    b"GET /<a> HTTP/1.1\r\nHost: hello\r\n\r\n",
    b"GET /`id` HTTP/1.1\r\nHost: hello\r\n\r\n",
    b"GET /caf\xe9 HTTP/1.1\r\nHost: hello\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: hello\r\nX (odd): 1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: hello\r\nX-Space : 1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: hello\r\nX-Folded: 1\r\n 2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: hello\r\nX: a\x01b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: hello\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: hello\r\n: no name\r\n\r\n",
    b"POST /?\" HTTP/1.1\r\nHost: hello\r\nContent-Length: 4\r\n\r\nbody",
];

#[test]
fn a_first_head_that_no_parser_of_weirs_can_hold_reaches_its_server_as_it_is() {
    let Some(mut stage) = Stage::with_one_endpoint() else { return };
    let _server = TcpServer::echo(listener(&stage.a));
    for head in ODD {
        stage.dial(V4).send(head).expect(head);
    }
    let counted = stage.weir().metric("weir_listener_unparsed_heads_total", &[("listener", "transparent")]);
    assert_eq!(counted, ODD.len() as f64);
}

#[test]
fn a_later_head_of_that_kind_is_a_400_that_says_why_and_never_reaches_the_server() {
    let Some(mut stage) = Stage::with_one_endpoint() else { return };
    let backend = Backend::http().inside(&stage.a).on(stage.a.at(TARGET)).start();
    for head in ODD {
        let mut client = stage.dial(V4);
        client.get("/").expect_body("ok");
        let answer = client.send(head).response();
        assert!(answer.expect_status(400).text().contains("RFC 9112"), "{answer:?}");
        assert!(!answer.l5d_err().is_empty() && answer.get("via").is_none(), "{answer:?}");
        client.rest();
    }
    assert_eq!(backend.count(), ODD.len(), "the first of each");
    assert_eq!(stage.weir().faults("bad_head"), ODD.len() as f64);
}

#[test]
fn a_diverted_connection_that_waits_for_a_silent_node_is_reset() {
    let Some(mut stage) = Stage::set() else { return };
    let hello = folder::service("hello", &["10.96.0.10"]).port("any", 80, TARGET);
    let builder = Weir::new().on_node(&stage.net).set("limits", "{ silence: 1s, unacknowledged: 1h }");
    stage.start(builder.kubernetes(&hello.endpoints(&[stage.a.v4()])));
    let _server = TcpServer::greets(listener(&stage.a), "220 ready\r\n");
    let (mut waits, mut rests) = (stage.dial(V4), stage.dial(V4));
    for client in [&mut waits, &mut rests] {
        client.expect("220 ready\r\n").send("EHLO me\r\n").expect("EHLO me\r\n");
    }
    stage.net.cut(&stage.a);
    waits.send("MAIL\r\n");
    assert_eq!(waits.closed(), Closed::Reset);
    stage.net.mend(&stage.a);
    // The other one was sent nothing that could have been lost.
    rests.send("QUIT\r\n").expect("QUIT\r\n");
}
