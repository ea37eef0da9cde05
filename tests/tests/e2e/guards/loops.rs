//! Tunnels in tunnels, which lead from weir to weir and back.

use std::net::SocketAddr;

use e2e::net::is_root;
use e2e::{Backend, Client, Net, Pod, Request, Weir};

/// A weir on a node, one in a pod, and a server in another pod; the pods lead to the node.
struct Scene {
    node: Weir,
    other: Weir,
    server: Pod,
    _backend: Backend,
    /// Where the weirs listen, IPv4 and IPv6.
    addresses: [[SocketAddr; 2]; 2],
    _net: Net,
}

fn scene(sysctl: Option<&str>) -> Option<Scene> {
    is_root().then(|| {
        let mut net = Net::new();
        let (pod, server) = (net.pod("weir"), net.pod("one"));
        if let Some(script) = sysctl {
            sh(&net.node(), script);
            sh(&pod, script);
        }
        let backend = Backend::http().answers("one").inside(&server).on(server.at(80)).start();
        let everywhere = "{ listen: \"[::]:0\" }";
        let node = Weir::new()
            .beside(&net)
            .set("outgoing", everywhere)
            .set_in("outgoing", "connectPorts", "1-65535")
            .start();
        let other = Weir::new()
            .inside(&pod)
            .set("outgoing", everywhere)
            .set_in("outgoing", "connectPorts", "1-65535")
            .start();
        let at = |ip, weir: &Weir| SocketAddr::new(ip, weir.outgoing().port());
        let addresses = [
            [at(net.node().v4(), &node), at(pod.v4(), &other)],
            [at(net.node().v6(), &node), at(pod.v6(), &other)],
        ];
        Scene { node, other, server, _backend: backend, addresses, _net: net }
    })
}

/// Runs a script in a pod.
fn sh(pod: &Pod, script: &str) {
    assert!(pod.command("sh").args(["-c", script]).status().unwrap().success(), "{script}");
}

fn connect(client: &mut Client, to: SocketAddr) -> e2e::Response {
    client.ask(&Request::new("CONNECT", &to.to_string()).with("Host", &to.to_string()))
}

impl Scene {
    /// Goes from weir to weir and back until it is refused, and says after how many. The tunnels stay.
    fn circle(&self, [first, second]: [SocketAddr; 2]) -> (usize, Client) {
        let mut client = Client::over(self.server.connect(first).unwrap());
        for weirs in 1..=100 {
            let answer = connect(&mut client, if weirs % 2 == 1 { second } else { first });
            if answer.status != 200 {
                answer.expect_status(508);
                assert!(answer.l5d_err().contains("circle"), "{}", answer.l5d_err());
                return (weirs, client);
            }
        }
        panic!("nothing ends it");
    }
}

#[test]
fn a_connect_that_runs_from_weir_to_weir_and_back_ends_by_a_count() {
    // Also where SYN cookies answer all clients, which any of them can bring about by a flood.
    for sysctl in [None, Some("echo 2 > /proc/sys/net/ipv4/tcp_syncookies")] {
        let Some(scene) = scene(sysctl) else { return };
        for ips in scene.addresses {
            // A few are no circle.
            let mut client = Client::over(scene.server.connect(ips[0]).unwrap());
            for next in [ips[1], ips[0], ips[1]] {
                connect(&mut client, next).expect_status(200);
            }
            client.get(&format!("http://{}/", scene.server.at(80))).expect_body("one");
            let (weirs, _) = scene.circle(ips);
            assert!((10..=22).contains(&weirs), "{weirs}");
        }
        assert!(scene.node.faults("loop") + scene.other.faults("loop") >= 2.0);
    }
}

#[test]
fn clients_may_begin_with_any_usual_hop_limit_and_none_is_refused_for_anothers() {
    let Some(scene) = scene(None) else { return };
    let _open: Vec<_> = (0..3).map(|_| scene.circle(scene.addresses[0])).collect();
    let target = scene.server.at(80);
    for (hop_limit, status) in [(32, 200), (64, 200), (128, 200), (255, 200), (210, 508), (64, 200)] {
        sh(
            &scene.server,
            &format!(
                "for it in /proc/sys/net/ipv4/ip_default_ttl /proc/sys/net/ipv6/conf/*/hop_limit; do \
                 echo {hop_limit} > $it; done"
            ),
        );
        for [at, _] in scene.addresses {
            let mut client = Client::over(scene.server.connect(at).unwrap());
            let answer = connect(&mut client, target);
            assert_eq!(answer.status, status, "{hop_limit} {at}");
            if status == 200 {
                client.get("/").expect_body("one");
            }
        }
    }
}
