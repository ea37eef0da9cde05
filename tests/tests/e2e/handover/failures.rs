//! One of the two weirs dies, hangs, or is of another version; or there are three.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::Duration;

use e2e::load::Reuse;
use e2e::time::holds_for;
use e2e::weir::builder::Builder;
use e2e::{Client, Load, Request, Weir, eventually};
use nix::sys::signal::Signal;

use super::{
    PROXY, database, echoes, ends, exec_probe, follows_with, gets_ready, is_ready, next, probe, tunnel,
    unready, upgrade, waiting,
};
use crate::transparent::{Stage, V4, dialler};

/// Explicit load on new connections.
fn load(stage: &Stage) -> Load {
    Load::start(2, Reuse::Never, &Request::get("http://hello/"), dialler(&stage.client, PROXY))
}

#[test]
fn a_next_weir_that_dies_in_the_middle_leaves_the_old_one_serving() {
    let Some(mut stage) = Stage::set() else { return };
    let (_backends, _database) = (stage.backends(), database(&stage.b));
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    let (load, mut open) = (load(&stage), tunnel(&stage));
    let lost = || old.metric("weir_handovers_total", &[("result", "lost")]);
    for (number, signal) in (1..).zip([Signal::SIGKILL, Signal::SIGTERM, Signal::SIGSTOP]) {
        let mut dying = waiting(&old, next(&stage, unready));
        load.answered(20);
        dying.signal(signal);
        // One that hangs is given up after some seconds.
        eventually("it to be given up", || lost() == f64::from(number));
        assert_eq!(probe(&stage.net, "/ready"), 200);
        if signal == Signal::SIGSTOP {
            // When it goes on, it learns that it must not serve.
            dying.signal(Signal::SIGCONT);
            assert_eq!(dying.wait(Duration::from_secs(30)).code(), Some(1));
            dying.expect_log("the weir before this one serves on: the next weir hangs");
        }
        dying.kill();
        load.answered(20);
    }
    // And the next but one takes over.
    let _current = upgrade(&old, next(&stage, |builder| builder));
    load.answered(20);
    load.stop().expect_no_failure();
    echoes(&mut open, "still");
    drop(open);
    ends(old);
}

#[test]
fn a_next_weir_that_is_never_ready_is_given_up_and_ends() {
    let Some(mut stage) = Stage::set() else { return };
    let _backends = stage.backends();
    let impatient = |builder: Builder| follows_with(builder, &stage.net, "grace: 5m, ready: 3s");
    let (first, never) = (next(&stage, impatient), next(&stage, unready));
    stage.start(first);
    let old = stage.take_weir();
    let load = load(&stage);
    // On a busy machine the three seconds are over soon.
    let mut never = never.start();
    assert_eq!(never.wait(Duration::from_secs(30)).code(), Some(1));
    never.expect_log("the weir before this one serves on: the next weir is not ready after 3 s");
    load.answered(20);
    assert!(is_ready(&old));
    assert_eq!(old.metric("weir_handovers_total", &[("result", "lost")]), 1.0);
    // One that gets ready is to have the time, also on a busy machine.
    let config = std::fs::read_to_string(old.folder().path().join("weir.yaml")).unwrap();
    old.folder().config(&config.replace("ready: 3s", "ready: 5m"));
    old.signal(Signal::SIGHUP);
    old.expect_log("configuration reloaded");
    let _current = upgrade(&old, next(&stage, |builder| builder));
    load.answered(20);
    load.stop().expect_no_failure();
    ends(old);
}

#[test]
fn when_the_old_weir_dies_the_next_one_serves_at_once_and_no_connect_is_refused() {
    let Some(mut stage) = Stage::set() else { return };
    let _backends = stage.backends();
    stage.start(next(&stage, |builder| builder));
    let mut old = stage.take_weir();
    let load = load(&stage);
    load.answered(20);
    let next_one = waiting(&old, next(&stage, unready));
    old.kill();
    load.answered(50);
    next_one.expect_log("the weir before this one has ended: serving at once");
    let tally = load.stop();
    // What the old one had accepted is lost with it.
    let refused: Vec<_> = tally.failures.keys().filter(|it| it.starts_with("connect")).collect();
    assert!(refused.is_empty(), "{tally:?}");
    assert!(next_one.accepted("outgoing") > 0.0);
}

