//! What was lost comes back: an old weir that died, and the socket where weirs meet.

use std::fs;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use e2e::load::Reuse;
use e2e::time::holds_for;
use e2e::{Client, Load, Request, eventually};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Pid;

use super::{
    PROXY, database, echoes, ends, exec_probe_in, gets_ready, is_ready, is_required, next, socket, tunnel,
    unready, upgrade, waiting,
};
use crate::transparent::{Stage, dialler};

/// The UIDs of two pods of the DaemonSet.
const OLD: &str = "0b7f1c1e-1";
const NEXT: &str = "0b7f1c1e-2";

/// Explicit load on new connections.
fn load(stage: &Stage) -> Load {
    Load::start(2, Reuse::Never, &Request::get("http://hello/"), dialler(&stage.client, PROXY))
}

#[test]
fn an_old_weir_that_died_takes_over_again_from_a_next_one_that_is_never_ready() {
    let Some(mut stage) = Stage::set() else { return };
    let _backends = stage.backends();
    let of = |uid: &'static str| next(&stage, move |builder| builder.env("POD_UID", uid));
    let broken = || next(&stage, |builder| unready(builder.env("POD_UID", NEXT)));
    let (first, stopgap, again, stopgap_again) = (of(OLD), broken(), of(OLD), broken());
    stage.start(first);
    let mut old = stage.take_weir();
    let mut stopgap = waiting(&old, stopgap);
    old.kill();
    stopgap.expect_log("the weir before this one has ended: serving at once");
    let load = load(&stage);
    load.answered(20);
    // kubelet starts the old one's container again.
    let again = again.start();
    again.expect_log("serving in place of the weir before this one");
    eventually("its readiness", || is_ready(&again));
    load.answered(20);
    // The other one ends, to begin again as the next one; which it is, as before.
    assert_eq!(stopgap.wait(Duration::from_secs(30)).code(), Some(1));
    stopgap.expect_log("this weir was never ready, and another one serves now");
    drop(waiting(&again, stopgap_again));
    eventually("it to be given up", || again.metric("weir_handovers_total", &[("result", "lost")]) == 1.0);
    let _current = upgrade(&again, next(&stage, |builder| builder));
    load.answered(20);
    load.stop().expect_no_failure();
    ends(again);
}

#[test]
fn a_next_one_that_gets_ready_after_the_old_ones_death_gives_nothing_back_to_it() {
    let Some(mut stage) = Stage::set() else { return };
    let of = |uid: &'static str| next(&stage, move |builder| builder.env("POD_UID", uid));
    let (first, second, again) = (of(OLD), unready(of(NEXT)), of(OLD));
    stage.start(first);
    let mut old = stage.take_weir();
    let second = waiting(&old, second);
    old.kill();
    second.expect_log("the weir before this one has ended: serving at once");
    gets_ready(&second);
    eventually("its readiness", || is_ready(&second));
    let exit = again.fails();
    assert!(exit.stderr.contains("this weir has taken over from that pod"), "{}", exit.stderr);
    assert!(is_ready(&second));
}

#[test]
fn a_stopgap_that_drains_ends_and_serves_again_when_the_weir_that_took_over_from_it_is_gone() {
    let Some(mut stage) = Stage::set() else { return };
    let (_backends, _database) = (stage.backends(), database(&stage.b));
    let of = |uid: &'static str| next(&stage, move |builder| builder.env("POD_UID", uid));
    let broken = || next(&stage, |builder| unready(builder.env("POD_UID", NEXT)));
    let (first, stopgap, again, stopgap_again) = (of(OLD), broken(), of(OLD), broken());
    stage.start(first);
    let mut old = stage.take_weir();
    let mut stopgap = waiting(&old, stopgap);
    old.kill();
    stopgap.expect_log("the weir before this one has ended: serving at once");
    // It may stay for `drain.handover.grace`, five minutes.
    let _open = tunnel(&stage);
    let again = again.start();
    again.expect_log("serving in place of the weir before this one");
    stopgap.expect_log("draining: the next weir serves");
    // Its pod is deleted: it was not ready for a time.
    again.signal(Signal::SIGTERM);
    ends(again);
    assert_eq!(stopgap.wait(Duration::from_secs(60)).code(), Some(1), "{}", stopgap.log());
    stopgap.expect_log("this weir was never ready, and no other one serves now");
    // kubelet starts its container again.
    let _stopgap = stopgap_again.start();
    Client::over(dialler(&stage.client, PROXY)().unwrap()).get("http://hello/").expect_status(200);
}

