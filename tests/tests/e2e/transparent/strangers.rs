//! Those who must not get in at a pod, and those whom a pod must not speak to (`identity.wire`); and what they cost others.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use e2e::raw::TcpServer;
use e2e::spiffe::{self, Authority, Own, Valid, admitted, alert, calls, id, of_an_authority};
use e2e::{Backend, Client, Net, Pod, Weir, eventually, folder};
use rcgen::ExtendedKeyUsagePurpose;
use tokio_rustls::rustls::AlertDescription;

use super::{TARGET, V4, address};

/// The first source port of other weirs.
const PORT: u16 = 61000;

/// A node: `web` and `db` have identities, `old` and `far` have none. Service `hello` has its endpoint in `db`, and `row0` to
/// `row19` have theirs in `far`, which is taken for `shop/far`.
struct Node {
    // Dropped in this order: weir first, the network last.
    weir: Weir,
    web: Pod,
    old: Pod,
    db: Pod,
    far: Pod,
    authority: Authority,
    net: Net,
    _folder: tempfile::TempDir,
}

impl Node {
    /// With this beside the tables of `identity.wire`.
    fn new(more: &str) -> Option<Self> {
        if !e2e::net::is_root() {
            return None;
        }
        let (folder, mut net, authority) = (tempfile::tempdir().unwrap(), Net::new(), Authority::new("root"));
        let (web, old, db, far) = (net.pod("web"), net.pod("old"), net.pod("db"), net.pod("far"));
        let peer = |name: &str, pod: &Pod| {
            format!("{{ name: {name}, addresses: [{}, \"{}\"] }}", pod.v4(), pod.v6())
        };
        let section = authority.section(folder.path(), &["shop/web", "shop/db"]);
        let wire = format!(
            "  wire: {{ {more} pods: [{{ netns: web, name: shop/web }}, {{ netns: late, name: shop/web }}, \
             {{ netns: db, name: shop/db }}], peers: [{}, {}] }}\n",
            peer("shop/db", &db),
            peer("shop/far", &far),
        );
        let hello = folder::service("hello", &["10.96.0.10"]).port("http", 80, TARGET).endpoints(&[db.v4()]);
        let plain = folder::service("plain", &["10.96.0.11"]).port("http", 80, TARGET).endpoints(&[old.v4()]);
        let mut builder = Weir::new().in_pods(&net).kubernetes(&hello).kubernetes(&plain);
        for row in 0..20_u16 {
            let service = folder::service(&format!("row{row}"), &[&vip(row)]).port("http", 80, port(row));
            builder = builder.kubernetes(&service.endpoints(&[far.v4()]));
        }
        let weir = builder
            .set("identity", &(section + &wire))
            // On a busy machine a first message may be late, and a handshake takes its time.
            .set("limits", "{ sniff: 3s, connect: 20s }")
            .start();
        eventually("weir in every pod", || {
            weir.metric("weir_interception_netns", &[("state", "listening")]) == 4.0
        });
        eventually("two pods that take TLS", || {
            weir.log().matches("taking connections of other weirs in a pod").count() == 2
        });
        Some(Self { weir, web, old, db, far, authority, net, _folder: folder })
    }

    fn failed(&self, direction: &str, reason: &str) -> f64 {
        let labels = [("direction", direction), ("reason", reason)];
        self.weir.metric("weir_identity_handshake_failures_total", &labels)
    }

    /// Calls `db` as another weir would, from a pod that has none.
    fn call(&self, own: Option<&Own>) -> std::io::Result<u8> {
        admitted(&mut calls(self.steered(), own))
    }

    /// A connection of `old` to `db` from a port of other weirs.
    fn steered(&self) -> TcpStream {
        let ports = (0..200).map(|_| fastrand::u16(PORT..));
        let mut tried = ports.filter_map(|port| self.old.connect_from(port, self.db.at(TARGET)).ok());
        tried.next().expect("a free port")
    }
}

/// The address of service `row…`, and its endpoint's port.
fn vip(row: u16) -> String {
    format!("10.96.0.{}", 20 + row)
}

fn port(row: u16) -> u16 {
    7000 + row
}

