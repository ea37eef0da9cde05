//! Between nodes: mutual TLS by the pods' service accounts, to the endpoints' own addresses and ports.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::in_pods::{says_who, who};
use super::{TARGET, V4, V6, address};
use e2e::net::capture::Capture;
use e2e::raw::TcpServer;
use e2e::{Backend, Client, Net, Pod, Weir, eventually, folder};

/// What must not be seen between the nodes.
const SECRET: &str = "the-word-that-nobody-may-read";

/// The first source port of other weirs.
const PORT: u16 = 61000;

/// Another port of the endpoint.
const OTHER: u16 = TARGET + 1;

/// Two nodes, each with its weir: `web` of the one is a client, `db` of the other an endpoint; both have an identity. `old` and
/// `other` have none.
struct Nodes {
    // Dropped in this order: the weirs first, the networks last.
    near: Weir,
    far: Option<Weir>,
    web: Pod,
    old: Pod,
    db: Pod,
    other: Pod,
    near_net: Net,
    far_net: Net,
    _folder: tempfile::TempDir,
}

/// The certificates of a new authority, in this folder; returns the section of the configuration, to be continued.
fn certificates(folder: &Path) -> String {
    let out = folder.to_str().unwrap();
    let exit =
        Weir::new().run(&["certs", "--trust-domain", "demo.example", "--out", out, "shop/web", "shop/db"]);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let section = exit.stdout.strip_prefix("# DEVELOPMENT certificates, not for production.\nidentity:");
    section.expect("a section").trim_end().to_owned()
}

/// What the section says of the wire: the node's pods, and the peers.
fn wire(pods: &[(&str, &str)], peers: &[(&str, [IpAddr; 2])]) -> String {
    let pods = pods.iter().map(|(netns, name)| format!("{{ netns: {netns}, name: {name} }}"));
    let peers =
        peers.iter().map(|(name, [v4, v6])| format!("{{ name: {name}, addresses: [{v4}, \"{v6}\"] }}"));
    let (pods, peers) = (pods.collect::<Vec<_>>().join(", "), peers.collect::<Vec<_>>().join(", "));
    format!("\n  wire: {{ pods: [{pods}], peers: [{peers}] }}\n")
}

impl Nodes {
    /// Both weirs have certificates of the same authority, and service `hello` has its endpoints in `db`.
    fn new() -> Option<Self> {
        Self::with("shop/db", |_, near| near.to_owned())
    }

    /// The first weir takes the endpoint for `peer`, and the second has the section that `far` makes of the first one's.
    fn with(peer: &str, far: impl FnOnce(&Path, &str) -> String) -> Option<Self> {
        if !e2e::net::is_root() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let certificates = certificates(&folder.path().join("certs"));
        let far_certificates = far(folder.path(), &certificates);
        let mut near_net = Net::new();
        let mut far_net = near_net.second();
        let (web, old) = (near_net.pod("web"), near_net.pod("old"));
        let (db, other) = (far_net.pod("db"), far_net.pod("other"));
        let hello = folder::service("hello", &["10.96.0.10"]).port("http", 80, TARGET).endpoints(&[db.v4()]);
        let hello6 =
            folder::service("hello6", &["fd00:96::10"]).port("http", 80, TARGET).endpoints(&[db.v6()]);
        let plain =
            folder::service("plain", &["10.96.0.11"]).port("http", 80, TARGET).endpoints(&[other.v4()]);
        let other_port =
            folder::service("other-port", &["10.96.0.12"]).port("http", 80, OTHER).endpoints(&[db.v4()]);
        let identity = certificates + &wire(&[("web", "shop/web")], &[(peer, [db.v4(), db.v6()])]);
        let near = Weir::new()
            .in_pods(&near_net)
            .kubernetes(&hello)
            .kubernetes(&hello6)
            .kubernetes(&plain)
            .kubernetes(&other_port)
            // On a busy machine a handshake takes its time.
            .set("limits", "{ connect: 20s }")
            .set("identity", &identity)
            .start();
        let identity = far_certificates + &wire(&[("db", "shop/db")], &[]);
        // On a busy machine a weir's first message may be late.
        let far =
            Weir::new().in_pods(&far_net).set("limits", "{ sniff: 3s }").set("identity", &identity).start();
        for weir in [&near, &far] {
            eventually("weir in every pod", || {
                weir.metric("weir_interception_netns", &[("state", "listening")]) == 2.0
            });
            eventually("an identity", || weir.state()["identity"]["wire"].is_object());
        }
        far.expect_log("taking connections of other weirs in a pod");
        near.expect_log("taking connections of other weirs in a pod");
        Some(Self { near, far: Some(far), web, old, db, other, near_net, far_net, _folder: folder })
    }

