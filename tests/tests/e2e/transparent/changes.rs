//! The node, and what is diverted, change while weir runs; and what weir says of that.

use super::{Stage, TARGET, V4, address, until_diverted};
use e2e::net::NODE_V4;
use e2e::{Backend, Weir, eventually, folder};

#[test]
fn an_address_that_leaves_the_node_ends_diversion_to_it_and_its_return_brings_it_back() {
    let Some(mut stage) = Stage::running() else { return };
    assert_eq!(stage.weir().metric("weir_interception_armed", &[]), 1.0);
    stage.net.node().ip(&format!("addr del {NODE_V4}/24 dev br0\n"));
    eventually("its end", || stage.weir().admin_get("/ready").status == 503);
    let said = stage.weir().admin_get("/ready").text();
    assert!(said.contains(&format!("interception: {NODE_V4} is not this node's")), "{said}");
    assert_eq!(stage.weir().metric("weir_interception_armed", &[]), 0.0);
    stage.net.node().ip(&format!("addr add {NODE_V4}/24 dev br0\n"));
    eventually("its return", || stage.weir().admin_get("/ready").status == 200);
    assert_eq!(stage.weir().metric("weir_interception_armed", &[]), 1.0);
}

#[test]
fn weir_does_not_connect_to_an_address_that_came_to_the_node_later() {
    let Some(mut stage) = Stage::running() else { return };
    stage.net.node().ip("addr add 10.1.7.7/32 dev lo\n");
    let refused = || stage.weir().get("http://10.1.7.7:80/").status == 403;
    let mut refused = refused;
    eventually("its refusal", &mut refused);
}

#[test]
fn destinations_beyond_the_limit_go_direct_and_are_counted() {
    let Some(mut stage) = Stage::set() else { return };
    let more = folder::service("more", &["10.96.0.11"]).port("http", 80, TARGET).endpoints(&[stage.a.v4()]);
    let builder = Weir::new().on_node(&stage.net).kubernetes(&stage.hello()).kubernetes(&more);
    stage.start(builder.set("limits", "{ destinations: 1 }"));
    eventually("the count", || stage.weir().metric("weir_interception_left_out", &[]) == 2.0);
    stage.weir().expect_log("limits.destinations");
    assert!(stage.weir().metric("weir_interception_heart_age_seconds", &[]) < 2.0);
    assert_eq!(stage.weir().metric("weir_interception_waiting", &[]), 0.0);
}

#[test]
fn neither_kube_system_nor_a_port_between_two_of_a_service_is_diverted() {
    let Some(mut stage) = Stage::set() else { return };
    let web = folder::service("web", &["10.96.0.10"])
        .port("http", 80, TARGET)
        .port("other", 90, TARGET)
        .endpoints(&[stage.a.v4()]);
    let dns = "apiVersion: v1\nkind: Service\nmetadata: { name: dns, namespace: kube-system }\n\
               spec: { clusterIP: 10.96.0.53, ports: [{ name: tcp, port: 53 }] }\n";
    let builder = Weir::new().on_node(&stage.net).kubernetes(&web).file("dns.yaml", dns);
    stage.beyond.ip("addr add 10.96.0.53/32 dev lo\n");
    let _between = stage.greets_beyond("10.96.0.10:85", "between");
    let _dns = stage.greets_beyond("10.96.0.53:53", "dns");
    stage.start(builder);
    let _backend = Backend::http().answers("a").inside(&stage.a).on(stage.a.at(TARGET)).start();
    eventually("diversion", || stage.client.connect(address(V4)).is_ok());
    assert_eq!(stage.get(V4), "a");
    let before = stage.diverted();
    stage.dial("10.96.0.10:85").expect("between");
    stage.dial("10.96.0.53:53").expect("dns");
    assert_eq!(stage.diverted(), before);
}

#[test]
fn a_diverted_client_may_have_a_public_address() {
    let Some(stage) = Stage::running() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    until_diverted(&stage);
    let route = format!("addr add 203.0.113.5/32 dev lo\nroute add {NODE_V4}/32 dev eth0 src 203.0.113.5\n");
    stage.client.ip(&route);
    stage.net.node().ip(&format!("route add 203.0.113.5/32 via {}\n", stage.client.v4()));
    let mut client = stage.dial(V4);
    assert_eq!(
        client.stream().local_addr().unwrap().ip(),
        "203.0.113.5".parse::<std::net::IpAddr>().unwrap()
    );
    let body = client.get("/").text();
    assert!(body == "a" || body == "b", "{body:?}");
}

#[test]
fn a_change_that_the_programs_cannot_take_is_said_and_tried_again() {
    let Some(mut stage) = Stage::running_with(|it| it.set_in("transparent", "divert", "[10.96.0.0/16]"))
    else {
        return;
    };
    // Each of the node's own addresses is a hole in what is diverted, and there is room for 1,024.
    let all = |verb: &str| -> String {
        (0..1100)
            .map(|it| format!("addr {verb} 10.96.{}.{}/32 dev lo\n", 100 + it / 200, 1 + it % 200))
            .collect()
    };
    stage.net.node().ip(&all("add"));
    eventually("the report", || stage.weir().admin_get("/ready").status == 503);
    let said = stage.weir().admin_get("/ready").text();
    assert!(said.contains("interception: diverted destinations could not be changed"), "{said}");
    stage.net.node().ip(&all("del"));
    eventually("its end", || stage.weir().admin_get("/ready").status == 200);
}