#[test]
fn a_weir_that_was_ready_after_the_old_ones_death_gives_it_nothing_back_when_it_is_not_ready_any_more() {
    let Some(mut stage) = Stage::set() else { return };
    let of = |uid: &'static str| next(&stage, move |builder| builder.env("POD_UID", uid));
    let (first, second, again) = (of(OLD), unready(of(NEXT)), of(OLD));
    stage.start(first);
    let mut old = stage.take_weir();
    let second = waiting(&old, second);
    old.kill();
    second.expect_log("the weir before this one has ended: serving at once");
    gets_ready(&second);
    eventually("its readiness", || is_ready(&second));
    assert!(holds_for(Duration::from_secs(3), || is_ready(&second)));
    is_required(&second, true);
    eventually("its end", || !is_ready(&second));
    let exit = again.fails();
    assert!(exit.stderr.contains("this weir has taken over from that pod"), "{}", exit.stderr);
}

#[test]
fn a_weir_whose_socket_was_removed_makes_it_again_and_is_found() {
    let Some(mut stage) = Stage::set() else { return };
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    fs::remove_file(socket(&stage.net)).unwrap();
    old.expect_log("the socket for the next weir is gone: it is made again");
    let _current = upgrade(&old, next(&stage, |builder| builder));
    ends(old);
}

#[test]
fn a_weir_that_starts_while_the_socket_is_gone_looks_until_it_is_there_again() {
    let Some(mut stage) = Stage::set() else { return };
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    // It does not make it again meanwhile.
    old.pause();
    fs::remove_file(socket(&stage.net)).unwrap();
    let new = next(&stage, |builder| builder);
    let folder = new.folder().path().to_owned();
    let starts = || exec_probe_in(&folder, "ready").1.contains("start: weir starts");
    let (new, looks) = thread::scope(|scope| {
        let looking = scope.spawn(|| {
            eventually("its start", starts);
            let looks = holds_for(Duration::from_secs(1), starts);
            old.signal(Signal::SIGCONT);
            looks
        });
        (new.start(), looking.join().unwrap())
    });
    assert!(looks, "{}", new.log());
    new.expect_log("serving in place of the weir before this one");
    old.signal(Signal::SIGTERM);
    ends(old);
}

#[test]
fn a_weir_that_looks_for_the_one_that_has_its_port_ends_when_it_is_told_to() {
    let Some(stage) = Stage::set() else { return };
    let _taken = stage.net.node().listen("0.0.0.0:4140".parse().unwrap()).unwrap();
    let weir = next(&stage, |builder| builder);
    let socket = weir.folder().path().join("probe.sock");
    thread::scope(|scope| {
        let ending = scope.spawn(|| weir.fails());
        let mut process = None;
        eventually("its start", || {
            let asked = UnixStream::connect(&socket).ok();
            process = asked.and_then(|it| getsockopt(&it, PeerCredentials).ok());
            process.is_some()
        });
        kill(Pid::from_raw(process.unwrap().pid()), Signal::SIGTERM).unwrap();
        assert_eq!(ending.join().unwrap().code, Some(0));
    });
}

#[test]
fn a_weir_that_is_stopped_while_the_one_before_it_drains_refuses_nobody_as_long_as_it_is_there() {
    let Some(mut stage) = Stage::set() else { return };
    let (_backends, _database) = (stage.backends(), database(&stage.b));
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    let mut of_old = tunnel(&stage);
    let mut current = upgrade(&old, next(&stage, |builder| builder));
    eventually("word of the drain", || current.metric("weir_handover_draining_connections", &[]) >= 1.0);
    // What comes within the hand-over, the old one may still accept.
    let mut of_current = None;
    eventually("a tunnel of the current one", || {
        let mut tunnel = tunnel(&stage);
        echoes(&mut tunnel, "open");
        of_current = Some(tunnel);
        current.metric("weir_tunnels_open", &[]) >= 1.0
    });
    let load = load(&stage);
    load.answered(20);
    let signalled = Instant::now();
    current.signal(Signal::SIGTERM);
    assert_eq!(current.wait(Duration::from_secs(30)).code(), Some(0), "{}", current.log());
    // `drain.grace`, which its tunnel lasts.
    load.stop().expect_only_refused_from(signalled + Duration::from_secs(2));
    echoes(&mut of_old, "still");
    drop((of_old, of_current));
    ends(old);
}