    fn far(&self) -> &Weir {
        self.far.as_ref().expect("it was not taken away")
    }

    /// Captures on both nodes.
    fn capture(&self) -> [Capture; 2] {
        [&self.near_net, &self.far_net].map(|net| Capture::of(&net.node()))
    }

    /// An HTTP server in this pod, whose answer is [`SECRET`].
    fn backend(pod: &Pod, ip: IpAddr) -> Backend {
        Backend::http().answers(SECRET).inside(pod).on(SocketAddr::new(ip, TARGET)).start()
    }

    /// Turns it off at the first weir, whose configuration of before is returned.
    fn off(&self) -> String {
        let file = self.near.folder().path().join("weir.yaml");
        let with = std::fs::read_to_string(&file).unwrap();
        let (before, rest) = with.split_once("\n  wire:").expect("the section");
        let rest: String = rest.split_inclusive('\n').skip(1).collect();
        self.near.folder().config(&format!("{before}\n{rest}"));
        eventually("it is off", || self.near.state()["identity"]["wire"].is_null());
        with
    }

    fn count(weir: &Weir, direction: &str) -> f64 {
        weir.metric("weir_identity_connections_total", &[("direction", direction)])
    }
}

fn get(pod: &Pod, to: &str) -> e2e::Response {
    Client::over(pod.connect(address(to)).unwrap_or_else(|e| panic!("no connection to {to}: {e}"))).get("/")
}

/// What the server greets with, `length` bytes.
fn greeting(mut stream: std::net::TcpStream, length: usize) -> String {
    stream.set_read_timeout(Some(e2e::time::PATIENCE)).unwrap();
    let mut said = vec![0; length];
    let read = stream.read_exact(&mut said);
    format!(
        "{}{}",
        String::from_utf8_lossy(&said),
        read.err().map(|it| format!(": {it}")).unwrap_or_default()
    )
}

#[test]
fn between_nodes_nothing_is_plain_and_requests_share_a_connection() {
    let Some(nodes) = Nodes::new() else { return };
    let captures = nodes.capture();
    for (to, ip) in [(V4, nodes.db.v4()), (V6, nodes.db.v6())] {
        let backend = Nodes::backend(&nodes.db, ip);
        let mut client = Client::over(nodes.web.connect(address(to)).unwrap());
        for _ in 0..5 {
            let answer = client.get("/");
            assert_eq!((answer.status, answer.text()), (200, SECRET.to_owned()), "{}", nodes.near.log());
        }
        assert_eq!(backend.connections(), 1, "{to}");
    }
    for weir in [(&nodes.near, "outgoing"), (nodes.far(), "incoming")] {
        assert_eq!(Nodes::count(weir.0, weir.1), 2.0, "{}", weir.1);
    }
    for (capture, ip) in captures.iter().flat_map(|it| [(it, nodes.db.v4()), (it, nodes.db.v6())]) {
        eventually("packets to the endpoint's own port", || capture.of_port(ip, TARGET) > 10);
        assert_eq!(capture.with(SECRET.as_bytes()) + capture.with(b"GET / HTTP"), 0);
    }
    // And the capture would have seen it.
    let _other = Nodes::backend(&nodes.other, nodes.other.v4());
    assert_eq!(get(&nodes.web, "10.96.0.11:80").text(), SECRET);
    for capture in &captures {
        eventually("what is plain", || capture.with(SECRET.as_bytes()) > 0);
    }
    let plain = [("direction", "outgoing"), ("reason", "unknown_peer")];
    assert_eq!(nodes.near.metric("weir_identity_plain_total", &plain), 1.0);
    let admin = nodes.near.admin().to_string();
    let status = Weir::new().beside(&nodes.near_net).run(&["status", "--admin", &admin]).stdout;
    let expected =
        "  pods that take TLS: 2\n  connections to other pods: 2 encrypted, 1 plain (unknown_peer)\n";
    assert!(status.contains(expected), "{status}");
}

