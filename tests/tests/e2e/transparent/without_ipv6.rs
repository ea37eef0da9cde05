//! A pod without IPv6, beside others that have it.

use e2e::{Client, Weir, eventually};

use super::explicit_in_pods::servers;
use super::{Stage, V4, V6, address};

#[test]
fn a_pod_without_ipv6_is_diverted_and_has_the_explicit_proxy_by_ipv4() {
    let Some(mut stage) = Stage::set() else { return };
    for network in ["all", "default", "lo"] {
        stage.client.sysctl(&format!("net/ipv6/conf/{network}/disable_ipv6"), "1");
    }
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&stage.hello());
    stage.start(builder);
    stage.until_listening(4);
    eventually("the explicit proxy in every pod", || {
        stage.weir().metric("weir_explicit_netns", &[("state", "listening")]) == 4.0
    });
    let _servers = servers(&stage);
    let own = stage.client.v4().to_string();
    let get = |pod: &e2e::Pod, to: &str| {
        Client::over(pod.connect(address(to)).unwrap()).get("http://hello/").expect_status(200).text()
    };
    // Endpoints of both families: it has a way to those of one alone.
    for _ in 0..6 {
        assert_eq!(get(&stage.client, V4), own);
        assert_eq!(get(&stage.client, "127.0.0.1:4140"), own);
    }
    assert!(stage.client.connect(address(V6)).is_err(), "it has no IPv6");
    // Its neighbour has both.
    for to in [V4, V6, "[::1]:4140"] {
        let who = get(&stage.b, to);
        assert!([stage.b.v4(), stage.b.v6()].iter().any(|it| it.to_string() == who), "{to}: {who}");
    }
    let diverted = stage.diverted();
    assert!(diverted >= 8.0, "{diverted}");
}