#[test]
fn a_weir_that_is_told_to_stop_during_the_hand_over_serves_until_the_next_one_does_and_drains_as_configured()
{
    let Some(mut stage) = Stage::set() else { return };
    let (_backends, _database) = (stage.backends(), database(&stage.b));
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    let (load, mut open) = (load(&stage), tunnel(&stage));
    let next_one = waiting(&old, next(&stage, unready));
    old.signal(Signal::SIGTERM);
    old.expect_log("serving until the next weir does, which is about to");
    // Longer than `drain.grace`, which is for a weir that nobody follows.
    assert!(holds_for(Duration::from_secs(4), || is_ready(&old)));
    load.answered(20);
    gets_ready(&next_one);
    next_one.expect_log("serving in place of the weir before this one");
    old.expect_log("draining: the next weir serves");
    load.answered(50);
    load.stop().expect_no_failure();
    // Past `drain.grace` again: it has `drain.handover.grace`.
    assert!(holds_for(Duration::from_secs(4), || exec_probe(&old, "live").0));
    echoes(&mut open, "still");
    drop(open);
    ends(old);
}

#[test]
fn a_weir_that_is_stopped_while_the_next_one_never_gets_ready_ends_and_leaves_it_the_rest() {
    let Some(mut stage) = Stage::set() else { return };
    let (_backends, _database) = (stage.backends(), database(&stage.b));
    let brief = next(&stage, |builder| follows_with(builder, &stage.net, "grace: 3s"));
    stage.start(brief);
    let mut old = stage.take_weir();
    let (load, _open) = (load(&stage), tunnel(&stage));
    load.answered(20);
    let next_one = waiting(&old, next(&stage, unready));
    old.signal(Signal::SIGTERM);
    // `drain.handover.grace` for the next one to get ready, and `drain.grace`; then that one serves all the same.
    assert_eq!(old.wait(Duration::from_secs(30)).code(), Some(0));
    load.answered(50);
    load.stop().expect_no_failure();
    assert!(next_one.accepted("outgoing") > 0.0);
}

#[test]
fn when_the_next_weir_is_killed_after_the_upgrade_the_old_one_drains_on_and_its_ports_are_free() {
    let Some(mut stage) = Stage::set() else { return };
    let (_backends, _database) = (stage.backends(), database(&stage.b));
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    let mut open = tunnel(&stage);
    let mut current = next(&stage, |builder| builder).start();
    old.expect_log("draining: the next weir serves");
    current.kill();
    echoes(&mut open, "still");
    // Its container is started again.
    let again = next(&stage, |builder| builder).start();
    eventually("readiness", || is_ready(&again));
    Client::over(dialler(&stage.client, PROXY)().unwrap()).get("http://hello/").expect_status(200);
    let last = upgrade(&again, next(&stage, |builder| builder));
    echoes(&mut open, "and still");
    // Nobody stops the old one, but while one serves it must not end and be started again.
    drop(open);
    old.expect_log("nothing is open any more: waiting for SIGTERM");
    assert!(holds_for(Duration::from_secs(25), || exec_probe(&old, "live").0));
    // When none does, it ends, and kubelet makes a new one of it.
    drop((again, last));
    ends(old);
}

#[test]
fn of_three_weirs_at_once_one_follows_the_other() {
    let Some(mut stage) = Stage::set() else { return };
    let _backends = stage.backends();
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    let get = Request::get("/").with("Host", "hello").with("Connection", "close");
    let loads = [load(&stage), Load::start(1, Reuse::Never, &get, dialler(&stage.client, V4))];
    for load in &loads {
        load.answered(20);
    }
    // The second starts while the first is not ready yet.
    let one = next(&stage, |builder| builder).start();
    let other = next(&stage, |builder| builder).start();
    let serves = |weir: &Weir| weir.log().contains("serving in place of the weir before this one");
    eventually("both have their turn", || serves(&one) && serves(&other));
    let has_given = |weir: &Weir| weir.log().contains("the next weir serves");
    eventually("and one is the last", || has_given(&one) != has_given(&other));
    let (last, before) = if has_given(&one) { (other, one) } else { (one, other) };
    assert!(has_given(&old));
    for load in &loads {
        load.answered(50);
    }
    for weir in [old, before] {
        weir.signal(Signal::SIGTERM);
        ends(weir);
    }
    for load in &loads {
        load.answered(50);
    }
    for load in loads {
        load.stop().expect_no_failure();
    }
    assert!(last.accepted("outgoing") > 0.0);
}

/// Something of weir's own user that offers listeners as a weir does, and answers as it is told.
pub(super) struct Fake(Child);

