//! Several routers in one weir: each with its listener and its rules, and all with the same endpoints.

mod addresses;
mod load;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use e2e::{Answer, Backend, Client, Frames, Request, Weir, eventually};

use super::apply::{change, waits};

/// `[{ label: a, listen: …, … }, …]`.
fn list(routers: &[(&str, &str, &str)]) -> String {
    let each = routers
        .iter()
        .map(|(label, listen, more)| format!("{{ label: {label}, listen: \"{listen}\"{more} }}"));
    format!("[{}]", each.collect::<Vec<_>>().join(", "))
}

const ANY: &str = "127.0.0.1:0";

/// The mesh: names by Host, `web` is v1. The edge: names by the first segment, everything is v2 but `hello`.
const MESH: &str = ", dtab: \"/svc/web => /svc/v1\"";
const EDGE: &str = ", dstPrefix: /edge, identifier: { kind: io.l5d.path, consume: true }, \
    baseDtab: \"/edge => /#/io.l5d.fs/v2 ; /edge/hello => /#/io.l5d.fs/hello\"";

struct Two {
    weir: Weir,
    backends: [Backend; 3],
}

fn two(mesh: &str, edge: &str) -> Two {
    let backends = ["hello", "v1", "v2"].map(|name| Backend::http().answers(name).start());
    let mut weir = Weir::new().set("outgoing", &list(&[("mesh", ANY, mesh), ("edge", ANY, edge)]));
    for (name, backend) in ["hello", "v1", "v2"].iter().zip(&backends) {
        weir = weir.service(name, &[backend.addr()]);
    }
    Two { weir: weir.start(), backends }
}

fn get(at: SocketAddr, url: &str) -> e2e::Response {
    Client::to(at).get(url)
}

#[test]
fn each_router_has_its_own_rules_and_all_have_the_same_endpoints() {
    let Two { weir, backends } = two(MESH, EDGE);
    let (mesh, edge) = (weir.outgoing(), weir.router("edge"));
    get(mesh, "http://web/").expect_body("v1");
    get(mesh, "http://v2/").expect_body("v2");
    get(edge, "http://web/any/x").expect_body("v2");
    get(edge, "http://web/hello/x").expect_body("hello");
    get(mesh, "http://edge/hello").expect_status(502);
    // The same text is another name at each, however often it is asked for.
    for _ in 0..3 {
        get(mesh, "http://hello/").expect_body("hello");
        get(edge, "http://hello/").expect_status(400);
    }
    // One cluster, with the attempts of both.
    let attempts = weir.metric("weir_attempts_total", &[("service", "/svc/hello"), ("outcome", "2xx")]);
    assert_eq!((attempts, backends[0].requests().len()), (4.0, 4));
    // A kept connection to an endpoint serves both.
    assert!(backends[0].connections() <= 2, "one per worker");
}

#[test]
fn each_routers_requests_are_counted_and_explained_by_its_label() {
    let Two { weir, backends: _backends } = two(MESH, EDGE);
    let edge = weir.router("edge");
    get(edge, "http://any/hello").expect_body("hello");
    for (router, requests) in [("mesh", 0.0), ("edge", 1.0)] {
        let labels = [("listener", "outgoing"), ("router", router)];
        assert_eq!(weir.metric("weir_listener_requests_total", &labels), requests, "{router}");
    }
    let explain = |query: &str| weir.admin_get(&format!("/api/explain?format=text&{query}"));
    let (mesh, edge) = (explain("name=/svc/web"), explain("name=/edge/web&router=edge"));
    assert!(mesh.text().starts_with("router mesh") && mesh.text().contains("/svc/v1"), "{}", mesh.text());
    assert!(edge.text().starts_with("router edge") && edge.text().contains("fs/v2"), "{}", edge.text());
    let none = explain("name=/svc/web&router=other");
    none.expect_status(400);
    assert!(none.text().contains("there is no router `other`; there is mesh, edge"), "{}", none.text());
    let state = weir.state();
    let routers = state["routers"].as_array().unwrap();
    let labels: Vec<_> = routers.iter().map(|it| it["label"].as_str().unwrap()).collect();
    assert_eq!((labels, &routers[1]["dstPrefix"]), (vec!["mesh", "edge"], &"/edge".into()));
}

