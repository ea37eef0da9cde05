//! Names outside, by DNS: a name server that answers as told, and backends at addresses that weir does not refuse.

mod families;
mod limits;
mod race;
mod servers;

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::dns::By;
use e2e::net::{NODE_V4, NODE_V6, is_root};
use e2e::time::{holds_for, within};
use e2e::weir::Builder;
use e2e::{Backend, Clock, Dns, Net, Pod, Said, Weir, eventually};

/// A node on which weir asks a name server of the test's.
struct Scene {
    weir: Weir,
    dns: Dns,
    one: Pod,
    two: Pod,
    net: Net,
}

fn scene() -> Option<Scene> {
    scene_with(|weir, _| weir)
}

/// The same, where weir is configured by `more`.
fn scene_with(more: impl FnOnce(Builder, &Dns) -> Builder) -> Option<Scene> {
    is_root().then(|| {
        let mut net = Net::new();
        let (one, two) = (net.pod("one"), net.pod("two"));
        let dns = Dns::start(&net.weir_place(), [127, 0, 0, 1].into());
        let weir = Weir::new().beside(&net).set("names", &dns.setting()).set_in(
            "outgoing",
            "connectPorts",
            "1-65535",
        );
        let weir = more(weir, &dns).start();
        Scene { weir, dns, one, two, net }
    })
}

/// A backend in `pod` at port 80 of its IPv4 address, that answers with the pod's name.
fn four(pod: &Pod) -> Backend {
    Backend::http().answers(pod.name()).inside(pod).on(pod.at(80)).start()
}

/// The same, IPv6.
fn six(pod: &Pod) -> Backend {
    Backend::http().answers(pod.name()).inside(pod).on((pod.v6(), 80).into()).start()
}

impl Scene {
    /// DNS says of `name` that it is at `pods`, IPv4, for `ttl` seconds.
    fn at(&self, name: &str, pods: &[&Pod], ttl: u32) {
        self.dns.says(name, Said::Addresses(pods.iter().map(|pod| pod.v4()).collect(), ttl));
    }
}

#[test]
fn an_outside_host_is_found_by_dns() {
    let Some(scene) = scene() else { return };
    let backend = four(&scene.one);
    scene.at("example.test", &[&scene.one], 60);
    scene.weir.get("http://Example.Test./path").expect_body("one");
    let head = backend.only_request().head;
    assert_eq!((head.target(), head.get("l5d-dst-service")), ("/path", Some("/svc/example.test")));
    // Asked absolutely, for both families, and no more than that.
    let asked: Vec<_> = scene.dns.asked().into_iter().map(|it| (it.name, it.six)).collect();
    assert_eq!(BTreeSet::from_iter(asked.clone()).len(), 2, "{asked:?}");
    assert!(asked.iter().all(|(name, _)| name == "example.test"), "{asked:?}");
}

#[test]
fn a_name_is_asked_for_as_it_stands_whatever_its_labels_hold() {
    let Some(scene) = scene() else { return };
    let _backend = four(&scene.one);
    for name in
        ["vote_api.test", "_x.test", "a_.b_.test", "a--b.test", "-a.b-.test", "xn--zz.test", "1_2.test"]
    {
        scene.at(name, &[&scene.one], 60);
        scene.weir.get(&format!("http://{name}/")).expect_body("one");
    }
}

#[test]
fn both_families_are_used() {
    let Some(scene) = scene() else { return };
    let _backends = (four(&scene.one), six(&scene.two));
    let (one, two) = (scene.one.v4(), scene.two.v6());
    scene.dns.says("six.test", Said::Addresses(vec![two], 60));
    scene.weir.get("http://six.test/").expect_body("two");
    scene.dns.says("both.test", Said::Addresses(vec![one, two], 60));
    let answers: BTreeSet<String> = (0..40).map(|_| scene.weir.get("http://both.test/").text()).collect();
    assert_eq!(answers, BTreeSet::from(["one", "two"].map(str::to_owned)));
}

