//! The explicit proxy at the loopback addresses of pods, with weir's sockets there.

use std::net::{IpAddr, SocketAddr};

use super::explicit_in_pods::{asked_by, intruder, node, says_who, servers, with_one_endpoint};
use super::{Stage, TARGET, address, pods};
use e2e::net::place::Place;
use e2e::raw::TcpServer;
use e2e::{Client, Pod, Request, Response, Weir, eventually, folder};

const V4: &str = "127.0.0.1:4140";
const V6: &str = "[::1]:4140";

/// Waits until the explicit proxy listens at the loopback addresses of so many pods.
#[track_caller]
pub(super) fn until_served(stage: &mut Stage, pods: usize) {
    let weir = stage.weir();
    eventually("the explicit proxy in every pod", || {
        weir.metric("weir_explicit_netns", &[("state", "listening")]) == pods as f64
    });
}

/// The answer to a request for `hello` from `pod` to this loopback address.
fn ask(pod: &Pod, to: &str) -> Response {
    Client::over(pod.connect(address(to)).unwrap()).get("http://hello/")
}

#[test]
fn the_proxy_at_a_pods_loopback_address_serves_it_from_its_own_address() {
    let Some(mut stage) = Stage::in_pods() else { return };
    until_served(&mut stage, 4);
    let _servers = servers(&stage);
    for pod in [&stage.client, &stage.b] {
        for to in [V4, V6, "[::ffff:127.0.0.1]:4140"] {
            let mut client = Client::over(pod.connect(address(to)).unwrap());
            for _ in 0..3 {
                let answer = client.get("http://hello/");
                answer.expect_status(200);
                let who: IpAddr = answer.text().parse().unwrap();
                assert!(who == pod.v4() || who == pod.v6(), "{to}: {who} is not {}", pod.name());
            }
            let mut tunnel = Client::over(pod.connect(address(to)).unwrap());
            tunnel.ask(&Request::new("CONNECT", "hello:80")).expect_status(200);
            let who: IpAddr = tunnel.get("/").text().parse().unwrap();
            assert!(who == pod.v4() || who == pod.v6(), "{to}: {who} is not {}", pod.name());
        }
    }
}

#[test]
fn a_process_in_a_pods_namespace_that_is_in_no_pods_cgroup_is_closed_and_counted() {
    let Some(mut stage) = with_one_endpoint(|weir| weir) else { return };
    until_served(&mut stage, 4);
    let _server = says_who(&stage.a, stage.a.at(TARGET));
    let (pod, node) = (stage.client.clone(), stage.net.node());
    for to in [V4, V6] {
        // As `kubectl port-forward` dials.
        assert_eq!(asked_by(&intruder(&pod, &node), address(to)), "");
        let answer = asked_by(&Place::from(&pod), address(to));
        assert!(answer.ends_with(&pod.v4().to_string()), "{answer}");
    }
    let labels = [("listener", "outgoing"), ("reason", "not_its_pod")];
    assert_eq!(stage.weir().metric("weir_listener_closed_total", &labels), 2.0);
}

#[test]
fn a_pod_reaches_a_service_of_which_it_is_an_endpoint_explicitly() {
    let Some(mut stage) = with_one_endpoint(|weir| weir) else { return };
    until_served(&mut stage, 4);
    let _server = says_who(&stage.a, stage.a.at(TARGET));
    for to in [address(V4), address(V6), node(false), node(true)] {
        let answer = Client::over(stage.a.connect(to).unwrap()).get("http://hello/");
        assert_eq!((answer.status, answer.text()), (200, stage.a.v4().to_string()), "{to}");
    }
}

#[test]
fn what_is_the_pods_own_at_loopback_is_not_reached_through_weir() {
    let Some(mut stage) = Stage::in_pods() else { return };
    until_served(&mut stage, 4);
    let _server = says_who(&stage.client, address("127.0.0.1:8080"));
    for name in ["127.0.0.1:8080", "127.0.0.1:4140", "[::1]:4140", "169.254.169.254"] {
        let mut client = Client::over(stage.client.connect(address(V4)).unwrap());
        client.get(&format!("http://{name}/")).expect_status(403);
    }
}

