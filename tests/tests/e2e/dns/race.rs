//! Names with addresses of which some lead nowhere.

use std::net::IpAddr;

use e2e::weir::Builder;
use e2e::{Dns, Request, Said, eventually};

use super::{Scene, four, scene, scene_with, six};

fn parse(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|it| it.parse().unwrap()).collect()
}

/// A connect may take as long as it likes: whoever waits for one that nobody answers has no answer in this test.
fn endless(weir: Builder, _: &Dns) -> Builder {
    weir.set("limits", "{ connect: 5m, connectTotal: 5m }")
}

impl Scene {
    /// Addresses beside this node's at which nobody is: what is sent there is not answered, and no error comes.
    fn swallow(&self, addresses: &[&str]) {
        for address in addresses {
            self.net
                .node()
                .ip(&format!("neigh add {address} lladdr 02:00:00:00:00:01 dev br0 nud permanent\n"));
        }
    }

    /// What GET and CONNECT come to for `name`, at `addresses`.
    fn both_ways(&self, name: &str, addresses: &[IpAddr]) -> (u16, String, u16) {
        self.dns.says(name, Said::Addresses(addresses.to_vec(), 60));
        let answer = self.weir.get(&format!("http://{name}/"));
        // A name of its own, whose addresses are as unknown as those of the first were.
        self.dns.says(&format!("tunnel.{name}"), Said::Addresses(addresses.to_vec(), 60));
        let tunnel = self.weir.ask(&Request::new("CONNECT", &format!("tunnel.{name}:80")));
        (answer.status, answer.text(), tunnel.status)
    }
}

#[test]
fn addresses_without_a_route_cost_no_request() {
    let Some(scene) = scene() else { return };
    let _backends = (four(&scene.one), six(&scene.two));
    for route in ["unreachable 198.51.100.0/24", "prohibit 203.0.113.0/24", "blackhole 2001:db8:7::/48"] {
        scene.net.node().ip(&format!("route add {route}\n"));
    }
    // Neither family has a default route here.
    let six = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4", "2001:db8::5", "2001:db8::6"];
    let four = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"];
    let by_rule = ["198.51.100.1", "198.51.100.2", "203.0.113.1", "203.0.113.2", "2001:db8:7::1"];
    let mut wrong = Vec::new();
    for (nowhere, good, body) in [
        (&six[..], scene.one.v4(), "one"),
        (&four[..], scene.two.v6(), "two"),
        (&by_rule[..], scene.one.v4(), "one"),
        (&[&six[..], &four[..], &by_rule[..]].concat(), scene.one.v4(), "one"),
    ] {
        for number in 0..8 {
            let mut addresses = parse(nowhere);
            addresses.push(good);
            let got = scene.both_ways(&format!("n{number}.{}.{body}.test", nowhere.len()), &addresses);
            if (got.0, &*got.1, got.2) != (200, body, 200) {
                wrong.push(format!("{addresses:?}: {got:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(scene.weir.metric("weir_dns_unreachable_addresses_total", &[]) > 0.0);
    let (status, why, tunnel) = scene.both_ways("nowhere.test", &parse(&six));
    assert_eq!((status, tunnel), (502, 502), "{why}");
    assert!(why.contains("unreachable"), "{why}");
}

#[test]
fn an_address_that_swallows_connects_is_overtaken_by_another() {
    let Some(scene) = scene_with(endless) else { return };
    let _backends = (four(&scene.one), six(&scene.two));
    let silent_four = ["10.1.0.201", "10.1.0.202", "10.1.0.203"];
    let silent_six = ["fd00:1::201", "fd00:1::202", "fd00:1::203"];
    scene.swallow(&silent_four);
    scene.swallow(&silent_six);
    for (nowhere, good, body) in [
        (&silent_six[..], scene.one.v4(), "one"),
        (&silent_four[..], scene.two.v6(), "two"),
        (&silent_four[..], scene.one.v4(), "one"),
        (&silent_six[..1], scene.two.v6(), "two"),
    ] {
        for number in 0..3 {
            let mut addresses = parse(nowhere);
            addresses.push(good);
            let name = format!(
                "n{number}.{}.{body}.{}.test",
                nowhere.len(),
                good.is_ipv4() == nowhere[0].contains('.')
            );
            let got = scene.both_ways(&name, &addresses);
            assert_eq!((got.0, &*got.1, got.2), (200, body, 200), "{addresses:?}");
        }
    }
    assert!(scene.weir.metric("weir_connects_raced_total", &[]) > 0.0);
}

#[test]
fn an_address_that_lost_is_left_alone_once_it_is_known_to_swallow_connects() {
    let Some(scene) = scene_with(|weir, _| {
        weir.set("limits", "{ connect: 1s, headStart: 50ms }")
            .set("breaker", "{ failures: 1, backoff: { min: 5m, max: 5m } }")
    }) else {
        return;
    };
    let _backend = four(&scene.one);
    scene.swallow(&["fd00:1::201"]);
    let addresses = vec![scene.one.v4(), "fd00:1::201".parse().unwrap()];
    scene.dns.says("half.test", Said::Addresses(addresses, 300));
    let ejected = || {
        let labels = [("service", "/svc/half.test"), ("endpoint", "[fd00:1::201]:80")];
        scene.weir.metric("weir_endpoint_ejected", &labels) == 1.0
    };
    eventually("the silent address to be ejected", || {
        let close = Request::get("http://half.test/").with("Connection", "close");
        scene.weir.ask(&close).expect_body("one");
        ejected()
    });
    let raced = scene.weir.metric("weir_connects_raced_total", &[]);
    for _ in 0..20 {
        scene.weir.ask(&Request::new("CONNECT", "half.test:80")).expect_status(200);
    }
    assert_eq!(scene.weir.metric("weir_connects_raced_total", &[]), raced);
}

#[test]
fn of_very_many_addresses_some_of_each_family_are_used() {
    let Some(scene) = scene_with(|weir, _| weir.set("limits", "{ addresses: 8 }")) else { return };
    let _backend = six(&scene.two);
    scene.net.node().ip(&format!("route add 10.50.0.0/16 via {}\n", scene.one.v4()));
    let mut addresses: Vec<IpAddr> = (1..=100).map(|last| [10, 50, 0, last].into()).collect();
    addresses.push(scene.two.v6());
    scene.dns.says("many.test", Said::Truncated(addresses, 300));
    scene.weir.get("http://many.test/").expect_body("two");
    assert_eq!(scene.weir.metric("weir_dns_surplus_addresses_total", &[]), 93.0);
    let state = scene.weir.admin_get("/api/state.json").text();
    assert_eq!(state.matches("10.50.0.").count(), 7, "{state}");
}