#[test]
fn an_answer_too_long_for_a_datagram_is_fetched_by_tcp() {
    let Some(scene) = scene() else { return };
    let _backend = four(&scene.one);
    scene.dns.says("long.test", Said::Truncated(vec![scene.one.v4()], 60));
    scene.weir.get("http://long.test/").expect_body("one");
    assert!(scene.dns.asked().iter().any(|it| it.by == By::Tcp), "{:?}", scene.dns.asked());
}

#[test]
fn names_that_lead_back_to_this_node_or_to_metadata_are_refused() {
    let Some(scene) = scene() else { return };
    let refused = [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "0.0.0.0",
        "::",
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "fd00:ec2::254",
        "169.254.7.7",
        "fe80::1",
        "224.0.0.1",
        "255.255.255.255",
        NODE_V4,
        NODE_V6,
    ];
    // Something that would answer at all of this node's addresses.
    let place = scene.net.weir_place();
    let trap = e2e::raw::TcpServer::greets(place.listen("0.0.0.0:80".parse().unwrap()).unwrap(), "caught");
    let trap_six = e2e::raw::TcpServer::greets(place.listen("[::]:80".parse().unwrap()).unwrap(), "caught");
    let mut wrong = Vec::new();
    for (number, address) in refused.iter().enumerate() {
        let name = format!("evil{number}.test");
        scene.dns.says(&name, Said::addresses(&[address], 60));
        let answer = scene.weir.get(&format!("http://{name}/"));
        if answer.status != 403 || answer.l5d_err().is_empty() {
            wrong.push(format!("{address}: {:?}", answer.head.start));
        }
        let tunnel = scene.weir.ask(&e2e::Request::new("CONNECT", &format!("{name}:80")));
        if tunnel.status != 403 {
            wrong.push(format!("CONNECT {address}: {:?}", tunnel.head.start));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!((trap.accepted(), trap_six.accepted()), (0, 0));
}

#[test]
fn of_several_addresses_only_those_that_are_not_refused_are_used() {
    let Some(scene) = scene() else { return };
    let _backend = four(&scene.one);
    let good = scene.one.v4().to_string();
    let mixed = ["127.0.0.1", "127.0.0.2", "169.254.169.254", &good, "::1", NODE_V4, "0.0.0.0"];
    scene.dns.says("mixed.test", Said::addresses(&mixed, 60));
    for _ in 0..30 {
        scene.weir.get("http://mixed.test/").expect_body("one");
    }
    assert_eq!(scene.weir.metric("weir_dns_refused_addresses_total", &[]), 6.0);
}

#[test]
fn a_name_that_is_bound_again_to_loopback_is_refused_after_its_time() {
    let Some(scene) = scene() else { return };
    let _backend = four(&scene.one);
    scene.at("rebind.test", &[&scene.one], 1);
    let mut client = scene.weir.client();
    client.get("http://rebind.test/").expect_body("one");
    scene.dns.says("rebind.test", Said::addresses(&["127.0.0.1"], 1));
    // Also where a connection to the good address is still open.
    within(Duration::from_secs(6), "the refusal", || client.get("http://rebind.test/").status == 403);
    assert!(holds_for(Duration::from_millis(500), || client.get("http://rebind.test/").status == 403));
}

#[test]
fn a_name_that_nobody_asked_for_since_is_looked_up_before_it_is_used() {
    let Some(scene) = scene() else { return };
    let _backends = (four(&scene.one), four(&scene.two));
    scene.at("idle.test", &[&scene.one], 1);
    scene.weir.get("http://idle.test/").expect_body("one");
    scene.at("idle.test", &[&scene.two], 1);
    let before = scene.dns.questions("idle.test");
    assert!(holds_for(Duration::from_millis(3500), || scene.dns.questions("idle.test") == before));
    scene.weir.get("http://idle.test/").expect_body("two");
}

#[test]
fn a_changed_answer_is_followed_after_its_time_and_not_before() {
    let Some(scene) = scene() else { return };
    let _backends = (four(&scene.one), four(&scene.two));
    scene.at("long.test", &[&scene.one], 300);
    scene.at("short.test", &[&scene.one], 1);
    for name in ["long", "short"] {
        scene.weir.get(&format!("http://{name}.test/")).expect_body("one");
    }
    for name in ["long.test", "short.test"] {
        scene.at(name, &[&scene.two], 300);
    }
    within(Duration::from_secs(6), "the new address", || {
        scene.weir.get("http://short.test/").text() == "two"
    });
    scene.weir.get("http://long.test/").expect_body("one");
    assert_eq!(scene.dns.questions("long.test"), 2);
}

#[test]
fn an_old_answer_serves_on_while_dns_fails_or_is_silent() {
    let Some(scene) = scene() else { return };
    let _backend = four(&scene.one);
    for (name, said) in [("fails.test", Said::Failure), ("silent.test", Said::Silence)] {
        let url = format!("http://{name}/");
        scene.at(name, &[&scene.one], 1);
        scene.weir.get(&url).expect_body("one");
        scene.dns.says(name, said);
        let (asked, failed) = (scene.dns.questions(name), scene.weir.metric("weir_dns_failures_total", &[]));
        let has_failed = || scene.weir.metric("weir_dns_failures_total", &[]) > failed;
        eventually("a failed look-up", || {
            scene.weir.get(&url).expect_body("one");
            scene.dns.questions(name) > asked && has_failed()
        });
        scene.weir.get(&url).expect_body("one");
    }
}

#[test]
fn a_name_that_dns_denies_is_502_with_the_reason() {
    let Some(scene) = scene() else { return };
    let _backend = four(&scene.one);
    let answer = scene.weir.get("http://nothing.test/");
    answer.expect_status(502);
    assert!(answer.text().contains("DNS knows no such name"), "{}", answer.text());
    assert!(answer.l5d_err().contains("nothing.test"), "{}", answer.l5d_err());
    assert_eq!(scene.weir.metric("weir_dns_failures_total", &[]), 0.0, "DNS did answer");
    // And one that it denies from now on.
    scene.at("going.test", &[&scene.one], 1);
    scene.weir.get("http://going.test/").expect_body("one");
    scene.dns.says("going.test", Said::NoSuchName(1));
    within(Duration::from_secs(6), "its end", || scene.weir.get("http://going.test/").status == 502);
}

#[test]
fn a_name_that_dns_does_not_answer_for_is_502_in_bounded_time() {
    let Some(scene) = scene() else { return };
    for (name, said) in [("fails.test", Said::Failure), ("silent.test", Said::Silence)] {
        scene.dns.says(name, said);
        let begun = Clock::start();
        let answer = scene.weir.get(&format!("http://{name}/"));
        answer.expect_status(502);
        assert!(answer.text().contains("DNS did not answer"), "{}", answer.text());
        // The setting says 2 s.
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
    assert_eq!(scene.weir.metric("weir_dns_failures_total", &[]), 2.0);
}

#[test]
fn what_dns_cannot_know_it_is_not_asked() {
    let Some(scene) = scene() else { return };
    for host in [
        "nodot",
        "vote_api",
        "shop.default.svc.cluster.local",
        "any.cluster.local",
        "10.1.0.250",
        "2130706433",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "[::1]",
    ] {
        let status = scene.weir.get(&format!("http://{host}/")).status;
        assert!(matches!(status, 403 | 502 | 504), "{host}: {status}");
    }
    assert_eq!(scene.dns.asked(), []);
}

#[test]
fn a_dtab_may_lead_a_services_name_outside() {
    let Some(scene) = scene() else { return };
    let _backend = four(&scene.one);
    scene.at("hello.test", &[&scene.one], 60);
    for place in ["/$/inet/hello.test/80", "/$/weir.dns/hello.test"] {
        let request = e2e::Request::get("http://world/");
        let request = request.with("l5d-dtab", &format!("/svc/world => {place}"));
        scene.weir.ask(&request).expect_body("one");
    }
}
