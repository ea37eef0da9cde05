//! The old weir gives the next one up while that one begins to serve; and `fail: closed` while two are there.

use std::process::Command;
use std::time::Duration;

use e2e::load::Reuse;
use e2e::time::holds_for;
use e2e::weir::builder::Builder;
use e2e::{Client, Load, Request, eventually};
use nix::sys::signal::Signal;

use super::failures::Fake;
use super::strangers::PYTHON;
use super::{
    PROXY, database, echoes, ends, exec_probe, follows_with, gets_ready, next, next_in_pods, socket, tunnel,
    unready, upgrade, waiting,
};
use crate::transparent::{Stage, V4, V6, address, dialler};

#[test]
fn a_weir_that_is_given_up_when_it_serves_already_ends() {
    let Some(stage) = Stage::set() else { return };
    let gives = "t = socket.create_server(('10.1.0.1', 4140))\n\
        socket.send_fds(c, [b'{\"is\":\"listeners\",\"version\":1}'], [t.fileno()])\n\
        while b'serves' not in c.recv(65536): pass\n\
        c.send(b'{\"is\":\"enough\",\"why\":\"too late\"}')";
    let _fake = Fake::start(&stage, gives);
    let mut weir = next(&stage, |builder| builder.set("outgoing", "{ listen: \"10.1.0.1:4140\" }")).start();
    assert_eq!(weir.wait(Duration::from_secs(60)).code(), Some(1));
    weir.expect_log("the weir before this one serves on: too late");
}

#[test]
fn a_weir_that_is_dismissed_after_it_was_told_to_stop_refuses_nothing_and_nobody_takes_over_from_it() {
    let Some(stage) = Stage::set() else { return };
    let (_direct, _database) = (stage.direct(), database(&stage.b));
    let gives = "t = socket.create_server(('10.1.0.1', 4140))\n\
        socket.send_fds(c, [b'{\"is\":\"listeners\",\"version\":1}'], [t.fileno()])\n\
        while b'serves' not in c.recv(65536): pass\n\
        sys.stdin.readline()\n\
        c.send(b'{\"is\":\"enough\",\"why\":\"too late\"}')";
    let mut first = Fake::start(&stage, gives);
    let at = |builder: Builder| builder.set("outgoing", "{ listen: \"10.1.0.1:4140\" }");
    let drain = format!("{{ grace: 20s, handover: {{ socket: {} }} }}", socket(&stage.net).display());
    let closed = |builder| at(builder).set_in("transparent", "fail", "closed").set("drain", &drain);
    let mut weir = next(&stage, closed).start();
    weir.expect_log("serving in place of the weir before this one");
    let mut third = waiting(&weir, next(&stage, |builder| unready(at(builder))));
    let _open = tunnel(&stage);
    weir.signal(Signal::SIGTERM);
    weir.expect_log("serving until the next weir does, which is about to");
    first.go_on();
    assert_eq!(third.wait(Duration::from_secs(30)).code(), Some(1));
    third.expect_log("the weir before this one serves on: the weir before it serves on, and it ends");
    weir.expect_log("draining");
    // What the first one's programs divert is no business of this one's any more.
    let refused = (0..50).filter(|_| stage.client.connect(address(V4)).is_err()).count();
    assert!(!weir.has_ended(), "its tunnel is open");
    // One may have been diverted when it was told.
    assert!(refused <= 1, "{refused} connects were refused");
}

