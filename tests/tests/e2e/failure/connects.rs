//! Endpoints that refuse or swallow connections cost no request while another takes it.

use std::time::Duration;

use e2e::net::is_root;
use e2e::raw::{Refusing, Swallowing};
use e2e::{Backend, Clock, Load, Net, Request, Weir, eventually};

#[test]
fn an_endpoint_that_refuses_costs_no_request() {
    let (refusing, backend) = (Refusing::new(), Backend::patient());
    let weir = Weir::serving("hello", &[refusing.addr(), backend.addr()]);
    let mut client = weir.client();
    for _ in 0..30 {
        client.get("http://hello/").expect_body("ok");
        // Nothing was sent, so a request that must not be repeated may go elsewhere just as well, body and all.
        client.ask(&Request::post("http://hello/", "body")).expect_body("ok");
    }
    let bodies = backend.requests().iter().filter(|r| r.body == b"body").count();
    assert_eq!((backend.count(), bodies), (60, 30));
    assert!(weir.failures(refusing.addr()) > 0, "nobody noticed");
    assert_eq!(weir.failures(backend.addr()), 0);
}

#[test]
fn two_endpoints_that_refuse_cost_no_request_while_a_third_serves() {
    let (one, two, backend) = (Refusing::new(), Refusing::new(), Backend::patient());
    // The first requests are the ones that count: later it is known who answers.
    for _ in 0..8 {
        let weir = Weir::serving("hello", &[one.addr(), two.addr(), backend.addr()]);
        for _ in 0..10 {
            weir.get("http://hello/").expect_body("ok");
        }
    }
}

#[test]
fn an_endpoint_that_this_node_has_no_way_to_costs_no_attempt() {
    if !is_root() {
        return;
    }
    let mut net = Net::new();
    let pod = net.pod("one");
    let _backend = Backend::http().answers("one").inside(&pod).on(pod.at(80)).start();
    // A route to the last one, but no address to connect to it from.
    let no_source = "for scope in link global host; do ip -6 addr flush scope $scope; done
        ip -6 route add 2001:db8:7::/48 dev br0";
    for (nowhere, script, why) in [
        ("[2001:db8::1]", "true", "Network is unreachable"),
        ("198.51.100.1", "ip route add unreachable 198.51.100.0/24", "No route to host"),
        ("[2001:db8:7::1]", no_source, "Cannot assign requested address"),
    ] {
        assert!(net.node().command("sh").args(["-ec", script]).status().unwrap().success());
        let mut endpoints: Vec<_> =
            (8000..8007).map(|port| format!("{nowhere}:{port}").parse().unwrap()).collect();
        let weir = Weir::new().beside(&net).set("limits", "{ attempts: 1 }").service("nowhere", &endpoints);
        endpoints.push(pod.at(80));
        let weir = weir.service("hello", &endpoints).start();
        let answer = weir.get("http://nowhere/").text();
        assert!(answer.contains(why), "{answer}");
        for number in 0..20 {
            let answer = weir.get("http://hello/");
            assert_eq!(answer.text(), "one", "{nowhere}, request {number}");
        }
    }
}

#[test]
fn seven_endpoints_that_refuse_cost_no_request_while_the_eighth_serves() {
    let (refusing, backend) = ([(); 7].map(|()| Refusing::new()), Backend::patient());
    let mut endpoints = refusing.each_ref().map(Refusing::addr).to_vec();
    endpoints.push(backend.addr());
    // Also where only one attempt is allowed: those that refuse have seen nothing of the request.
    for limits in ["{}", "{ attempts: 1 }"] {
        // The first requests are the ones that count: later it is known who answers.
        for ask in [Request::get("http://hello/"), Request::post("http://hello/", "body")] {
            let weir = Weir::new().set("limits", limits).service("hello", &endpoints).start();
            for _ in 0..10 {
                weir.ask(&ask).expect_body("ok");
            }
        }
        let weir = Weir::new().set("limits", limits).service("hello", &endpoints).start();
        for _ in 0..10 {
            let mut client = weir.client();
            client.start(&Request::new("CONNECT", "hello:80"));
            assert_eq!(client.head().status(), Some(200), "{limits}");
            client.send("GET / HTTP/1.1\r\nHost: hello\r\n\r\n");
            assert_eq!(client.head().status(), Some(200), "{limits}");
        }
    }
}

#[test]
fn a_service_of_dead_endpoints_is_given_up_after_each_was_asked_once() {
    let refusing = [(); 6].map(|()| Refusing::new());
    let weir = Weir::serving("hello", &refusing.each_ref().map(Refusing::addr));
    weir.get("http://hello/").expect_status(502);
    let asked = refusing.each_ref().map(|it| weir.endpoint(it.addr())["connects"].as_u64().unwrap());
    assert_eq!(asked, [1; 6]);
    // One endpoint is asked again as often as `attempts` says.
    let weir = Weir::serving("hello", &[refusing[0].addr()]);
    weir.get("http://hello/").expect_status(502);
    assert_eq!(weir.metric("weir_endpoint_connects_total", &[]), 3.0);
}

#[test]
fn endpoints_that_swallow_connections_are_given_up_when_their_time_together_is_over() {
    let swallowing = [(); 8].map(|()| Swallowing::new());
    let weir = Weir::new().set("limits", "{ connect: 200ms, connectTotal: 500ms }");
    let weir = weir.service("hello", &swallowing.each_ref().map(Swallowing::addr)).start();
    weir.get("http://hello/").expect_status(504);
    let connects = weir.metric("weir_endpoint_connects_total", &[]);
    assert!((2.0..=3.0).contains(&connects), "{connects}");
}

#[test]
fn an_endpoint_that_swallows_connections_costs_one_connect_timeout_at_most() {
    let (swallowing, backend) = (Swallowing::new(), Backend::patient());
    let endpoints = [swallowing.addr(), backend.addr()];
    let weir = Weir::new().set("limits", "{ connect: 200ms }").service("hello", &endpoints).start();
    let begun = Clock::start();
    for _ in 0..20 {
        weir.get("http://hello/").expect_body("ok");
    }
    // Five failures eject it, so twenty requests wait five times at most.
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn a_connect_that_takes_too_long_is_answered_in_time() {
    let swallowing = Swallowing::new();
    let weir = Weir::new().set("limits", "{ connect: 200ms }").service("hello", &[swallowing.addr()]).start();
    let begun = Clock::start();
    let answer = weir.get("http://hello/");
    answer.expect_status(504);
    assert!(answer.l5d_err().contains(&swallowing.addr().to_string()), "{:?}", answer.l5d_err());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn an_ipv6_endpoint_serves_beside_an_ipv4_one() {
    let (four, six) = (
        Backend::http().answers("4").start(),
        Backend::http().answers("6").on("[::1]:0".parse().unwrap()).start(),
    );
    let weir = Weir::serving("hello", &[four.addr(), six.addr()]);
    let load = Load::get(weir.outgoing(), "http://hello/");
    eventually("answers of both", || load.tally().from("4") > 0 && load.tally().from("6") > 0);
    load.stop().expect_no_failure();
}