/// Certificates of `uri` that nobody is to believe, with what their owner is told, and how it is counted.
fn bad(root: &Authority, uri: &str) -> Vec<(&'static str, Own, AlertDescription, &'static str)> {
    use AlertDescription::{
        AccessDenied, CertificateExpired, CertificateUnknown, DecryptError, UnknownCA, UnsupportedCertificate,
    };
    let (foreign, namesake) = (Authority::new("foreign"), Authority::new("root"));
    let own = |uris: &[&str]| root.signs(uris, Valid::Now, |_| {});
    let for_code = root.signs(&[uri], Valid::Now, |it| {
        it.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    });
    vec![
        ("expired", root.signs(&[uri], Valid::Before, |_| {}), CertificateExpired, "expired"),
        ("not yet valid", root.signs(&[uri], Valid::Later, |_| {}), CertificateExpired, "not_yet_valid"),
        ("an unknown authority's", foreign.signs(&[uri], Valid::Now, |_| {}), UnknownCA, "unknown_authority"),
        (
            "another root's of the same name",
            namesake.signs(&[uri], Valid::Now, |_| {}),
            DecryptError,
            "unknown_authority",
        ),
        (
            "another trust domain's",
            own(&["spiffe://other.example/ns/shop/sa/far"]),
            AccessDenied,
            "wrong_name",
        ),
        ("of no workload", own(&["spiffe://demo.example/node/1"]), AccessDenied, "wrong_name"),
        ("without an ID", own(&[]), AccessDenied, "wrong_name"),
        ("of two IDs", own(&[uri, uri]), AccessDenied, "wrong_name"),
        (
            "an authority's own",
            root.signs(&[uri], Valid::Now, of_an_authority),
            CertificateUnknown,
            "bad_certificate",
        ),
        ("for signing code", for_code, UnsupportedCertificate, "bad_certificate"),
    ]
}

#[test]
fn a_pod_lets_in_whoever_has_a_certificate_and_tells_the_others_why_not() {
    let Some(node) = Node::new("") else { return };
    let _backend = Backend::http().answers("hello").inside(&node.db).on(node.db.at(TARGET)).start();
    let mut all = bad(&node.authority, &id("shop/far"));
    let servers = node.authority.signs(&[&id("shop/far")], Valid::Now, |it| {
        it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    all.push(("for servers only", servers, AlertDescription::UnsupportedCertificate, "bad_certificate"));
    for (what, own, expected, reason) in all {
        let before = node.failed("incoming", reason);
        let error = node.call(Some(&own)).expect_err(what);
        assert_eq!(alert(&error), Some(expected), "{what}: {error}");
        eventually(what, || node.failed("incoming", reason) == before + 1.0);
    }
    let error = node.call(None).expect_err("without a certificate");
    assert_eq!(alert(&error), Some(AlertDescription::CertificateRequired), "{error}");
    eventually("none", || node.failed("incoming", "no_certificate") == 1.0);
    assert_eq!(node.weir.metric("weir_identity_connections_total", &[("direction", "incoming")]), 0.0);
    // Any service account of the trust domain gets in, and is named.
    let mut stream = calls(node.steered(), Some(&node.authority.own("else/where")));
    assert_eq!(admitted(&mut stream).unwrap(), 0);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: db\r\n\r\n").unwrap();
    let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
    while !answer.ends_with(b"hello") {
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..n]);
    }
    let state = node.weir.state();
    assert_eq!(state["identity"]["wire"]["incoming"]["by"][id("else/where")], 1, "{}", state["identity"]);
}

/// What became of each connection that an endpoint has accepted.
type Ends = Arc<Mutex<Vec<std::io::Result<String>>>>;

/// An endpoint in `far` that shakes hands as a weir with this certificate, and says `byte` behind it. It answers one request.
fn endpoint(
    node: &Node,
    row: u16,
    own: &Own,
    protocol: Option<&'static [u8]>,
    byte: u8,
) -> (TcpServer, Ends) {
    let (ends, own) = (Ends::default(), own.clone());
    let told = ends.clone();
    let server = TcpServer::on(node.far.listen(node.far.at(port(row))).unwrap(), move |stream| {
        let mut stream = own.serves(stream, protocol);
        let mut head = vec![0; 4096];
        let said =
            stream.write_all(&[byte]).and_then(|()| stream.flush()).and_then(|()| stream.read(&mut head));
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        told.lock().unwrap().push(said.map(|n| String::from_utf8_lossy(&head[..n]).into_owned()));
    });
    (server, ends)
}

