//! weir killed or stopped: connections go direct. The link descriptors are held open by the test meanwhile, because
//! otherwise the programs would vanish with weir, and a missing dead-man switch would show nowhere.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{MAPPED, Stage, V4, V6, address, dialler, until_diverted};
use e2e::hung::Hung;
use e2e::load::Reuse;
use e2e::net::links::HeldLinks;
use e2e::{Client, Clock, Load, Request, Weir};

/// Holds every link on the pods' cgroup, and fails when there are fewer than the hooks weir has.
#[track_caller]
fn hold(stage: &Stage) -> HeldLinks {
    let links = HeldLinks::on(&stage.net.pods_cgroup());
    assert!(links.len() >= 5, "only {} links on the pods' cgroup", links.len());
    links
}

#[test]
fn after_a_sigkill_the_next_connect_goes_direct_though_the_programs_are_still_attached() {
    let Some(mut stage) = Stage::running() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    until_diverted(&stage);
    let get = Request::get("/").with("Host", "hello").with("Connection", "close");
    let load = Load::start(2, Reuse::Never, &get, dialler(&stage.client, V4));
    load.answered(50);
    let links = hold(&stage);
    let mut weir = stage.take_weir();
    weir.kill();
    for to in [V4, V6, MAPPED] {
        assert_eq!(stage.get(to), "direct");
    }
    assert_eq!(stage.dial(V4).stream().peer_addr().unwrap(), address(V4));
    load.answered(50);
    assert!(load.stop().from("direct") > 0);
    assert_eq!(
        HeldLinks::on(&stage.net.pods_cgroup()).len(),
        links.len(),
        "the programs were gone, so this shows nothing"
    );
}

#[test]
fn a_stopped_weir_is_found_out_by_its_heartbeat() {
    let Some(mut stage) = Stage::running() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    until_diverted(&stage);
    stage.weir().pause();
    let stopped = Clock::start();
    // Connections of the first two seconds hang in the accept queue; what counts is when the first goes direct.
    loop {
        let mut client = stage.dial(V4);
        client.start(&Request::get("/"));
        if !client.silent_for(Duration::from_millis(100)) {
            assert_eq!(client.response().text(), "direct");
            break;
        }
        assert!(!stopped.is_past(Duration::from_secs(4)), "still diverted to a stopped weir");
    }
    assert!(stopped.elapsed() < Duration::from_millis(3500), "{:?}", stopped.elapsed());
    assert_eq!((stage.get(V4), stage.get(V6)), ("direct".into(), "direct".into()));
    stage.weir().signal(Signal::SIGCONT);
    until_diverted(&stage);
}

#[test]
fn a_hung_worker_is_found_out_two_seconds_after_it_last_moved() {
    let Some(mut stage) = Stage::running() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    until_diverted(&stage);
    let worker = stage.weir().workers()[0];
    let hung = Hung::thread(worker);
    // The other worker serves meanwhile.
    e2e::time::within(Duration::from_secs(3), "a direct answer", || stage.get(V4) == "direct");
    drop(hung);
    until_diverted(&stage);
}

#[test]
fn connections_that_waited_while_weir_was_stopped_are_served_when_it_goes_on() {
    let Some(mut stage) = Stage::running() else { return };
    let _backends = stage.backends();
    until_diverted(&stage);
    stage.weir().pause();
    let mut client = stage.dial(V4);
    client.start(&Request::get("/"));
    assert!(client.silent_for(Duration::from_millis(300)));
    stage.weir().signal(Signal::SIGCONT);
    client.response().expect_status(200);
}

#[test]
fn a_weir_started_after_a_kill_diverts_again() {
    let Some(mut stage) = Stage::running() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    until_diverted(&stage);
    let mut weir = stage.take_weir();
    weir.kill();
    assert_eq!(stage.get(V4), "direct");
    drop(weir);
    stage.start(Weir::new().on_node(&stage.net).kubernetes(&stage.hello()));
    assert_ne!(stage.get(V4), "direct");
}

#[test]
fn fail_closed_refuses_instead() {
    let closed = |builder: e2e::weir::builder::Builder| builder.set_in("transparent", "fail", "closed");
    let Some(mut stage) = Stage::running_with(closed) else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    until_diverted(&stage);
    let _links = hold(&stage);
    let mut weir = stage.take_weir();
    let ports: Vec<u16> = weir.transparent().iter().map(std::net::SocketAddr::port).collect();
    weir.kill();
    // Somebody else takes the ports: it must be the programs that refuse, not the absence of a listener.
    let take = |port: &u16| {
        ["0.0.0.0", "::"]
            .map(|ip| stage.net.node().listen((ip.parse::<IpAddr>().unwrap(), *port).into()).unwrap())
    };
    let _taken: Vec<_> = ports.iter().map(take).collect();
    for to in [V4, V6] {
        let refused = stage.client.connect(address(to)).map(drop).map_err(|e| e.kind());
        assert_eq!(refused, Err(ErrorKind::ConnectionRefused), "{to}");
    }
    // What is not in scope is not refused.
    let _beyond = stage.greets_beyond("10.96.0.10:2222", "x");
    let node = stage.net.node();
    Client::over(node.connect(address("10.96.0.10:2222")).unwrap()).expect("x");
}