#[test]
fn who_may_come_what_a_request_may_bring_and_how_long_it_waits_are_each_routers_own() {
    let slow = Backend::http().answer(Answer::ok("slow").after(Duration::from_secs(20))).start();
    let other = Backend::http().answers("other").start();
    let routers = list(&[
        ("patient", ANY, ""),
        ("hasty", ANY, ", response: 50ms, attempts: 1, overrides: []"),
        ("closed", ANY, ", allow: [192.0.2.0/24]"),
    ]);
    let weir = Weir::new().set("outgoing", &routers).service("slow", &[slow.addr()]);
    let weir = weir.service("other", &[other.addr()]).start();
    get(weir.router("hasty"), "http://slow/").expect_status(504);
    let moved = Request::get("http://slow/").with("l5d-dtab", "/svc/slow => /svc/other");
    Client::to(weir.outgoing()).ask(&moved).expect_body("other");
    Client::to(weir.router("hasty")).ask(&moved).expect_status(504);
    Client::to(weir.router("closed")).closed();
    let labels = [("router", "closed"), ("reason", "not_allowed")];
    assert_eq!(weir.metric("weir_listener_closed_total", &labels), 1.0);
}

/// A free address, bound just now.
fn free() -> SocketAddr {
    TcpListener::bind(ANY).unwrap().local_addr().unwrap()
}

#[test]
fn a_new_routers_first_request_is_by_its_own_rules_and_a_gone_routers_next_one_by_nobodys() {
    let Two { weir, backends: _backends } = two(MESH, EDGE);
    let mesh = weir.outgoing();
    let at = free();
    let [mut left, mut bad] = [(); 2].map(|()| Client::to(weir.router("edge")));
    left.get("http://any/hello").expect_body("hello");
    bad.get("http://any/hello").expect_body("hello");
    let edge = format!("{{ label: edge, listen: \"{at}\"{EDGE} }}");
    let both =
        format!("[{{ label: mesh, listen: \"{ANY}\"{MESH} }}, {{ label: other, listen: \"{at}\"{EDGE} }}]");
    change(&weir, "outgoing", Some(&both));
    get(at, "http://any/hello").expect_body("hello");
    let answer = left.get("http://web/hello");
    answer.expect_status(503);
    // Nobody's rules say that this client may know more.
    assert!(!answer.text().contains("router"), "{}", answer.text());
    left.closed();
    let answer = bad.send(b"GET / HTTP/1.1\r\n\x01: x\r\n\r\n").response();
    answer.expect_status(400);
    assert!(!answer.text().contains("HTTP/1"), "{}", answer.text());
    // Renamed, it stays where it is.
    let mut kept = Client::to(at);
    kept.get("http://any/hello").expect_body("hello");
    change(&weir, "outgoing", Some(&format!("[{{ label: mesh, listen: \"{ANY}\"{MESH} }}, {edge}]")));
    kept.get("http://any/hello").expect_body("hello");
    // And alone it is one router, as ever.
    change(&weir, "outgoing", Some(&format!("{{ listen: \"{at}\" }}")));
    kept.get("http://hello/").expect_body("hello");
    eventually("the end of the first", || {
        TcpStream::connect_timeout(&mesh, Duration::from_millis(200)).is_err()
    });
}

