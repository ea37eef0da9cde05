//! Several routers in one weir: each with its listener and its rules, and all with the same endpoints.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use e2e::load::Reuse;
use e2e::{Answer, Backend, Client, Frames, Http2, Load, Request, Weir, eventually};

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

#[test]
fn two_routers_under_load_that_are_reloaded_each_second_fail_no_request() {
    let [mesh, edge] = [free(), free()];
    let at = [mesh, edge].map(|it| it.to_string());
    let backends = ["hello", "v1", "v2"].map(|name| Backend::http().answers(name).start());
    let start = list(&[("mesh", &at[0], MESH), ("edge", &at[1], EDGE)]);
    let mut weir = Weir::new().set("outgoing", &start);
    weir = weir.set("policies", "{ clients: [{ prefix: /, protocol: http1 }] }");
    for (name, backend) in ["hello", "v1", "v2"].iter().zip(&backends) {
        weir = weir.service(name, &[backend.addr()]);
    }
    let weir = weir.start();
    // Connections that are kept, a new one for each request, and streams.
    let new = |at, url| Load::start(2, Reuse::Never, &Request::get(url), move || TcpStream::connect(at));
    let loads = [
        (Load::get(mesh, "http://web/"), "v1"),
        (Load::get(edge, "http://web/hello/x"), "hello"),
        (new(mesh, "http://web/"), "v1"),
        (new(edge, "http://web/hello/x"), "hello"),
    ];
    let streams = [(mesh, "http://web/", "v1"), (edge, "http://web/hello/x", "hello")].map(Streams::begin);
    for (load, _) in &loads {
        load.answered(20);
    }
    for round in 0..8 {
        let (begun, third) = (Instant::now(), ("third", ANY, ", dtab: \"/svc => /#/io.l5d.fs/v1\""));
        // Who may come is another list each time, with the clients in it.
        let allow = [", allow: [127.0.0.0/8]", ", allow: [127.0.0.1/32, 10.0.0.0/8]"][round % 2];
        let [mesh, edge] = [MESH, EDGE].map(|more| format!("{more}, response: {}s{allow}", 100 + round));
        // A third comes and goes, first and last, and the two get new names, each at its address.
        let names = [["mesh", "edge"], ["a", "edge"], ["a", "b"], ["mesh", "b"]][round % 4];
        let (one, other) = ((names[0], &*at[0], &*mesh), (names[1], &*at[1], &*edge));
        let routers = match round % 3 {
            0 => list(&[third, one, other]),
            1 => list(&[other, one]),
            _ => list(&[one, other, third]),
        };
        change(&weir, "outgoing", Some(&routers));
        assert_eq!(waits(&weir), [""; 0]);
        for (load, _) in &loads {
            load.answered(20);
        }
        std::thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
    }
    for (load, body) in loads {
        let tally = load.stop();
        tally.expect_no_failure();
        assert_eq!(tally.from(body), tally.ok(), "by the other router's rules: {tally:?}");
    }
    for streams in streams {
        assert!(streams.end() > 0);
    }
}

/// A free address, bound just now.
fn free() -> SocketAddr {
    TcpListener::bind(ANY).unwrap().local_addr().unwrap()
}

/// Streams of one HTTP/2 connection, one after the other; each has to be answered with this body.
struct Streams {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Streams {
    fn begin((at, url, body): (SocketAddr, &'static str, &'static str)) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = ended.clone();
        let thread = std::thread::spawn(move || {
            let client = Http2::to(at);
            let mut count = 0;
            while !seen.load(Ordering::SeqCst) {
                let answer = client.get(url);
                assert_eq!((answer.status, answer.text().as_str()), (200, body), "{answer:?}");
                count += 1;
            }
            count
        });
        Self { ended, thread }
    }

