//! Where weir listens changes with the upgrade, or while it is under way.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use e2e::load::Reuse;
use e2e::time::holds_for;
use e2e::{Client, Load, Request, eventually};
use nix::sys::signal::Signal;

use super::{PROXY, ends, gets_ready, is_ready, next, unready, upgrade, waiting};
use crate::transparent::{Stage, dialler};

fn load(stage: &Stage) -> Load {
    Load::start(2, Reuse::Never, &Request::get("http://hello/"), dialler(&stage.client, PROXY))
}

#[test]
fn an_upgrade_may_narrow_and_widen_the_address_that_weir_listens_at() {
    let Some(mut stage) = Stage::set() else { return };
    let _backends = stage.backends();
    stage.start(next(&stage, |builder| builder));
    let mut current = stage.take_weir();
    let load = load(&stage);
    let loopback: SocketAddr = "127.0.0.1:4140".parse().unwrap();
    for (listen, at_loopback) in
        [("10.1.0.1:4140", false), ("0.0.0.0:4140", true), ("10.1.0.1:4140", false), ("[::]:4140", true)]
    {
        load.answered(20);
        let outgoing = format!("{{ listen: \"{listen}\" }}");
        let new = upgrade(&current, next(&stage, |builder| builder.set("outgoing", &outgoing)));
        ends(std::mem::replace(&mut current, new));
        load.answered(20);
        let connected = stage.net.node().connect(loopback);
        assert_eq!(connected.is_ok(), at_loopback, "{listen}: {connected:?}");
        if let Ok(connected) = connected {
            Client::over(connected).get("http://hello/").expect_status(200);
        }
        assert!(current.accepted("outgoing") > 0.0, "{listen}");
    }
    // Where the address is another one, who connects just then finds neither; it tries again.
    let tally = load.stop();
    tally.expect_no_failure();
}

#[test]
fn a_reload_before_a_weir_is_ready_takes_no_connection_from_the_one_that_serves() {
    let Some(mut stage) = Stage::set() else { return };
    let _backends = stage.backends();
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    let load = load(&stage);
    // Other rules than the old one's: whom it served, the answer would tell.
    let settings = |builder| unready(builder).set("dtab", "\"/svc => /$/inet/127.0.0.1/1 ;\"");
    let new = waiting(&old, next(&stage, settings));
    let config = new.folder().path().join("weir.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    let reload = |text: &str, number: usize| {
        new.folder().config(text);
        new.signal(Signal::SIGHUP);
        eventually("the reload", || new.log().matches("configuration reloaded").count() == number);
        load.answered(100);
    };
    reload(&text.replace("127.0.0.1/1 ", "127.0.0.1/2 "), 1);
    // Not even an address that it will not listen at any more is taken from the old one, or made to refuse clients.
    reload(&text.replace("[::]:4140", "[::]:4145"), 2);
    reload(&text.replace("[::]:4140", "[::]:4145").replace("127.0.0.1/1 ", "127.0.0.1/3 "), 3);
    load.answered(100);
    assert!(!is_ready(&new) && is_ready(&old));
    load.stop().expect_no_failure();
    // Once it serves it listens where it was told to.
    drop(new);
    let new = waiting(&old, next(&stage, unready));
    gets_ready(&new);
    new.expect_log("serving in place of the weir before this one");
    // The old one may accept for a moment more.
    eventually("it to accept there", || {
        Client::over(dialler(&stage.client, PROXY)().unwrap()).get("http://hello/").expect_status(200);
        new.accepted("outgoing") > 0.0
    });
}

#[test]
fn a_weir_without_the_hand_over_starts_after_the_end_of_one_with_it_and_not_beside_it() {
    let Some(mut stage) = Stage::set() else { return };
    let _backends = stage.backends();
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    let load = load(&stage);
    let rolled_back = || next(&stage, |builder| builder.set("drain", "{ grace: 2s }"));
    let exit = rolled_back().fails();
    assert_eq!(exit.code, Some(1));
    assert!(exit.stderr.contains("another process has port 4140"), "{}", exit.stderr);
    load.answered(20);
    load.stop().expect_no_failure();
    old.signal(Signal::SIGTERM);
    ends(old);
    let rolled_back = rolled_back().start();
    eventually("readiness", || is_ready(&rolled_back));
    Client::over(dialler(&stage.client, PROXY)().unwrap()).get("http://hello/").expect_status(200);
    // Back again: one without it gives nothing, so that its end comes first.
    let exit = next(&stage, |builder| builder).fails();
    assert!(exit.stderr.contains("another process has port 4140"), "{}", exit.stderr);
    rolled_back.signal(Signal::SIGTERM);
    ends(rolled_back);
    stage.start(next(&stage, |builder| builder));
}

#[test]
fn where_somebody_has_the_other_half_of_the_ports_the_old_weir_goes_on_and_the_next_one_says_why() {
    let Some(mut stage) = Stage::set() else { return };
    let _backends = stage.backends();
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    let load = load(&stage);
    let taken = stage.net.node().listen("0.0.0.0:4147".parse().unwrap()).unwrap();
    let optional = |builder: e2e::weir::builder::Builder| {
        let cgroup = stage.net.pods_cgroup();
        let settings = format!("{{ sockets: node, addresses: [10.1.0.1], cgroup: {} }}", cgroup.display());
        builder.set("transparent", &settings)
    };
    let new = waiting(&old, next(&stage, optional));
    let said = super::exec_probe(&new, "ready").1;
    assert!(
        said.contains("transparent: cannot listen on") && said.contains(":4142: another process has port"),
        "{said}"
    );
    load.answered(20);
    assert!(holds_for(Duration::from_secs(1), || is_ready(&old) && !is_ready(&new)));
    drop((new, taken));
    let _current = upgrade(&old, next(&stage, |builder| builder));
    load.answered(20);
    load.stop().expect_no_failure();
    ends(old);
}

#[test]
fn a_weir_that_waits_for_its_ports_answers_probes_meanwhile() {
    let Some(mut stage) = Stage::set() else { return };
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    let _taken = stage.net.node().listen("0.0.0.0:4147".parse().unwrap()).unwrap();
    let new = next(&stage, |builder| builder);
    let folder = new.folder().path().to_owned();
    let (_new, ready, live) = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            old.expect_log("the next weir takes the listeners over");
            // It tries for some seconds.
            ["ready", "live"].map(|what| super::exec_probe_in(&folder, what))
        });
        let new = new.start();
        let [ready, live] = asking.join().unwrap();
        (new, ready, live)
    });
    assert!(ready.1.contains("start: weir starts"), "{ready:?}");
    assert!(live.0 && is_ready(&old), "{live:?}");
}
