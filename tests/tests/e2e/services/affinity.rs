//! `sessionAffinity: ClientIP`: a client, by its address, keeps its endpoint.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::{READY, backends, objects};
use e2e::time::within;
use e2e::{Client, Weir};

const STICKY: &str = "ports: [{ name: http, port: 80 }], sessionAffinity: ClientIP";

/// Who answers the client with this last byte of its address.
fn answer(weir: &Weir, client: u8) -> String {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 2, client], 0)).into()).unwrap();
    socket.connect(&weir.outgoing().into()).unwrap();
    let answer = Client::over(TcpStream::from(socket)).get("http://hello/");
    answer.expect_status(200);
    answer.text()
}

/// Who answers each of thirty clients.
fn answers(weir: &Weir) -> BTreeMap<u8, String> {
    (1..=30).map(|client| (client, answer(weir, client))).collect()
}

#[test]
fn a_client_keeps_its_endpoint_on_every_connection_and_worker_and_after_a_restart() {
    let backends = backends(["a", "b", "c"]);
    let all: Vec<_> = backends.iter().map(|it| (it.addr(), READY)).collect();
    let weir = Weir::new().file("hello.yaml", &objects("hello", STICKY, &all)).start();
    let first = answers(&weir);
    for name in ["a", "b", "c"] {
        assert!(first.values().any(|it| it == name), "clients are spread: {first:?}");
    }
    for _ in 0..3 {
        assert_eq!(answers(&weir), first);
    }
    let explained = weir.admin_get("/api/explain?name=hello&format=text").text();
    assert!(explained.contains("sessionAffinity: ClientIP"), "{explained}");
    drop(weir);
    let again = Weir::new().file("hello.yaml", &objects("hello", STICKY, &all)).start();
    assert_eq!(answers(&again), first);
}

#[test]
fn only_the_clients_of_an_endpoint_that_left_or_fails_move() {
    let mut backends = backends(["a", "b", "c"]);
    let all: Vec<_> = backends.iter().map(|it| (it.addr(), READY)).collect();
    let weir = Weir::new().file("hello.yaml", &objects("hello", STICKY, &all)).start();
    let first = answers(&weir);
    backends[0].kill();
    let expect_others_stay = |now: &BTreeMap<u8, String>| {
        for (client, answer) in now {
            assert!(answer != "a" && (first[client] == "a" || *answer == first[client]), "{first:?} {now:?}");
        }
    };
    let failing = answers(&weir);
    expect_others_stay(&failing);
    weir.folder().replace("hello.yaml", &objects("hello", STICKY, &all[1..]));
    within(Duration::from_secs(1), "its end", || !weir.knows(all[0].0));
    assert_eq!(
        answers(&weir),
        failing,
        "a client's second choice is the same whether the first fails or left"
    );
    backends[0].restart();
    weir.folder().replace("hello.yaml", &objects("hello", STICKY, &all));
    within(Duration::from_secs(1), "its return", || answers(&weir) == first);
}