#[test]
fn the_application_sees_the_callers_address_and_its_own_across_nodes() {
    let Some(nodes) = Nodes::new() else { return };
    for (to, ip, from) in [(V4, nodes.db.v4(), nodes.web.v4()), (V6, nodes.db.v6(), nodes.web.v6())] {
        let at = SocketAddr::new(ip, TARGET);
        let any: IpAddr = if ip.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        // At its own address, and at all of them.
        for listens in [at, SocketAddr::new(any, TARGET)] {
            let _server = says_who(&nodes.db, listens);
            for _ in 0..3 {
                let said = who(&nodes.web, to);
                let (caller, own) = said.split_once(" at ").unwrap_or_default();
                assert_eq!(caller, from.to_string(), "{said:?}\n{}", nodes.near.log());
                let own: SocketAddr = own.parse().unwrap();
                assert_eq!((own.ip().to_canonical(), own.port()), (ip, TARGET));
            }
        }
    }
    assert_eq!(Nodes::count(nodes.far(), "incoming"), 12.0);
}

#[test]
fn a_server_that_speaks_first_is_heard_across_nodes() {
    let Some(nodes) = Nodes::new() else { return };
    let captures = nodes.capture();
    let _server = TcpServer::greets(nodes.db.listen(nodes.db.at(TARGET)).unwrap(), SECRET);
    for _ in 0..3 {
        assert_eq!(
            greeting(nodes.web.connect(address(V4)).unwrap(), SECRET.len()),
            SECRET,
            "{}",
            nodes.near.log()
        );
    }
    assert_eq!(Nodes::count(nodes.far(), "incoming"), 3.0);
    assert!(captures.iter().all(|it| it.with(SECRET.as_bytes()) == 0));
}

#[test]
fn clients_without_weir_reach_the_pod_whatever_their_port_is() {
    let Some(nodes) = Nodes::new() else { return };
    let at = nodes.db.at(TARGET);
    let backend = Nodes::backend(&nodes.db, nodes.db.v4());
    // Directly, from a port of other weirs and from any other; each one once, as the last connection may still be closing.
    for port in [0, PORT - 1, PORT, 65535] {
        let stream = nodes.old.connect_from(port, at).unwrap();
        let answer = Client::over(stream).get("/");
        assert_eq!((answer.status, answer.text()), (200, SECRET.to_owned()), "from {port}");
    }
    drop(backend);
    let plain =
        |why| nodes.far().metric("weir_identity_plain_total", &[("direction", "incoming"), ("reason", why)]);
    assert_eq!(plain("not_tls"), 2.0);
    // The application sees who it is.
    let server = says_who(&nodes.db, at);
    let mut stream = nodes.old.connect_from(PORT + 1, at).unwrap();
    stream.write_all(&[0]).unwrap();
    let expected = format!("{} at {at}", nodes.old.v4());
    assert_eq!(greeting(stream, expected.len()), expected);
    drop(server);
    // A server that speaks first, and one that gets nothing at all.
    let server = TcpServer::greets(nodes.db.listen(at).unwrap(), "hello");
    assert_eq!(greeting(nodes.old.connect_from(PORT + 2, at).unwrap(), 5), "hello");
    drop(server);
    assert_eq!(plain("silent"), 1.0);
    // TLS of the application's own: the very bytes arrive.
    let hello = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00";
    let server = TcpServer::echo(nodes.db.listen(at).unwrap());
    let mut stream = nodes.old.connect_from(PORT + 3, at).unwrap();
    stream.set_read_timeout(Some(e2e::time::PATIENCE)).unwrap();
    stream.write_all(hello).unwrap();
    let mut echoed = [0; 10];
    stream.read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, hello);
    drop((stream, server));
    // Nobody listens: as it is refused elsewhere, here it is reset.
    let ended = nodes.old.connect_from(PORT + 4, at).and_then(|mut it| {
        it.set_read_timeout(Some(e2e::time::PATIENCE))?;
        it.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
        it.read(&mut [0])
    });
    assert!(ended.is_err(), "{ended:?}");
}