#[test]
fn a_port_that_a_program_of_the_pod_has_is_left_to_it_and_shows_with_its_reason() {
    let Some(mut stage) = Stage::set() else { return };
    let holders = [("one", "127.0.0.1:4140"), ("all", "0.0.0.0:4140"), ("all6", "[::]:4140"), ("six", V6)];
    let held: Vec<_> = holders
        .into_iter()
        .map(|(name, at)| {
            let pod = stage.net.pod(name);
            let server = TcpServer::greets(pod.listen(address(at)).unwrap(), "its own");
            (pod, address(&at.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")), server)
        })
        .collect();
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&stage.hello());
    stage.start(builder);
    until_served(&mut stage, 4);
    for (pod, at, _) in &held {
        Client::over(pod.connect(*at).unwrap()).expect("its own");
    }
    assert_eq!(stage.weir().metric("weir_explicit_netns", &[("state", "left")]), 4.0);
    let admin = stage.weir().admin().to_string();
    let status = Weir::new().on_node(&stage.net).run(&["status", "--admin", &admin]).stdout;
    let line = "all6: no explicit proxy at 127.0.0.1:4140 (a program of the pod has the port)";
    assert!(status.contains(line), "{status}");
    // Diverted all the same, and served once the port is free.
    drop(held);
    until_served(&mut stage, 8);
}

#[test]
fn only_enrolled_pods_have_the_proxy_at_their_loopback_addresses() {
    let Some(mut stage) = Stage::set() else { return };
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&stage.hello());
    let mut builder = builder.set_in("transparent", "enrol", "pods").env("NODE_NAME", "n1");
    let mut made = Vec::new();
    for number in [1, 2] {
        let (pod, told) = pods::pod(&mut stage.net, number);
        let told = told.at(pod.v4()).at(pod.v6()).spec("nodeName: n1");
        builder = builder.pod(&if number == 2 { told.annotate("weir.dev/divert", "disabled") } else { told });
        made.push(pod);
    }
    stage.start(builder);
    until_served(&mut stage, 1);
    let _servers = servers(&stage);
    assert_eq!(ask(&made[0], V4).status, 200);
    assert!(made[1].connect(address(V4)).is_err(), "a pod that is not enrolled");
    // At the node's address it is served all the same, and from its own.
    let answer = Client::over(made[1].connect(node(false)).unwrap()).get("http://hello/");
    let who: IpAddr = answer.text().parse().unwrap();
    assert!(who == made[1].v4() || who == made[1].v6(), "{who}");
}

#[test]
fn a_weir_that_stops_gives_the_port_in_pods_back() {
    let Some(mut stage) = Stage::in_pods() else { return };
    until_served(&mut stage, 4);
    let at: SocketAddr = address(V4);
    assert!(stage.client.listen(at).is_err(), "weir has it");
    let mut weir = stage.take_weir();
    weir.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(weir.wait(std::time::Duration::from_secs(60)).success());
    drop(stage.client.listen(at).unwrap());
}

#[test]
fn a_router_that_listens_for_the_node_alone_is_not_in_pods() {
    let Some(mut stage) = Stage::set() else { return };
    let hello = folder::service("hello", &["10.96.0.10"]).port("http", 80, TARGET).endpoints(&[stage.a.v4()]);
    let outgoing = "[{ label: mesh, listen: \"[::]:4140\" }, { label: node, listen: 127.0.0.1:4150 }]";
    stage.start(Weir::new().in_pods(&stage.net).set("outgoing", outgoing).kubernetes(&hello));
    until_served(&mut stage, 4);
    let _server = says_who(&stage.a, stage.a.at(TARGET));
    assert_eq!(ask(&stage.client, V4).status, 200);
    assert!(stage.client.connect(address("127.0.0.1:4150")).is_err());
}

#[test]
fn a_pod_whose_ipv6_comes_later_has_the_proxy_at_both_loopback_addresses() {
    let Some(mut stage) = Stage::set() else { return };
    stage.client.sysctl("net/ipv6/conf/all/disable_ipv6", "1");
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&stage.hello());
    stage.start(builder);
    until_served(&mut stage, 4);
    let _servers = servers(&stage);
    assert_eq!(ask(&stage.client, V4).status, 200);
    stage.client.sysctl("net/ipv6/conf/all/disable_ipv6", "0");
    eventually("the proxy at [::1]", || stage.client.connect(address(V6)).is_ok());
    for to in [V4, V6] {
        assert_eq!(ask(&stage.client, to).status, 200, "{to}");
    }
}
