//! Endpoints that refuse or swallow connections cost no request while another takes it.

use std::time::{Duration, Instant};

use e2e::raw::{Refusing, Swallowing};
use e2e::{Backend, Load, Request, Weir, eventually};

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
    let weir = Weir::serving("hello", &[one.addr(), two.addr(), backend.addr()]);
    for _ in 0..30 {
        weir.get("http://hello/").expect_body("ok");
    }
}

#[test]
fn an_endpoint_that_swallows_connections_costs_one_connect_timeout_at_most() {
    let (swallowing, backend) = (Swallowing::new(), Backend::patient());
    let endpoints = [swallowing.addr(), backend.addr()];
    let weir = Weir::new().set("limits", "{ connect: 200ms }").service("hello", &endpoints).start();
    let begun = Instant::now();
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
    let begun = Instant::now();
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