#[test]
fn a_pod_that_has_another_certificate_is_not_spoken_to_and_nothing_is_said_in_plain() {
    // Another authority's, for the very same service accounts; or the right one's for another service account than expected.
    let other: fn(&Path, &str) -> String = |folder, _| certificates(&folder.join("others"));
    let same: fn(&Path, &str) -> String = |_, near| near.to_owned();
    for (peer, far, why) in [("shop/db", other, "unknown_authority"), ("shop/web", same, "wrong_name")] {
        let Some(nodes) = Nodes::with(peer, far) else { return };
        let captures = nodes.capture();
        let backend = Nodes::backend(&nodes.db, nodes.db.v4());
        let answer = get(&nodes.web, V4);
        assert_eq!(answer.status, 502, "{why}: {answer:?}");
        let failed = [("direction", "outgoing"), ("reason", why)];
        assert!(
            nodes.near.metric("weir_identity_handshake_failures_total", &failed) >= 1.0,
            "{}",
            nodes.near.log()
        );
        nodes.near.expect_log("no TLS with this pod, which identity.wire.peers says to be");
        let rejected = [("direction", "incoming"), ("reason", "rejected")];
        eventually("the alert", || {
            nodes.far().metric("weir_identity_handshake_failures_total", &rejected) >= 1.0
        });
        assert_eq!(backend.connections(), 0);
        assert!(captures.iter().all(|it| it.with(b"GET / HTTP") == 0));
    }
}

#[test]
fn what_is_known_to_take_tls_is_never_spoken_to_in_plain() {
    let Some(mut nodes) = Nodes::new() else { return };
    let backend = Nodes::backend(&nodes.db, nodes.db.v4());
    assert_eq!(get(&nodes.web, V4).text(), SECRET);
    // Its weir is gone: the application gets the connection, and takes it for something else.
    nodes.far = None;
    let captures = nodes.capture();
    let answer = get(&nodes.web, V4);
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(captures.iter().all(|it| it.with(b"GET / HTTP") == 0));
    assert!(backend.connections() > 1, "it was asked");
}

#[test]
fn an_application_that_is_gone_is_another_attempt_and_no_broken_answer() {
    let Some(nodes) = Nodes::new() else { return };
    let answer = get(&nodes.web, V4);
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(answer.text().contains("does not accept connections"), "{answer:?}");
    eventually("unanswered", || nodes.far().metric("weir_identity_unanswered_total", &[]) >= 1.0);
    let _backend = Nodes::backend(&nodes.db, nodes.db.v4());
    eventually("an answer", || get(&nodes.web, V4).status == 200);
}

#[test]
fn turning_it_on_and_off_changes_the_next_request_and_breaks_none() {
    let Some(nodes) = Nodes::new() else { return };
    let backend = Nodes::backend(&nodes.db, nodes.db.v4());
    let mut client = Client::over(nodes.web.connect(address(V4)).unwrap());
    assert_eq!(client.get("/").status, 200);
    let with = nodes.off();
    let encrypted = Nodes::count(&nodes.near, "outgoing");
    eventually("a connection without it", || {
        assert_eq!(client.get("/").status, 200);
        backend.connections() > 1
    });
    assert_eq!(Nodes::count(&nodes.near, "outgoing"), encrypted);
    nodes.near.folder().config(&with);
    eventually("a connection with it", || {
        assert_eq!(client.get("/").status, 200);
        Nodes::count(&nodes.near, "outgoing") > encrypted
    });
}

#[test]
fn what_a_policy_allows_and_forbids_by_pod_and_port_is_the_same_with_it_and_without() {
    let Some(nodes) = Nodes::new() else { return };
    let _backends = [TARGET, OTHER]
        .map(|port| Backend::http().answers(SECRET).inside(&nodes.db).on(nodes.db.at(port)).start());
    // As a network plug-in would: on the endpoint's node, by the packets' source and the endpoint's own port.
    for (from, port) in [(&nodes.old, TARGET), (&nodes.web, OTHER)] {
        let (from, to) = (from.v4(), nodes.db.v4());
        nodes
            .far_net
            .node()
            .ip(&format!("rule add pref 10 from {from} to {to} ipproto tcp dport {port} prohibit\n"));
    }
    let allowed = || {
        [(&nodes.web, V4), (&nodes.web, "10.96.0.12:80"), (&nodes.old, V4), (&nodes.old, "10.96.0.12:80")]
            .map(|(pod, to)| get(pod, to).status == 200)
    };
    // What is forbidden is waited for in vain.
    let file = nodes.near.folder().path().join("weir.yaml");
    let patient = std::fs::read_to_string(&file).unwrap();
    assert!(patient.contains("connect: 20s"));
    nodes.near.folder().config(&patient.replace("connect: 20s", "connect: 1s, connectTotal: 1s"));
    let expected = [true, false, false, true];
    eventually("what the rules say", || allowed() == expected);
    let encrypted = Nodes::count(nodes.far(), "incoming");
    assert!(encrypted >= 1.0);
    nodes.off();
    eventually("the same", || allowed() == expected);
    assert_eq!(Nodes::count(nodes.far(), "incoming"), encrypted);
}