impl Fake {
    /// `answer` is Python: what is sent on the connection `c`.
    pub(super) fn start(stage: &Stage, answer: &str) -> Self {
        let script = format!(
            "{}\ns = offered({:?})\nc, _ = s.accept()\nc.recv(4096)\n{answer}\nwait()\n",
            super::strangers::PYTHON,
            super::socket(&stage.net)
        );
        let mut command = stage.net.weir_place().command("python3");
        let mut child =
            command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "there");
        Self(child)
    }

    /// Lets it go on where it reads a line.
    pub(super) fn go_on(&mut self) {
        writeln!(self.0.stdin.as_mut().unwrap()).unwrap();
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_old_weir_of_another_version_is_left_alone_and_weir_starts_as_it_would_without() {
    let Some(mut stage) = Stage::set() else { return };
    let _backends = stage.backends();
    for (answer, said) in [
        ("c.send(b'\\x16\\x03\\x01')", "a message of another version"),
        ("c.send(b'{\"is\":\"gift\",\"version\":1}')", "a message of another version"),
        ("c.send(b'{\"is\":\"listeners\",\"version\":2}')", "it answers Listeners"),
        ("c.send(b'{\"is\":\"no\",\"version\":2,\"why\":\"new\",\"later\":false}')", "it speaks version 2"),
        ("c.send(b'x' * 20000)", "the message is too long"),
        (
            "socket.send_fds(c, [b'{\"is\":\"listeners\",\"version\":1}'], [0])",
            "a descriptor that is no socket",
        ),
        (
            "socket.send_fds(c, [b'{\"is\":\"listeners\",\"version\":1}'], [c.fileno()])",
            "a socket that does not listen",
        ),
    ] {
        let fake = Fake::start(&stage, answer);
        let weir = next(&stage, |builder| builder).start();
        weir.expect_log("the weir before this one cannot be taken over from: ");
        weir.expect_log(said);
        eventually("readiness", || weir.admin_get("/ready").status == 200);
        Client::over(dialler(&stage.client, PROXY)().unwrap()).get("http://hello/").expect_status(200);
        drop((weir, fake));
    }
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    // A next one of another version, or one that says nonsense, gets a reason and no descriptor.
    let first = "b'{\"is\":\"next\",\"version\":2}'";
    let script =
        format!("{}\nprint(ask({:?}, {first}))", super::strangers::PYTHON, super::socket(&stage.net));
    let output = stage.net.weir_place().command("python3").args(["-c", &script]).output().unwrap();
    let got = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = "the next weir speaks version 2";
    assert!(got.contains(said) && got.contains("[]"), "{got}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(old.metric("weir_handovers_total", &[("result", "stranger")]), 0.0);
}

#[test]
fn when_only_the_connection_to_the_old_weir_is_lost_the_next_one_ends_and_does_not_serve_beside_it() {
    let Some(stage) = Stage::set() else { return };
    let gives = "t = socket.create_server(('10.1.0.1', 4140))\n\
        socket.send_fds(c, [b'{\"is\":\"listeners\",\"version\":1}'], [t.fileno()])\nsys.stdin.readline()\nc.close()";
    let mut fake = Fake::start(&stage, gives);
    let mut weir =
        next(&stage, |builder| unready(builder).set("outgoing", "{ listen: \"10.1.0.1:4140\" }")).start();
    let waits = "handover: the weir before this one serves";
    eventually("it to wait", || exec_probe(&weir, "ready").1.contains(waits));
    fake.go_on();
    assert_eq!(weir.wait(Duration::from_secs(30)).code(), Some(1));
    weir.expect_log("it serves on, and has closed the connection");
    // Where the other end is gone altogether, it serves.
    drop(fake);
    let fake = Fake::start(&stage, gives);
    let weir =
        next(&stage, |builder| unready(builder).set("outgoing", "{ listen: \"10.1.0.1:4140\" }")).start();
    eventually("it to wait", || exec_probe(&weir, "ready").1.contains(waits));
    drop(fake);
    weir.expect_log("the weir before this one has ended: serving at once");
}

#[test]
fn an_old_weir_that_takes_its_time_to_die_is_followed_all_the_same() {
    let Some(stage) = Stage::set() else { return };
    // Its sockets are closed one after the other, and in between it has no turn.
    let dies = "t = socket.create_server(('10.1.0.1', 4140))\n\
        socket.send_fds(c, [b'{\"is\":\"listeners\",\"version\":1}'], [t.fileno()])\nsys.stdin.readline()\n\
        c.close()\nselect.select([], [], [], 2)\ns.close()";
    let mut fake = Fake::start(&stage, dies);
    let weir =
        next(&stage, |builder| unready(builder).set("outgoing", "{ listen: \"10.1.0.1:4140\" }")).start();
    let waits = "handover: the weir before this one serves";
    eventually("it to wait", || exec_probe(&weir, "ready").1.contains(waits));
    fake.go_on();
    weir.expect_log("the weir before this one has ended: serving at once");
}