#[test]
fn a_router_that_cannot_listen_does_not_keep_the_others_from_it() {
    let Two { weir, backends: _backends } = two(MESH, EDGE);
    let taken = TcpListener::bind(ANY).unwrap();
    let at = taken.local_addr().unwrap().to_string();
    change(&weir, "outgoing", Some(&list(&[("mesh", ANY, MESH), ("edge", ANY, EDGE), ("more", &at, "")])));
    let said = waits(&weir);
    assert!(said.len() == 1 && said[0].starts_with("outgoing: more: "), "{said:?}");
    get(weir.outgoing(), "http://web/").expect_body("v1");
    get(weir.router("edge"), "http://web/hello").expect_body("hello");
    drop(taken);
    change(&weir, "workers", Some("2"));
    assert_eq!(waits(&weir), [""; 0]);
    get(at.parse().unwrap(), "http://v2/").expect_body("v2");
}

#[test]
fn a_gone_routers_http2_connections_end_and_each_series_is_there_once() {
    let limits = "{ headerRead: 500ms }";
    let edge = format!("[{{ label: mesh, listen: \"{ANY}\"{MESH} }}]");
    let backend = Backend::http().answers("hello").start();
    let weir = Weir::new().set("outgoing", &list(&[("mesh", ANY, MESH), ("edge", ANY, EDGE)]));
    let weir = weir.set("policies", "{ clients: [{ prefix: /, protocol: http1 }] }");
    let weir = weir.set("limits", limits).service("hello", &[backend.addr()]).start();
    let mut frames = Frames::to(weir.router("edge"));
    frames.get(1, "any", "/hello");
    assert_eq!(frames.until(1).status(), Some(200));
    let mut seen = std::collections::HashSet::new();
    for sample in weir.metrics() {
        assert!(seen.insert(format!("{} {:?}", sample.name, sample.labels)), "{sample:?}");
    }
    let streams =
        |router| weir.metric("weir_http2_streams_total", &[("listener", "outgoing"), ("router", router)]);
    assert_eq!((streams("mesh"), streams("edge")), (0.0, 1.0));
    change(&weir, "outgoing", Some(&edge));
    assert_eq!(frames.goodbye(), e2e::Ended::GoAway(0));
}

#[test]
fn log_lines_about_a_routers_requests_and_sockets_name_it() {
    let backends = ["hello", "v1"].map(|name| Backend::http().answers(name).start());
    let mut weir = Weir::new().set("log", "{ level: debug }");
    weir = weir.set("outgoing", &list(&[("mesh", ANY, MESH), ("edge", ANY, EDGE)]));
    for (name, backend) in ["hello", "v1"].iter().zip(&backends) {
        weir = weir.service(name, &[backend.addr()]);
    }
    let weir = weir.start();
    let edge = weir.router("edge");
    get(edge, "http://any/hello").expect_body("hello");
    get(weir.outgoing(), "http://web/").expect_body("v1");
    // Which of them a fault is of, and a head that is none.
    get(edge, "http://any/").expect_status(400);
    Client::to(edge).send(b"GET / HTTP/1.1\r\n\x01: x\r\n\r\n").response().expect_status(400);
    change(&weir, "outgoing", Some(&list(&[("mesh", ANY, MESH), ("edge", "none", EDGE)])));
    let line = |what: &str, router: &str| {
        let router = format!("router=\"{router}\"");
        eventually(what, || weir.log().lines().any(|line| line.contains(what) && line.contains(&router)));
    };
    line("exchange ended", "edge");
    line("exchange ended", "mesh");
    line("exchange failed", "edge");
    line("not listening any more", "edge");
    let bad = "the request's head is not HTTP/1";
    line(bad, "edge");
}

/// The others' rules say nothing of who may know why.
#[test]
fn the_answer_to_a_malformed_head_is_by_the_rules_of_its_own_router() {
    let Two { weir, backends: _backends } = two(MESH, &format!("{EDGE}, overrides: []"));
    for (at, is_told) in [(weir.outgoing(), true), (weir.router("edge"), false)] {
        let answer = Client::to(at).send(b"GET / HTTP/1.1\r\n\x01: x\r\n\r\n").response();
        answer.expect_status(400);
        assert_eq!(answer.text().contains("not HTTP/1"), is_told, "{}", answer.text());
    }
}
