//! One of the two weirs dies, hangs, or is of another version; or there are three.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use e2e::load::Reuse;
use e2e::{Client, Load, Request, Weir, eventually};
use nix::sys::signal::Signal;

use super::{PROXY, database, echoes, ends, next, probe, tunnel, unready, upgrade};
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
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGSTOP] {
        let mut dying = next(&stage, unready).start();
        eventually("the next one's answer", || probe(&stage.net, "/ready") == 503);
        load.answered(20);
        dying.signal(signal);
        // One that hangs is given up after some seconds.
        eventually("the old one's answer", || probe(&stage.net, "/ready") == 200);
        dying.kill();
        load.answered(20);
    }
    old.expect_log("the next weir hangs");
    assert_eq!(old.metric("weir_handovers_total", &[("result", "lost")]), 3.0);
    // And the next but one takes over.
    let _current = upgrade(&old, next(&stage, |builder| builder));
    load.answered(20);
    load.stop().expect_no_failure();
    echoes(&mut open, "still");
    drop(open);
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
    let next_one = next(&stage, unready).start();
    eventually("the next one's answer", || probe(&stage.net, "/ready") == 503);
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
fn a_weir_that_is_stopped_before_the_next_one_is_ready_serves_on_and_then_leaves_it_the_rest() {
    let Some(mut stage) = Stage::set() else { return };
    let (_backends, _database) = (stage.backends(), database(&stage.b));
    stage.start(next(&stage, |builder| builder));
    let mut old = stage.take_weir();
    let (load, _open) = (load(&stage), tunnel(&stage));
    load.answered(20);
    let next_one = next(&stage, unready).start();
    eventually("the next one's answer", || probe(&stage.net, "/ready") == 503);
    old.signal(Signal::SIGTERM);
    // Its `drain.grace`, since the next one never gets ready; then that one serves all the same.
    assert_eq!(old.wait(Duration::from_secs(20)).code(), Some(0));
    load.answered(50);
    load.stop().expect_no_failure();
    assert!(next_one.accepted("outgoing") > 0.0);
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

/// Something in weir's own cgroup that offers listeners as a weir does, and answers as it is told.
struct Fake(Child);

impl Fake {
    /// `answer` is Python: what is sent on the connection `c`.
    fn start(stage: &Stage, answer: &str) -> Self {
        let script = format!(
            "{}\nc, _ = offered(0x900000).accept()\nc.recv(4096)\n{answer}\nwait()\n",
            super::strangers::PYTHON
        );
        let mut command = stage.net.weir_place().command("python3");
        let mut child =
            command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "there");
        Self(child)
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
        ("c.send(b'x' * 5000)", "the message is too long"),
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
    for (first, said) in [
        ("b'{\"is\":\"next\",\"version\":2,\"name\":\"weir\"}'", "the next weir speaks version 2"),
        ("b'{\"is\":\"next\",\"version\":1,\"name\":\"other\"}'", "it is not the weir other"),
    ] {
        let script = format!("{}\nprint(ask({first}))", super::strangers::PYTHON);
        let output = stage.net.weir_place().command("python3").args(["-c", &script]).output().unwrap();
        let got = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(got.contains(said) && got.contains("[]"), "{got}{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(old.metric("weir_handovers_total", &[("result", "stranger")]), 0.0);
}