    /// How many were answered.
    fn end(self) -> usize {
        self.ended.store(true, Ordering::SeqCst);
        self.thread.join().expect("every stream is answered")
    }
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

/// Where a router listens.
fn addresses(weir: &Weir, router: &str) -> Vec<SocketAddr> {
    let state = weir.state();
    let listeners = state["listeners"].as_array().unwrap();
    let of = listeners.iter().find(|it| it["router"] == router).unwrap();
    let addresses = of["addresses"].as_array().unwrap().iter();
    addresses.map(|it| it.as_str().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_router_serves_at_each_of_its_addresses_by_the_same_rules_and_counts() {
    let Two { weir, backends: _backends } = two(MESH, EDGE);
    let three = format!("[\"{ANY}\", \"{ANY}\", \"[::1]:0\"]");
    let routers = format!(
        "[{{ label: mesh, listen: {three}{MESH} }}, {{ label: edge, listen: [\"{ANY}\", \"{ANY}\"]{EDGE} }}]"
    );
    change(&weir, "outgoing", Some(&routers));
    let (mesh, edge) = (addresses(&weir, "mesh"), addresses(&weir, "edge"));
    assert_eq!((mesh.len(), edge.len()), (3, 2));
    for at in &mesh {
        get(*at, "http://web/").expect_body("v1");
    }
    for at in &edge {
        get(*at, "http://web/any/x").expect_body("v2");
    }
    let labels = |router| [("listener", "outgoing"), ("router", router)];
    assert_eq!(weir.metric("weir_listener_requests_total", &labels("mesh")), 3.0);
    assert_eq!(weir.metric("weir_listener_requests_total", &labels("edge")), 2.0);
    for at in mesh.iter().map(ToString::to_string) {
        let of = [("listener", "outgoing"), ("router", "mesh"), ("address", &*at)];
        assert_eq!(weir.metric("weir_listener_address", &of), 1.0, "{at}");
    }
    let explained = weir.admin_get("/api/explain?format=text&name=http://web/x&router=mesh").text();
    assert!(explained.starts_with("router mesh") && explained.contains("/svc/v1"), "{explained}");
    let status = Weir::new().run(&["status", "--admin", &weir.admin().to_string()]);
    let line = format!("outgoing mesh at {}, {}, {}: ", mesh[0], mesh[1], mesh[2]);
    assert!(status.stdout.contains(&line), "{}", status.stdout);
}

#[test]
fn a_router_that_gets_another_address_keeps_its_connections_at_the_others() {
    let [one, two, three] = [free(), free(), free()];
    let backend = Backend::http().answers("hello").start();
    let at = |all: &[SocketAddr]| {
        let all: Vec<_> = all.iter().map(|it| format!("\"{it}\"")).collect();
        format!("{{ listen: [{}] }}", all.join(", "))
    };
    let weir = Weir::new().set("outgoing", &at(&[one, two])).service("hello", &[backend.addr()]).start();
    assert_eq!(weir.outgoing(), one);
    let (mut left, mut kept) = (Client::to(one), Client::to(two));
    left.get("http://hello/").expect_body("hello");
    kept.get("http://hello/").expect_body("hello");
    let load = Load::start(2, Reuse::Never, &Request::get("http://hello/"), move || TcpStream::connect(two));
    load.answered(10);
    change(&weir, "outgoing", Some(&at(&[two, three])));
    get(three, "http://hello/").expect_body("hello");
    kept.get("http://hello/").expect_body("hello");
    left.get("http://hello/").expect_body("hello");
    eventually("the end of the first", || {
        TcpStream::connect_timeout(&one, Duration::from_millis(200)).is_err()
    });
    // One that cannot be had leaves all as they were, and is said.
    let taken = TcpListener::bind(ANY).unwrap();
    change(&weir, "outgoing", Some(&at(&[three, taken.local_addr().unwrap()])));
    let said = waits(&weir);
    assert!(said.len() == 1 && said[0].starts_with("outgoing: cannot listen on "), "{said:?}");
    get(two, "http://hello/").expect_body("hello");
    get(three, "http://hello/").expect_body("hello");
    load.answered(10);
    load.stop().expect_no_failure();
}

/// The labels of each `weir_listener_address`.
fn addresses_said(weir: &Weir) -> Vec<String> {
    let all = weir.metrics().into_iter().filter(|it| it.name == "weir_listener_address");
    all.map(|it| format!("{:?}", it.labels)).collect()
}

#[test]
fn an_address_that_becomes_another_routers_is_never_closed_and_connections_keep_their_rules() {
    let [one, two, three] = [free(), free(), free()];
    let router = |label: &str, at: &[SocketAddr]| {
        let at: Vec<_> = at.iter().map(|it| format!("\"{it}\"")).collect();
        let more = if label == "mesh" { MESH } else { EDGE };
        format!("{{ label: {label}, listen: [{}]{more} }}", at.join(", "))
    };
    let list = |routers: &[String]| format!("[{}]", routers.join(", "));
    let backends = ["hello", "v1", "v2"].map(|name| Backend::http().answers(name).start());
    let mut weir = Weir::new().set("outgoing", &list(&[router("mesh", &[one, two])]));
    for (name, backend) in ["hello", "v1", "v2"].iter().zip(&backends) {
        weir = weir.service(name, &[backend.addr()]);
    }
    let weir = weir.start();
    let url = "http://web/any"; // v1 by the rules of the mesh, v2 by those of the edge
    let mut kept = Client::to(two);
    kept.get(url).expect_body("v1");
    let loads = [one, two].map(|at| {
        let load = Load::start(1, Reuse::Never, &Request::get(url), move || TcpStream::connect(at));
        load.answered(10);
        load
    });
    for (routers, bodies) in [
        // Split, and the new one comes first.
        (vec![router("edge", &[two]), router("mesh", &[one])], ["v1", "v2"]),
        // One moves away, and the other takes its place.
        (vec![router("edge", &[three]), router("mesh", &[one, two])], ["v1", "v1"]),
        // Each gets the other's.
        (vec![router("edge", &[one]), router("mesh", &[two, three])], ["v2", "v1"]),
        (vec![router("mesh", &[one, three]), router("edge", &[two])], ["v1", "v2"]),
    ] {
        change(&weir, "outgoing", Some(&list(&routers)));
        assert_eq!(waits(&weir), [""; 0], "{routers:?}");
        for (at, body) in [one, two].into_iter().zip(bodies) {
            get(at, url).expect_body(body);
        }
        kept.get(url).expect_body("v1");
        for load in &loads {
            load.answered(10);
        }
    }
    for load in loads {
        load.stop().expect_no_failure();
    }
    // Merged: nobody's rules are left for those that the other one accepted.
    let mut left = Client::to(two);
    left.get(url).expect_body("v2");
    change(&weir, "outgoing", Some(&list(&[router("mesh", &[one, two])])));
    assert_eq!(waits(&weir), [""; 0]);
    get(two, url).expect_body("v1");
    let is_listening = |router: &str| {
        addresses_said(&weir).into_iter().any(|labels| labels.contains(&format!("{router:?}")))
    };
    assert!(is_listening("mesh") && !is_listening("edge"), "{:?}", addresses_said(&weir));
    // One with its label is another one, and each series is there once.
    change(&weir, "outgoing", Some(&list(&[router("mesh", &[one]), router("edge", &[two])])));
    get(two, url).expect_body("v2");
    let mut seen = std::collections::HashSet::new();
    for sample in weir.metrics() {
        assert!(seen.insert(format!("{} {:?}", sample.name, sample.labels)), "{sample:?}");
    }
    left.get(url).expect_status(503);
    // The other one takes the place of one that is gone, by itself or with a new one at its own.
    for (routers, body) in
        [(vec![router("mesh", &[two])], "v1"), (vec![router("new", &[two]), router("mesh", &[free()])], "v2")]
    {
        let mut left = Client::to(two);
        let before = left.get(url).text();
        change(&weir, "outgoing", Some(&list(&routers)));
        assert_eq!(waits(&weir), [""; 0], "{routers:?}");
        get(two, url).expect_body(body);
        kept.get(url).expect_body("v1");
        match before.as_str() {
            "v2" => left.get(url).expect_status(503),
            body => left.get(url).expect_body(body),
        };
    }
}