#[test]
fn a_weir_whose_path_was_taken_by_one_that_it_gave_up_is_found_by_the_next_one() {
    let Some(mut stage) = Stage::set() else { return };
    let _backends = stage.backends();
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    let path = socket(&stage.net);
    let takes = format!(
        "{PYTHON}\n\
        c = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n\
        c.connect({path:?})\n\
        c.send(b'{{\"is\":\"next\",\"version\":1}}')\n\
        socket.recv_fds(c, 4096, 250)\n\
        s = offered({path:?})\n\
        c.send(b'{{\"is\":\"else\"}}')\n\
        c.send(b'{{\"is\":\"serves\"}}')\n\
        print(c.recv(4096))"
    );
    let output = stage.net.weir_place().command("python3").args(["-c", &takes]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("enough"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    // Nobody serves beside it, and it is the one that others take over from.
    let _current = upgrade(&old, next(&stage, |builder| builder));
    ends(old);
    Client::over(dialler(&stage.client, PROXY)().unwrap()).get("http://hello/").expect_status(200);
}

#[test]
fn a_weir_that_cannot_accept_for_a_time_does_not_take_the_path_from_the_one_that_took_over() {
    let Some(mut stage) = Stage::set() else { return };
    let _backends = stage.backends();
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    let current = waiting(&old, next(&stage, unready));
    let limit = |arguments: &[&str]| {
        let mut command = Command::new("prlimit");
        let output = command.args(["--pid", &old.pid().to_string()]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let before = limit(&["--nofile", "--output", "SOFT", "--noheadings"]);
    limit(&["--nofile=4:"]);
    let asks = format!("{PYTHON}\nask({:?}, b'{{}}')", socket(&stage.net));
    let mut asking = stage.net.weir_place().command("python3").args(["-c", &asks]).spawn().unwrap();
    old.expect_log("no connection of the next weir can be accepted");
    limit(&[&format!("--nofile={before}:")]);
    gets_ready(&current);
    current.expect_log("serving in place of the weir before this one");
    old.expect_log("the next weir serves");
    // Longer than its pause.
    assert!(holds_for(Duration::from_secs(7), || super::is_ready(&current)));
    let _ = asking.wait();
    let _last = upgrade(&current, next(&stage, |builder| builder));
    old.signal(Signal::SIGTERM);
    ends(old);
    ends(current);
}

#[test]
fn with_fail_closed_a_weir_that_drains_refuses_nothing_that_the_next_one_diverts() {
    let Some(mut stage) = Stage::set() else { return };
    refuses_nothing(&mut stage, |stage| next(stage, |builder| builder));
}

#[test]
fn with_fail_closed_and_sockets_in_the_pods_a_weir_that_drains_refuses_nothing_either() {
    let Some(mut stage) = Stage::set() else { return };
    refuses_nothing(&mut stage, |stage| next_in_pods(stage, |builder| builder));
}

#[test]
fn with_fail_closed_a_weir_that_ends_beside_one_that_is_never_ready_refuses_nothing_that_this_one_diverts() {
    let Some(mut stage) = Stage::set() else { return };
    let (_backends, _direct, _database) = (stage.backends(), stage.direct(), database(&stage.b));
    let closed = |builder: Builder| {
        let builder = follows_with(builder, &stage.net, "grace: 3s");
        builder.set_in("transparent", "fail", "closed").set_in("transparent", "enrol", "all")
    };
    // Its programs divert what its files have, but it waits for an API server that is not there.
    let nowhere = "apiVersion: v1\nkind: Config\ncurrent-context: none\n\
        clusters: [{ name: none, cluster: { server: \"http://127.0.0.1:1\" } }]\n\
        contexts: [{ name: none, context: { cluster: none, user: none } }]\nusers: [{ name: none, user: {} }]\n";
    let awaits = "{ files: { path: ./services }, kubernetes: { kubeconfig: ./kubeconfig } }";
    let never = |builder: Builder| builder.file("kubeconfig", nowhere).set("discovery", awaits);
    let (first, never) = (next(&stage, closed), never(next(&stage, closed)));
    stage.start(first);
    let mut old = stage.take_weir();
    let _open = tunnel(&stage);
    let get = Request::get("/").with("Host", "hello").with("Connection", "close");
    let loads = [V4, V6].map(|to| Load::start(1, Reuse::Never, &get, dialler(&stage.client, to)));
    for load in &loads {
        load.answered(20);
    }
    let never = waiting(&old, never);
    eventually("it to intercept", || exec_probe(&never, "ready").1.contains("interception: ok"));
    old.signal(Signal::SIGTERM);
    // `drain.handover.grace` for it to get ready, and `drain.grace`.
    assert_eq!(old.wait(Duration::from_secs(30)).code(), Some(0), "{}", old.log());
    for load in &loads {
        load.answered(20);
    }
    for load in loads {
        let tally = load.stop();
        tally.expect_no_failure();
        assert!(tally.from("direct") * 10 <= tally.ok(), "{tally:?}");
    }
    assert!(never.decisions("diverted") > 0.0);
}

#[track_caller]
fn refuses_nothing(stage: &mut Stage, following: impl Fn(&Stage) -> Builder) {
    let closed = |stage: &Stage| following(stage).set_in("transparent", "fail", "closed");
    let (_backends, _direct, _database) = (stage.backends(), stage.direct(), database(&stage.b));
    stage.start(closed(stage));
    let old = stage.take_weir();
    let mut open = tunnel(stage);
    let get = Request::get("/").with("Host", "hello").with("Connection", "close");
    eventually("diversion", || {
        let _ = dialler(&stage.client, V4)();
        old.decisions("diverted") > 0.0
    });
    let loads = [V4, V6].map(|to| Load::start(1, Reuse::Never, &get, dialler(&stage.client, to)));
    for load in &loads {
        load.answered(20);
    }
    let current = upgrade(&old, closed(stage));
    for load in &loads {
        load.answered(50);
    }
    echoes(&mut open, "still");
    for load in loads {
        load.stop().expect_no_failure();
    }
    assert!(current.decisions("diverted") > 0.0);
    drop(open);
    ends(old);
}
