//! What one client provokes ejects an endpoint for no other client.

use std::net::SocketAddr;

use e2e::backend::{Received, Then};
use e2e::raw::Refusing;
use e2e::{Answer, Backend, Request, Weir, eventually, folder};

use super::{client, until_known, with_pods};
use crate::transparent::{Stage, TARGET, answered};

const FOR_EVER: &str = "{ backoff: { min: 1h, max: 1h } }";

/// An endpoint that fails requests for `/bad`, in this way.
fn provoked(then: Then) -> Backend {
    let script = move |request: &Received| match (request.head.target() == "/bad", then) {
        (false, _) => Answer::ok("ok"),
        (true, Then::Keep) => Answer::status(500),
        (true, then) => Answer::raw("").then(then),
    };
    Backend::http().script(script).start()
}

fn is_ejected_for(weir: &Weir, endpoint: SocketAddr) -> u64 {
    weir.endpoint(endpoint)["ejectedFor"].as_u64().unwrap()
}

#[test]
fn what_one_pod_provokes_ejects_an_endpoint_for_no_other_pod() {
    for then in [Then::Keep, Then::Reset, Then::Close] {
        let backends = [provoked(then), provoked(then), provoked(then)];
        let endpoints = backends.each_ref().map(Backend::addr);
        let weir = with_pods(Weir::new(), &["mob", "shop"]).set("breaker", FOR_EVER);
        let weir = weir.service("hello", &endpoints).start();
        until_known(&weir, 1, "mob/pod-1");
        let attacker = || {
            let mut attacker = client(&weir, 1);
            // A POST is not tried again elsewhere.
            let _ = attacker.start(&Request::post("http://hello/bad", "")).try_response();
        };
        eventually("all endpoints but the last one ejected for the attacker", || {
            attacker();
            endpoints.iter().filter(|at| is_ejected_for(&weir, **at) == 1).count() == 2
        });
        let before = backends.each_ref().map(Backend::count);
        let mut victim = client(&weir, 2);
        for _ in 0..60 {
            attacker();
            victim.get("http://hello/").expect_body("ok");
        }
        for (backend, before) in backends.iter().zip(before) {
            assert!(backend.count() >= before + 5, "{then:?}: it gets nothing from the other pod");
        }
    }
}

#[test]
fn a_dead_endpoint_is_ejected_for_each_pod_that_finds_it_dead() {
    let dead = Refusing::new();
    let good = Backend::http().start();
    let weir = with_pods(Weir::new(), &["shop", "shop", "dev", "dev"]).set("breaker", FOR_EVER);
    let weir = weir.service("hello", &[dead.addr(), good.addr()]).start();
    until_known(&weir, 4, "dev/pod-4");
    for (number, failures) in [(1, 5), (2, 10), (3, 12), (4, 14)] {
        eventually("its ejection", || {
            client(&weir, number).get("http://hello/").expect_body("ok");
            is_ejected_for(&weir, dead.addr()) == u64::from(number)
        });
        assert_eq!(weir.failures(dead.addr()), failures, "for pod {number}");
    }
}

/// As a network policy that forbids an endpoint to two pods.
#[test]
fn two_pods_that_may_not_reach_an_endpoint_eject_it_for_no_other_pod() {
    let Some(mut stage) = Stage::set() else { return };
    let forbidden = [stage.net.pod("forbidden1"), stage.net.pod("forbidden2")];
    for pod in &forbidden {
        let name = pod.name();
        stage.a.nft(&format!(
            "table ip {name} {{ chain to {{ type filter hook input priority 0; ip saddr {} drop; }}; }}\n",
            pod.v4()
        ));
    }
    let hello = folder::service("hello", &["10.96.0.10"])
        .port("http", 80, TARGET)
        .endpoints(&[stage.a.v4(), stage.b.v4()]);
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&hello).set("breaker", FOR_EVER);
    stage.start(builder.set("limits", "{ connect: 200ms, connectTotal: 1s }"));
    stage.until_listening(6);
    let _backends = stage.backends();
    let endpoint = stage.a.at(TARGET);
    // Each finds the endpoint that it may not reach again and again, until it is left alone.
    let mut turns = 0;
    eventually("its ejection for both", || {
        turns += 1;
        forbidden.iter().for_each(|pod| assert_eq!(answered(pod), "b"));
        is_ejected_for(stage.weir(), endpoint) == 2
    });
    assert!(turns >= 5, "{turns}");
    let mut reached = 0;
    for _ in 0..40 {
        reached += usize::from(answered(&stage.client) == "a");
    }
    assert!(reached >= 5, "{reached} of 40");
    assert_eq!(is_ejected_for(stage.weir(), endpoint), 2);
}
