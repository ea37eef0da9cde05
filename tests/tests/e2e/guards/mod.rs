//! Where weir will not connect, in every spelling, and whom it does not serve.

mod connect_ports; // Ports of tunnels to what nobody wrote down.
mod contexts;
mod destinations;
mod local;
mod loops;
mod written;

use std::net::{IpAddr, SocketAddr};

use e2e::client::Closed;
use e2e::raw::TcpServer;
use e2e::{Backend, Request, Weir, eventually, folder, raw};

/// Spellings of addresses that lead back to this node or to its cloud's metadata. The strict ones are addresses by
/// RFC 3986, and must be refused as such; the others a resolver may or may not understand, but must not connect to.
const STRICT: &[&str] = &[
    "127.0.0.1",
    "127.8.9.10",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "0.0.0.0",
    "[::]",
    "[::ffff:0.0.0.0]",
    "169.254.169.254",
    "[::ffff:169.254.169.254]",
    "169.254.1.1",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "[fd00:ec2::23]",
    "[fd20:ce::254]",
    "168.63.129.16",
    "[::ffff:168.63.129.16]",
    "100.100.100.200",
    "192.0.0.192",
    "[64:ff9b::192.0.0.192]",
    "224.0.0.1",
    "[ff02::1]",
    "255.255.255.255",
];
const LOOSE: &[&str] = &[
    "localhost",
    "LOCALHOST.",
    "foo.localhost",
    "localhost.localdomain",
    "ip6-localhost",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "017700000001",
    "0177.0.0.1",
    "127.1",
    "127.0.1",
    "0",
    "127.0.0.1.",
    "%31%32%37.0.0.1",
    "[fe80::1%25lo]",
    "[::1%25lo]",
    "metadata.google.internal",
];

/// A server on every loopback address, and its port.
fn trap() -> (TcpServer, TcpServer, u16) {
    let four = raw::listen("0.0.0.0:0".parse().unwrap()).unwrap();
    let port = four.local_addr().unwrap().port();
    let six = raw::listen(SocketAddr::new("::".parse().unwrap(), port)).unwrap();
    (TcpServer::greets(four, "caught"), TcpServer::greets(six, "caught"), port)
}

#[test]
fn no_spelling_of_this_nodes_addresses_is_connected_to() {
    let (four, six, port) = trap();
    let weir = Weir::new().start();
    let mut wrong = Vec::new();
    let hosts =
        STRICT.iter().map(|h| (*h, &[403][..])).chain(LOOSE.iter().map(|h| (*h, &[400, 403, 502][..])));
    for (host, allowed) in hosts {
        for request in [
            Request::get(&format!("http://{host}:{port}/")),
            Request::get("/").with("Host", &format!("{host}:{port}")),
            Request::new("CONNECT", &format!("{host}:{port}")),
        ] {
            let answer = weir.client().start(&request).try_response();
            let status = answer.as_ref().map_or(0, |a| a.status);
            if !allowed.contains(&status) {
                wrong.push(format!("{} {host}: {answer:?}", request.method()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!((four.accepted(), six.accepted()), (0, 0));
}

#[test]
fn this_nodes_own_addresses_are_refused() {
    let (four, six, port) = trap();
    let weir = Weir::new().start();
    for address in own_addresses() {
        let host = SocketAddr::new(address, port);
        weir.get(&format!("http://{host}/")).expect_status(403);
    }
    assert_eq!((four.accepted(), six.accepted()), (0, 0));
}

#[test]
fn weirs_own_listeners_are_refused_also_when_written_down() {
    let weir = Weir::new().file("self", "").file("admin", "").start();
    for listener in [weir.outgoing(), weir.admin(), weir.probes()] {
        weir.get(&format!("http://{listener}/")).expect_status(403);
        weir.ask(&Request::new("CONNECT", &listener.to_string())).expect_status(403);
    }
    weir.folder().service("self", &[weir.outgoing()]);
    weir.folder().service("admin", &[weir.admin()]);
    eventually("the refusal of itself", || matches!(weir.get("http://self/").status, 403 | 508));
    eventually("the refusal of its admin listener", || weir.get("http://admin/ready").status == 403);
}

#[test]
fn a_refusal_says_what_was_refused_and_is_counted() {
    let weir = Weir::new().start();
    let before = weir.faults("refused");
    let answer = weir.get("http://169.254.169.254/latest/meta-data/");
    answer.expect_status(403);
    assert!(answer.l5d_err().contains("169.254.169.254"), "{:?}", answer.l5d_err());
    assert_eq!(weir.faults("refused") - before, 1.0);
}

#[test]
fn endpoints_written_in_files_are_exempt_in_both_formats() {
    let backend = Backend::http().start();
    let kubernetes = folder::service("written", &[]).port("http", 80, backend.addr().port());
    let kubernetes = kubernetes.endpoints(&[backend.addr().ip()]);
    let weir = Weir::new().kubernetes(&kubernetes).service("hello", &[backend.addr()]).start();
    weir.get("http://hello/").expect_body("ok");
    weir.get("http://written/").expect_body("ok");
    // The exemption is the endpoint's, not the address's.
    weir.get(&format!("http://{}/", backend.addr())).expect_status(403);
}

#[test]
fn strangers_are_closed_at_accept_and_counted() {
    let backend = Backend::http().start();
    let closed = "{ listen: 127.0.0.1:0, allow: [10.0.0.0/8] }";
    let weir =
        Weir::new().set("outgoing", closed).set("probes", closed).service("hello", &[backend.addr()]).start();
    for listener in [weir.outgoing(), weir.probes()] {
        let mut client = e2e::Client::to(listener);
        client.send(Request::get("http://hello/").bytes());
        let (bytes, closed) = client.rest();
        assert!(bytes.is_empty(), "{bytes:?} before {closed:?}");
    }
    assert_eq!(backend.connections(), 0);
    assert_eq!(weir.turned_away("outgoing", "not_allowed"), 1.0);
    assert_eq!(weir.turned_away("probes", "not_allowed"), 1.0);
}

#[test]
fn allow_takes_addresses_of_both_families() {
    let backend = Backend::http().start();
    for (listen, allow) in
        [("127.0.0.1:0", "127.0.0.0/8"), ("\"[::1]:0\"", "\"::1/128\""), ("\"[::]:0\"", "127.0.0.1/32")]
    {
        let outgoing = format!("{{ listen: {listen}, allow: [{allow}] }}");
        let weir = Weir::new().set("outgoing", &outgoing).service("hello", &[backend.addr()]).start();
        let mut to = weir.outgoing();
        if to.ip().is_unspecified() {
            to.set_ip([127, 0, 0, 1].into());
            // The other family is a stranger here.
            let mut six = e2e::Client::to(SocketAddr::new("::1".parse().unwrap(), to.port()));
            assert!(matches!(six.closed(), Closed::End | Closed::Reset));
        }
        e2e::Client::to(to).get("http://hello/").expect_body("ok");
    }
}

/// Addresses of this machine that are not loopback, as the kernel would choose them for a route outside.
fn own_addresses() -> Vec<IpAddr> {
    let towards = |bind: &str, to: &str| -> Option<IpAddr> {
        let socket = std::net::UdpSocket::bind(bind).ok()?;
        // Connecting a UDP socket sends nothing; it only looks up the route.
        socket.connect(to).ok()?;
        socket.local_addr().ok().map(|a| a.ip())
    };
    let found = [towards("0.0.0.0:0", "192.0.2.1:9"), towards("[::]:0", "[2001:db8::1]:9")];
    found.into_iter().flatten().filter(|a| !a.is_loopback() && !a.is_unspecified()).collect()
}