fn status(node: &Node, row: u16) -> (u16, String) {
    let to = format!("{}:80", vip(row));
    let stream = node.web.connect(address(&to)).unwrap_or_else(|error| panic!("{to}: {error}"));
    let answer = Client::over(stream).get("/");
    (answer.status, answer.text())
}

#[test]
fn a_pod_says_nothing_to_an_endpoint_that_does_not_prove_to_be_the_one_it_means() {
    let Some(node) = Node::new("") else { return };
    let good = node.authority.own("shop/far");
    let mut row = 0;
    let mut serve = |own: &Own, protocol, byte| {
        row += 1;
        (row, endpoint(&node, row, own, protocol, byte))
    };
    let weir = Some(spiffe::PROTOCOL);
    let (row, (_server, ends)) = serve(&good, weir, 0);
    assert_eq!(status(&node, row), (200, "ok".to_owned()), "{}", node.weir.log());
    assert!(
        ends.lock().unwrap().iter().all(|it| it.as_ref().is_ok_and(|said| said.starts_with("GET / HTTP")))
    );
    let mut all = bad(&node.authority, &id("shop/far"));
    let clients = node.authority.signs(&[&id("shop/far")], Valid::Now, |it| {
        it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    all.push(("for clients only", clients, AlertDescription::UnsupportedCertificate, "bad_certificate"));
    let other = node.authority.own("shop/db");
    all.push(("another service account's", other, AlertDescription::AccessDenied, "wrong_name"));
    for (what, own, expected, reason) in all {
        let before = node.failed("outgoing", reason);
        let (row, (_server, ends)) = serve(&own, weir, 0);
        let (status, text) = status(&node, row);
        assert_eq!(status, 502, "{what}: {text}");
        assert!(text.contains("which identity.wire.peers says to be shop/far"), "{what}: {text}");
        assert!(node.failed("outgoing", reason) > before, "{what}: {text}");
        eventually("the end", || !ends.lock().unwrap().is_empty());
        for end in &*ends.lock().unwrap() {
            let error = end.as_ref().expect_err(what);
            assert_eq!(alert(error), Some(expected), "{what}: {error}");
        }
    }
    // The right certificate, and yet no weir: the application itself has it, say, or a weir of another version.
    for (what, protocol, byte, reason) in [
        ("no protocol", None, 0, "protocol"),
        ("another protocol", Some(&b"h2"[..]), 0, "rejected"),
        ("another byte", weir, 7, "protocol"),
    ] {
        let before = node.failed("outgoing", reason);
        let (row, (_server, ends)) = serve(&good, protocol, byte);
        assert_eq!(status(&node, row).0, 502, "{what}");
        assert!(node.failed("outgoing", reason) > before, "{what}");
        eventually("the end", || !ends.lock().unwrap().is_empty());
        let said = |end: &std::io::Result<String>| end.as_ref().is_ok_and(|said| said.contains("GET"));
        assert!(!ends.lock().unwrap().iter().any(said), "{what}");
    }
    let plain = [("direction", "outgoing"), ("reason", "no_identity")];
    assert_eq!(node.weir.metric("weir_identity_plain_total", &plain), 0.0);
}

#[test]
fn who_proves_nothing_is_limited_and_costs_others_no_handshake() {
    let Some(node) = Node::new("handshakes: 5,") else { return };
    let _backend = Backend::http().answers("hello").inside(&node.db).on(node.db.at(TARGET)).start();
    // One at once and one more each second: the others wait for a second each, and are reset.
    thread::scope(|scope| {
        let calls: Vec<_> =
            (0..30).map(|_| scope.spawn(|| node.call(None).expect_err("it has no certificate"))).collect();
        for _ in 0..5 {
            let stream = node.web.connect(address(V4)).unwrap();
            assert_eq!(Client::over(stream).get("/").status, 200, "{}", node.weir.log());
        }
        let errors: Vec<_> = calls.into_iter().map(|it| it.join().unwrap()).collect();
        let told = errors.iter().filter(|it| alert(it).is_some()).count();
        assert!((1..errors.len()).contains(&told), "{errors:?}");
    });
    assert!(node.failed("incoming", "limited") >= 1.0);
    // And it is not locked out.
    let own = node.authority.own("else/where");
    eventually("its turn", || node.call(Some(&own)).is_ok_and(|byte| byte == 0));
}

#[test]
fn in_strict_mode_nothing_goes_to_a_service_in_plain_but_what_is_named() {
    let Some(node) = Node::new("mode: strict,") else { return };
    let _hello = Backend::http().answers("hello").inside(&node.db).on(node.db.at(TARGET)).start();
    let plain = Backend::http().answers("plain").inside(&node.old).on(node.old.at(TARGET)).start();
    let get = |pod: &Pod, to: &str| {
        let answer = Client::over(pod.connect(address(to)).unwrap()).get("/");
        (answer.status, answer.text())
    };
    assert_eq!(get(&node.web, V4), (200, "hello".to_owned()));
    // Nobody knows of TLS there; or the client has no certificate.
    for (pod, to, why) in [
        (&node.web, "10.96.0.11:80", "identity.wire.peers does not name this address"),
        (&node.old, V4, "the client's pod has no certificate"),
    ] {
        let (status, text) = get(pod, to);
        assert!(status == 502 && text.contains(why), "{status} {text}");
    }
    assert_eq!(plain.connections(), 0);
    for reason in ["unknown_peer", "no_identity"] {
        assert!(node.weir.metric("weir_identity_refused_total", &[("reason", reason)]) >= 1.0, "{reason}");
    }
    let file = node.weir.folder().path().join("weir.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let named = text.replace("mode: strict,", &format!("mode: strict, plain: [{}/32],", node.old.v4()));
    node.weir.folder().config(&named);
    eventually("it is named", || get(&node.web, "10.96.0.11:80") == (200, "plain".to_owned()));
}

#[test]
fn a_pods_first_connection_is_encrypted_already() {
    let Some(mut node) = Node::new("") else { return };
    let _hello = Backend::http().answers("hello").inside(&node.db).on(node.db.at(TARGET)).start();
    let mut late = node.net.pod("late");
    for _ in 0..5 {
        // What is not diverted yet goes nowhere.
        eventually("the first connection", || {
            late.connect(address(V4)).is_ok_and(|stream| Client::over(stream).get("/").status == 200)
        });
        node.net.anew(&mut late);
    }
    let plain = [("direction", "outgoing"), ("reason", "no_identity")];
    assert_eq!(node.weir.metric("weir_identity_plain_total", &plain), 0.0);
    assert!(node.weir.metric("weir_identity_connections_total", &[("direction", "outgoing")]) >= 5.0);
}

#[test]
fn a_pod_that_dials_weirs_own_listener_finds_nobody_and_makes_no_loop() {
    let Some(node) = Node::new("") else { return };
    let mut reached = 0.0;
    for port in 4136..=4139 {
        let at = SocketAddr::new(IpAddr::from([127, 95, 255, 254]), port);
        let Ok(mut stream) = node.db.connect(at) else { continue };
        reached += 1.0;
        stream.set_read_timeout(Some(e2e::time::PATIENCE)).unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
        let ended = stream.read(&mut [0; 1]);
        assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    }
    assert!(reached >= 1.0, "it listens there");
    // To weir's programs it is an address that stands for nothing. Else it would be closed before anything is connected to.
    let incoming = node.weir.metric("weir_listener_connections_total", &[("listener", "incoming")]);
    assert!(incoming <= reached, "{incoming} of {reached}");
    let passed = ["not_tls", "other_tls", "silent"].map(|why| {
        node.weir.metric("weir_identity_plain_total", &[("direction", "incoming"), ("reason", why)])
    });
    assert_eq!(passed, [0.0; 3]);
}
