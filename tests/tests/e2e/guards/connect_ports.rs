//! `outgoing.connectPorts`: a tunnel to a port of a destination that nobody wrote down.

use e2e::client::Closed;
use e2e::net::is_root;
use e2e::raw::TcpServer;
use e2e::{Dns, Net, Pod, Request, Said, Weir};

/// A pod that DNS calls `far.test`, weir beside it, and servers of the pod at 443, 8443 and 25.
struct Scene {
    weir: Weir,
    pod: Pod,
    servers: Vec<TcpServer>,
    _dns: Dns,
    _net: Net,
}

fn scene(outgoing: &str, dtab: impl Fn(&Pod) -> String) -> Option<Scene> {
    if !is_root() {
        return None;
    }
    let mut net = Net::new();
    let pod = net.pod("far");
    let servers = [443, 8443, 25].map(|port| TcpServer::echo(pod.listen(pod.at(port)).unwrap()));
    let dns = Dns::start(&net.weir_place(), [127, 0, 0, 1].into());
    dns.says("far.test", Said::Addresses(vec![pod.v4()], 60));
    let weir = Weir::new()
        .beside(&net)
        .set("names", &dns.setting())
        .set("outgoing", outgoing)
        .set("dtab", &format!("\"{}\"", dtab(&pod)))
        .start();
    Some(Scene { weir, pod, servers: servers.into(), _dns: dns, _net: net })
}

/// Checks that a CONNECT becomes a tunnel that carries bytes, or that it is refused and the answer says why.
fn check(weir: &Weir, request: &Request, opens: bool) {
    let mut client = weir.client();
    client.start(request);
    if opens {
        assert_eq!(client.head().status(), Some(200), "{request:?}");
        client.send("ping").expect("ping").half_close();
        assert_eq!(client.closed(), Closed::End);
        return;
    }
    let answer = client.response();
    answer.expect_status(403);
    assert!(answer.l5d_err().contains("outgoing.connectPorts"), "{request:?}: {:?}", answer.l5d_err());
}

#[test]
fn a_destination_outside_the_catalog_has_tunnels_only_to_the_ports_that_are_listed() {
    for (ports, open) in [
        ("", &[443][..]),
        (", connectPorts: \"443,8000-9000\"", &[443, 8443]),
        (", connectPorts: 25", &[25]),
        (", connectPorts: none", &[]),
        (", connectPorts: 1-65535", &[443, 8443, 25]),
    ] {
        let outgoing = format!("{{ listen: 127.0.0.1:0{ports} }}");
        let Some(Scene { weir, pod, servers, .. }) = &scene(&outgoing, |_| String::new()) else { return };
        let refused = [443, 8443, 25].into_iter().filter(|port| !open.contains(port)).count();
        for port in [443, 8443, 25] {
            check(weir, &Request::new("CONNECT", &pod.at(port).to_string()), open.contains(&port));
        }
        assert_eq!(servers.iter().map(TcpServer::accepted).sum::<usize>(), open.len());
        assert_eq!(weir.faults("connect_port"), refused as f64);
    }
}

#[test]
fn the_port_counts_that_is_connected_to_and_not_the_one_that_is_asked_for() {
    let Some(Scene { weir, pod, servers, .. }) = &scene("{ listen: 127.0.0.1:0 }", |_| String::new()) else {
        return;
    };
    for (host, entries) in [
        ("x:443", format!("/svc => /$/inet/{}/25", pod.v4())),
        ("x:443", format!("/svc => /$/weir.dns/{}", pod.at(8443))),
        (&*pod.at(443).to_string(), format!("/svc => /$/io.buoyant.rinet/25/{}", pod.v4())),
    ] {
        check(weir, &Request::new("CONNECT", host).with("l5d-dtab", &entries), false);
    }
    assert_eq!(servers.iter().map(TcpServer::accepted).sum::<usize>(), 0);
}

#[test]
fn what_an_operator_wrote_down_has_all_its_ports() {
    let dtab =
        |pod: &Pod| format!("/svc/mail => /$/inet/{}/25 ; /svc/named => /$/inet/far.test/25", pod.v4());
    let Some(Scene { weir, .. }) = &scene("{ listen: 127.0.0.1:0 }", dtab) else { return };
    for name in ["mail:80", "named:80"] {
        check(weir, &Request::new("CONNECT", name), true);
    }
    // The same destination, which nobody wrote down by this name.
    check(weir, &Request::new("CONNECT", "far.test:25"), false);
}
