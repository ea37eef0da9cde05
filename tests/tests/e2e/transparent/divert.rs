//! What is diverted, what is not, and what the application can tell.

use super::{MAPPED, Stage, TARGET, V4, V6, address};
use e2e::client::Closed;
use e2e::{Backend, Client, Weir, folder};

#[test]
fn a_get_to_a_cluster_ip_is_answered_by_an_endpoint_whatever_the_family() {
    let Some(mut stage) = Stage::running() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    let before = stage.diverted();
    for to in [V4, V6, MAPPED] {
        for _ in 0..10 {
            let body = stage.get(to);
            assert!(body == "a" || body == "b", "{to} was answered by {body:?}");
        }
    }
    assert_eq!(stage.diverted() - before, 30.0);
    assert_eq!(stage.weir().accepted("transparent"), 30.0);
    assert_eq!(stage.weir().accepted("outgoing"), 0.0);
}

#[test]
fn the_application_sees_the_address_it_dialled() {
    let Some(stage) = Stage::running() else { return };
    let _backends = stage.backends();
    for to in [V4, V6, MAPPED] {
        let mut client = stage.dial(to);
        assert_eq!(client.stream().peer_addr().unwrap(), address(to));
        client.get("/").expect_status(200);
        assert_eq!(client.stream().peer_addr().unwrap(), address(to));
    }
}

#[test]
fn a_port_that_the_service_does_not_have_goes_to_the_dialled_address() {
    let Some(stage) = Stage::running() else { return };
    let _backends = stage.backends();
    for to in ["10.96.0.10:81", "[fd00:96::10]:81"] {
        let direct = stage.greets_beyond(to, "untouched");
        let mut client = stage.dial(to);
        client.expect("untouched").send("x").expect("x");
        assert_eq!((client.stream().peer_addr().unwrap(), direct.accepted()), (address(to), 1));
    }
    // HTTP too: the Host field does not choose the destination.
    let web = Backend::http().answers("web").inside(&stage.beyond).on(address("10.96.0.10:82")).start();
    let mut client = stage.dial("10.96.0.10:82");
    client.send("GET / HTTP/1.1\r\nHost: hello\r\n\r\n").response().expect_body("web");
    assert_eq!(web.count(), 1);
}

#[test]
fn a_port_where_nobody_listens_is_a_close_and_no_answer() {
    let Some(stage) = Stage::running() else { return };
    let Ok(stream) = stage.client.connect(address("10.96.0.10:83")) else { return };
    let (bytes, _) = Client::over(stream).rest();
    assert!(bytes.is_empty(), "{bytes:?}");
}

#[test]
fn an_address_of_no_service_is_not_diverted() {
    let Some(mut stage) = Stage::running() else { return };
    stage.beyond.ip("addr add 10.96.0.99/32 dev lo\n");
    let _other = stage.greets_beyond("10.96.0.99:80", "other");
    let before = stage.diverted();
    stage.dial("10.96.0.99:80").expect("other");
    // Pods talk to each other directly as well.
    let _backends = stage.backends();
    assert_eq!(stage.dial(&stage.a.at(TARGET).to_string()).get("/").text(), "a");
    assert_eq!(stage.diverted(), before);
}

#[test]
fn a_service_is_diverted_from_the_moment_it_is_there_until_it_goes() {
    let Some(mut stage) = Stage::running() else { return };
    stage.beyond.ip("addr add 10.96.0.11/32 dev lo\n");
    let _direct =
        Backend::http().answers("direct").inside(&stage.beyond).on(address("10.96.0.11:80")).start();
    let _backends = stage.backends();
    assert_eq!(stage.get("10.96.0.11:80"), "direct");
    let later = folder::service("later", &["10.96.0.11"]).port("http", 80, TARGET).endpoints(&[stage.a.v4()]);
    stage.weir().folder().kubernetes(&later);
    e2e::eventually("its diversion", || stage.get("10.96.0.11:80") == "a");
    stage.weir().folder().remove("later.default.yaml");
    e2e::eventually("its end", || stage.get("10.96.0.11:80") == "direct");
}

#[test]
fn processes_of_the_nodes_own_namespace_are_left_alone_unless_asked_for() {
    for (host, expected) in [(false, ["direct", "direct"]), (true, ["a", "b"])] {
        let Some(mut stage) = Stage::set() else { return };
        let pod = stage.net.host_pod("hostnet");
        let builder = Weir::new().on_node(&stage.net).kubernetes(&stage.hello()).set_in(
            "transparent",
            "host",
            &host.to_string(),
        );
        stage.start(builder);
        let (_backends, _direct) = (stage.backends(), stage.direct());
        for to in [V4, V6] {
            let body = Client::over(pod.connect(address(to)).unwrap()).get("/").text();
            assert!(expected.contains(&body.as_str()), "host: {host}, {to} was answered by {body:?}");
        }
    }
}

#[test]
fn processes_outside_the_pods_cgroup_are_left_alone() {
    let Some(stage) = Stage::running() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    let node = stage.net.node();
    assert_eq!(Client::over(node.connect(address(V4)).unwrap()).get("/").text(), "direct");
}

#[test]
fn a_transparent_port_dialled_directly_is_closed_and_counted() {
    let Some(mut stage) = Stage::running() else { return };
    let listeners = stage.weir().transparent().to_vec();
    assert_eq!(listeners.len(), 8, "{listeners:?}");
    let before = stage.weir().turned_away("transparent", "no_original");
    for listener in &listeners {
        for node in [e2e::net::NODE_V4, e2e::net::NODE_V6] {
            let to = std::net::SocketAddr::new(node.parse().unwrap(), listener.port());
            let mut client = Client::over(stage.client.connect(to).unwrap());
            client.send("GET http://hello/ HTTP/1.1\r\nHost: hello\r\n\r\n");
            let (bytes, closed) = client.rest();
            assert!(bytes.is_empty(), "{bytes:?}, then {closed:?}");
        }
    }
    assert_eq!(stage.weir().turned_away("transparent", "no_original") - before, 16.0);
}

#[test]
fn the_explicit_door_is_open_to_pods_and_closed_to_strangers() {
    let Some(mut stage) = Stage::running() else { return };
    let _backends = stage.backends();
    let proxy = format!("{}:4140", e2e::net::NODE_V4);
    let body = stage.dial(&proxy).get("http://hello/").text();
    assert!(body == "a" || body == "b", "{body:?}");
    assert_eq!(stage.weir().accepted("outgoing"), 1.0);
    assert_eq!(stage.weir().accepted("transparent"), 0.0);
    // The same pod with a public source address.
    stage.client.ip("addr add 203.0.113.5/32 dev lo\nroute add 10.1.0.1/32 dev eth0 src 203.0.113.5\n");
    stage.net.node().ip(&format!("route add 203.0.113.5/32 via {}\n", stage.client.v4()));
    let mut stranger = stage.dial(&proxy);
    stranger.send("GET http://hello/ HTTP/1.1\r\nHost: hello\r\n\r\n");
    let (bytes, closed) = stranger.rest();
    assert!(bytes.is_empty() && matches!(closed, Closed::End | Closed::Reset), "{bytes:?}");
    assert_eq!(stage.weir().turned_away("outgoing", "not_allowed"), 1.0);
}

#[test]
fn the_state_counts_every_decision() {
    let Some(mut stage) = Stage::running() else { return };
    let _backends = stage.backends();
    stage.get(V4);
    let state = stage.weir().state();
    assert!(state["interception"].is_object(), "no interception in {state:#}");
    assert!(stage.diverted() >= 1.0);
}
