//! When a listener is full, connections that nobody uses make room.

use std::io::{Read, Write};
use std::time::Duration;

use super::Between;
use e2e::raw::{self, TcpServer};
use e2e::witness::Manner;
use e2e::{Answer, Backend, Client, Weir};

use crate::transparent::{Stage, TARGET, V4};

#[test]
fn the_longest_idle_connection_makes_room_for_a_new_client() {
    let backend = Backend::http().start();
    let weir =
        Weir::new().set("limits", "{ connections: 4, idle: 1h }").service("hello", &[backend.addr()]).start();
    let mut idle: Vec<Client> = (0..4)
        .map(|_| {
            let mut client = weir.client();
            client.get("http://hello/").expect_body("ok");
            // In milliseconds, each has been idle longer than the next.
            std::thread::sleep(Duration::from_millis(5));
            client
        })
        .collect();
    weir.client().get("http://hello/").expect_body("ok");
    assert!(idle[0].is_closed(), "the longest idle one");
    for client in &mut idle[1..] {
        client.get("http://hello/").expect_body("ok");
    }
    assert_eq!(weir.turned_away("outgoing", "made_room"), 1.0);
}

#[test]
fn room_is_made_by_the_pod_that_has_the_most_connections() {
    let Some(mut stage) = Stage::set() else { return };
    let hello = e2e::folder::service("hello", &["10.96.0.10"]).port("http", 80, TARGET);
    let weir = Weir::new().on_node(&stage.net).set("limits", "{ connections: 4, idle: 1h }");
    stage.start(weir.kubernetes(&hello.endpoints(&[stage.a.v4()])));
    let _backend = Backend::http().inside(&stage.a).on(stage.a.at(TARGET)).start();
    let mut of_few = Client::over(stage.b.connect(super::address(V4)).unwrap());
    of_few.get("/").expect_body("ok");
    let mut of_many: Vec<Client> = (0..3)
        .map(|_| {
            let mut client = stage.dial(V4);
            client.get("/").expect_body("ok");
            client
        })
        .collect();
    for _ in 0..3 {
        let mut new = stage.dial(V4);
        new.get("/").expect_body("ok");
        of_many.push(new);
    }
    of_few.get("/").expect_body("ok");
    assert_eq!(of_many.iter_mut().filter_map(|it| it.is_closed().then_some(())).count(), 3);
}

#[test]
fn a_full_listener_ends_connections_with_their_answers() {
    let backend = Backend::http().answer(Answer::ok("ok").after(Duration::from_millis(500))).start();
    let weir = Weir::new().set("limits", "{ connections: 2 }").service("hello", &[backend.addr()]).start();
    let request = e2e::Request::get("http://hello/");
    let mut busy = [weir.client(), weir.client()];
    for client in &mut busy {
        client.start(&request);
    }
    backend.wait_for(2);
    let mut waits = weir.client();
    waits.start(&request);
    for client in &mut busy {
        let answer = client.response();
        answer.expect_body("ok");
        if answer.get("connection") == Some("close") {
            waits.response().expect_body("ok");
            return;
        }
    }
    panic!("no answer says that its connection ends");
}

#[test]
fn exchanges_whose_client_has_closed_its_sending_side_make_room_first() {
    Between::both("{ connections: 3, halfClosed: 1h, idle: 1h }", |between| {
        let witness = between.witness(Manner::Silent);
        let get = "GET / HTTP/1.1\r\nHost: hello\r\n\r\n";
        let mut left = between.client();
        left.send(get).half_close();
        witness.wait_for_end(1);
        let mut others = [between.connect(), between.connect()];
        for (at, other) in others.iter_mut().enumerate() {
            other.write_all(get.as_bytes()).unwrap();
            witness.wait_for(at + 2);
        }
        let mut new = between.connect();
        new.write_all(get.as_bytes()).unwrap();
        witness.wait_for(4);
        left.rest();
        let listener = between.listener();
        assert_eq!(between.weir().turned_away(listener, "made_room"), 1.0);
    });
}

#[test]
fn an_answer_that_passes_to_a_half_closed_client_stays_while_others_are_idle() {
    let (pieces, pause) = (20, Duration::from_millis(100));
    let backend = TcpServer::on(raw::listen(raw::loopback()).unwrap(), move |mut stream| {
        let mut read = [0; 4096];
        let Ok(n @ 1..) = stream.read(&mut read) else { return };
        let is_long = String::from_utf8_lossy(&read[..n]).starts_with("GET /long");
        let count = if is_long { pieces } else { 1 };
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n");
        for _ in 0..count {
            std::thread::sleep(pause);
            let _ = stream.write_all(b"x");
        }
    });
    let limits = "{ connections: 2, halfClosed: 1h, idle: 1h }";
    let weir = Weir::new().set("limits", limits).service("hello", &[backend.addr()]).start();
    let mut idle = weir.client();
    idle.get("http://hello/").expect_body("x");
    let mut reads = weir.client();
    reads.send("GET http://hello/long HTTP/1.1\r\nHost: hello\r\n\r\n").half_close();
    assert_eq!(reads.head().status(), Some(200));
    weir.client().get("http://hello/").expect_body("x");
    assert!(idle.is_closed());
    assert_eq!(reads.rest().0, b"x".repeat(pieces));
    assert_eq!(weir.turned_away("outgoing", "made_room"), 1.0);
}
