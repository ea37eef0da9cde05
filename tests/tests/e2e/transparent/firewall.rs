//! Rules of the network, as a network plug-in enforces NetworkPolicies, with weir's sockets in the pods: they hold for what
//! passes through weir as without it, and need no rule for weir.

use std::net::{IpAddr, SocketAddr};

use super::explicit_in_pods::{node, says_who, servers};
use super::loopback_in_pods::until_served;
use super::{Stage, TARGET, V4, V6, address};
use e2e::net::{NODE_V4, NODE_V6};
use e2e::{Client, Pod, Response, Weir, folder};

/// A chain of a pod's, at `hook`.
fn chain(hook: &str, rules: &str) -> String {
    format!(
        "table inet plugin {{\n chain {hook} {{\n type filter hook {hook} priority 0;\n {rules}\n }}\n}}\n"
    )
}

/// The node with weir in the pods, `hello` with these endpoints, and one more pod.
fn with_endpoints(endpoints: impl FnOnce(&Stage) -> Vec<IpAddr>) -> Option<(Stage, Pod)> {
    let mut stage = Stage::set()?;
    let other = stage.net.pod("other");
    let addresses = ["10.96.0.10", "fd00:96::10"];
    let endpoints = endpoints(&stage);
    let hello = folder::service("hello", &addresses).port("http", 80, TARGET).endpoints(&endpoints);
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&hello);
    stage.start(builder.set("limits", "{ connect: 500ms, connectTotal: 1s }"));
    stage.until_listening(5);
    until_served(&mut stage, 5);
    Some((stage, other))
}

/// The answer to a request for `hello` from `pod`: diverted by the service's address, or explicit.
fn ask(pod: &Pod, to: SocketAddr) -> Response {
    let mut client = Client::over(pod.connect(to).unwrap_or_else(|why| panic!("{to}: {why}")));
    client.get(if to.port() == 80 { "/" } else { "http://hello/" })
}

/// Every pod reaches an endpoint that one of them may reach: exactly that one does, and sees itself there.
fn only_the_client_reaches_the_endpoint(ways: &[SocketAddr]) {
    for v6 in [false, true] {
        let endpoint = |stage: &Stage| if v6 { stage.a.v6() } else { stage.a.v4() };
        let Some((stage, other)) = with_endpoints(|stage| vec![endpoint(stage)]) else { return };
        let own = if v6 { stage.client.v6() } else { stage.client.v4() };
        let family = if v6 { "ip6" } else { "ip" };
        stage.a.nft(&chain(
            "input",
            &format!("{family} saddr {own} tcp dport {TARGET} accept\n tcp dport {TARGET} drop"),
        ));
        let _server = says_who(&stage.a, SocketAddr::new(endpoint(&stage), TARGET));
        for &to in ways {
            let refused = ask(&other, to);
            assert!([502, 504].contains(&refused.status), "{to}: the rule is void: {refused:?}");
            // And the neighbour that may loses nothing by it.
            let answer = ask(&stage.client, to);
            assert_eq!((answer.status, answer.text()), (200, own.to_string()), "{to}");
        }
    }
}

#[test]
fn a_rule_that_lets_only_one_pod_reach_an_endpoint_holds_through_weir() {
    only_the_client_reaches_the_endpoint(&[address(V4), address(V6)]);
}

#[test]
fn a_rule_that_lets_only_one_pod_reach_an_endpoint_holds_for_explicit_clients() {
    let loopback = ["127.0.0.1:4140", "[::1]:4140"].map(address);
    only_the_client_reaches_the_endpoint(&[node(false), node(true), loopback[0], loopback[1]]);
}

#[test]
fn a_rule_that_forbids_the_nodes_addresses_changes_nothing() {
    let all = |stage: &Stage| vec![stage.a.v4(), stage.b.v4(), stage.a.v6(), stage.b.v6()];
    let Some((stage, other)) = with_endpoints(all) else { return };
    let _servers = servers(&stage);
    for pod in [&stage.a, &stage.b] {
        pod.nft(&chain("input", &format!("ip saddr {NODE_V4} drop\n ip6 saddr {NODE_V6} drop")));
    }
    // Nor may these reach the node: no rule for weir's ports is needed.
    for pod in [&stage.client, &other] {
        pod.nft(&chain("output", &format!("ip daddr {NODE_V4} drop\n ip6 daddr {NODE_V6} drop")));
        for to in [V4, V6, "127.0.0.1:4140", "[::1]:4140"] {
            let answer = ask(pod, address(to));
            assert_eq!(answer.status, 200, "{to}: {answer:?}");
            let who: IpAddr = answer.text().parse().unwrap();
            assert!(who == pod.v4() || who == pod.v6(), "{to}: {who}");
        }
    }
}

#[test]
fn where_a_pod_may_connect_to_holds_for_what_weir_connects_to_for_it() {
    let Some((stage, other)) = with_endpoints(|stage| vec![stage.a.v4()]) else { return };
    let _server = says_who(&stage.a, stage.a.at(TARGET));
    stage.client.nft(&chain("output", &format!("ip daddr {} drop", stage.a.v4())));
    for to in [V4, "127.0.0.1:4140"] {
        let refused = ask(&stage.client, address(to));
        assert!([502, 503, 504].contains(&refused.status), "{to}: the rule is void: {refused:?}");
        let answer = ask(&other, address(to));
        assert_eq!((answer.status, answer.text()), (200, other.v4().to_string()), "{to}");
    }
}
