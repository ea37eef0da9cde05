//! SIGTERM under load of diverted connections: whoever's connect succeeded is answered, by weir or directly.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Stage, V4, V6, dialler, until_diverted};
use e2e::load::Reuse;
use e2e::net::links::HeldLinks;
use e2e::{Load, Request};

#[test]
fn every_client_whose_connect_succeeded_is_answered() {
    let Some(mut stage) = Stage::running() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    until_diverted(&stage);
    let _links = HeldLinks::on(&stage.net.pods_cgroup());
    let get = Request::get("/").with("Host", "hello").with("Connection", "close");
    let loads = [V4, V6].map(|to| Load::start(3, Reuse::Never, &get, dialler(&stage.client, to)));
    for load in &loads {
        load.answered(100);
    }
    stage.weir().signal(Signal::SIGTERM);
    let mut weir = stage.take_weir();
    let status = weir.wait(Duration::from_secs(12));
    for load in &loads {
        load.answered(50);
    }
    for load in loads {
        let tally = load.stop();
        tally.expect_no_failure();
        assert!(tally.from("direct") > 0 && tally.from("a") + tally.from("b") > 0, "{tally:?}");
    }
    assert_eq!(status.code(), Some(0));
}

#[test]
fn kept_connections_are_closed_between_requests_and_lose_none() {
    let Some(mut stage) = Stage::running() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    until_diverted(&stage);
    let mut client = stage.dial(V4);
    client.get("/").expect_status(200);
    stage.weir().signal(Signal::SIGTERM);
    client.closed();
    let mut weir = stage.take_weir();
    assert_eq!(weir.wait(Duration::from_secs(12)).code(), Some(0));
    assert_eq!(stage.get(V4), "direct");
}
