//! `sessionAffinity: ClientIP`: a client, by its address, keeps its endpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::{READY, backends, objects};
use e2e::time::within;
use e2e::{Client, Weir};

const STICKY: &str = "ports: [{ name: http, port: 80 }], sessionAffinity: ClientIP";

/// A connection of the client with this last byte of its address.
fn connect(weir: &Weir, client: u8) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 2, client], 0)).into()).unwrap();
    socket.connect(&weir.outgoing().into()).unwrap();
    Client::over(TcpStream::from(socket))
}

/// Who answers that client.
fn answer(weir: &Weir, client: u8) -> String {
    let answer = connect(weir, client).get("http://hello/");
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

#[test]
fn a_client_has_one_pod_over_all_ports_of_a_service() {
    let names = ["a", "b", "c", "d"];
    let (web, admin) = (backends(names), backends(names));
    let spec = "ports: [{ name: http, port: 80 }, { name: admin, port: 81 }], sessionAffinity: ClientIP";
    let yaml = |endpoints: &[usize]| {
        let all: Vec<_> = endpoints.iter().map(|&at| (web[at].addr(), READY)).collect();
        let port = |name, backends: &[e2e::Backend]| {
            format!("{{ name: {name}, port: {} }}", backends[0].addr().port())
        };
        let (one, both) = (port("http", &web), [port("http", &web), port("admin", &admin)].join(", "));
        objects("hello", spec, &all).replace(&format!("ports: [{one}]"), &format!("ports: [{both}]"))
    };
    let weir = Weir::new().file("hello.yaml", &yaml(&[0, 1, 2, 3])).start();
    let pods = |client: u8| {
        let mut tunnel = connect(&weir, client);
        tunnel.send("CONNECT hello:81 HTTP/1.1\r\nHost: hello:81\r\n\r\n");
        assert_eq!(tunnel.head().status(), Some(200));
        [
            answer(&weir, client),
            connect(&weir, client).get("http://hello:81/").text(),
            tunnel.get("/").text(),
            connect(&weir, client).get("http://hello.default.svc:81/").text(),
        ]
    };
    let expect_one_pod_each = || {
        let mut used = BTreeSet::new();
        for client in 1..=40 {
            let pods = pods(client);
            assert!(pods.iter().all(|it| *it == pods[0]), "client {client} is answered by {pods:?}");
            used.extend(pods);
        }
        used
    };
    assert_eq!(expect_one_pod_each().len(), 4);
    weir.folder().replace("hello.yaml", &yaml(&[0, 2, 3]));
    within(Duration::from_secs(1), "its end", || !weir.knows(web[1].addr()));
    assert_eq!(expect_one_pod_each().len(), 3);
}
