//! Routers with several addresses.

use e2e::Load;
use e2e::load::Reuse;

use super::*;

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
