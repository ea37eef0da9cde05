//! Processes of another user: they get nothing, and are not taken for a weir; and folders that others may write to.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use e2e::{Client, eventually};

use super::{PROXY, database, echoes, ends, exec_probe, is_ready, next, socket, tunnel, upgrade};
use crate::transparent::{Stage, dialler};

/// What the programs below have in common.
pub(super) const PYTHON: &str = r#"
import os, select, socket, sys

def offered(path, user=0):
    "Listens as a weir does that can be taken over from."
    if os.path.exists(path): os.unlink(path)
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.bind(path)
    if user: os.setuid(user)
    s.listen(16)
    print("there", flush=True)
    return s

def ask(path, first):
    "Asks the weir at this path; returns what comes, with its descriptors."
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.settimeout(10)
    try:
        s.connect(path)
        s.send(first)
        message, fds, _, _ = socket.recv_fds(s, 4096, 250)
    except OSError as error:
        message, fds = type(error).__name__.encode(), []
    s.close()
    return (message.decode(), fds)

def wait():
    sys.stdin.read()
"#;

/// What `ask` says where the other end closes without a word.
const NOTHING: [&str; 3] = ["('', [])", "('ConnectionResetError', [])", "('BrokenPipeError', [])"];

/// Runs a program on the node.
fn stranger(stage: &Stage, body: &str) -> Command {
    let mut command = stage.net.node().command("python3");
    command.args(["-c", &format!("{PYTHON}\n{body}")]);
    command
}

#[track_caller]
fn says(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn a_process_of_another_user_that_asks_for_the_listeners_gets_neither_a_word_nor_a_descriptor() {
    let Some(mut stage) = Stage::set() else { return };
    let (_backends, _database) = (stage.backends(), database(&stage.b));
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    let mut open = tunnel(&stage);
    let (socket, first) = (socket(&stage.net), r#"b'{"is":"next","version":1}'"#);
    let asks = format!("os.setuid(65534)\nprint(ask({socket:?}, {first}))");
    // The folder and the socket keep others away,
    assert_eq!(says(stranger(&stage, &asks)), "('PermissionError', [])");
    // and the kernel says who it is where they do not.
    fs::set_permissions(stage.net.folder(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    let got = says(stranger(&stage, &asks));
    assert!(NOTHING.contains(&got.as_str()), "{got}");
    eventually("its count", || old.metric("weir_handovers_total", &[("result", "stranger")]) == 1.0);
    assert!(!old.log().contains("the next weir takes the listeners over"), "{}", old.log());
    // And a weir takes over all the same.
    let _current = upgrade(&old, next(&stage, |builder| builder));
    echoes(&mut open, "still");
    drop(open);
    ends(old);
}

#[test]
fn whoever_looks_whether_a_weir_is_there_or_sends_nonsense_hinders_no_upgrade() {
    let Some(mut stage) = Stage::set() else { return };
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    // Of weir's own user, as a broken version would be: more connections than are spoken with, of which none says a word.
    let body = format!(
        "all = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(40)]\n\
         for it in all: it.connect({:?})\nprint(ask({:?}, b'x' * 3000), flush=True)\nwait()",
        socket(&stage.net),
        socket(&stage.net)
    );
    let mut silent = Stranger::start(stranger(&stage, &body));
    assert!(NOTHING.contains(&silent.line().as_str()));
    let _current = upgrade(&old, next(&stage, |builder| builder));
    ends(old);
}

#[test]
fn a_process_of_another_user_that_offers_listeners_is_not_asked() {
    let Some(mut stage) = Stage::set() else { return };
    let body = format!(
        "s = offered({:?}, 65534)\nc, _ = s.accept()\nprint('asked', c.recv(4096), flush=True)\nwait()",
        socket(&stage.net)
    );
    let mut offers = Stranger::start(stranger(&stage, &body));
    assert_eq!(offers.line(), "there");
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    old.expect_log("the weir before this one cannot be taken over from: it is of user 65534");
    assert_eq!(offers.line(), "asked b''");
    // Its place is weir's now.
    let _current = upgrade(&old, next(&stage, |builder| builder));
    ends(old);
}

#[test]
fn in_a_folder_that_others_may_write_to_no_weir_takes_over_and_that_is_said() {
    let Some(mut stage) = Stage::set() else { return };
    let _backends = stage.backends();
    let folder = stage.net.folder().to_owned();
    let mode = |mode| fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
    mode(0o777);
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    let offered = || old.metric("weir_handover_offered", &[]);
    assert_eq!(offered(), 0.0);
    let said = exec_probe(&old, "ready").1;
    assert!(
        said.contains("upgrade: the next weir cannot take over: ") && said.contains("mode 777"),
        "{said}"
    );
    old.expect_log("to which no other may write");
    // It serves, and the next one cannot start beside it.
    assert!(is_ready(&old));
    let exit = next(&stage, |builder| builder).fails();
    assert!(exit.stderr.contains("another process has port 4140"), "{}", exit.stderr);
    Client::over(dialler(&stage.client, PROXY)().unwrap()).get("http://hello/").expect_status(200);
    mode(0o700);
    eventually("the next one to be able to", || offered() == 1.0);
    assert!(!exec_probe(&old, "ready").1.contains("upgrade: "));
    let _current = upgrade(&old, next(&stage, |builder| builder));
    ends(old);
}

#[test]
fn a_weir_whose_container_is_started_again_while_it_should_drain_gets_nothing_back() {
    let Some(mut stage) = Stage::set() else { return };
    let _backends = stage.backends();
    let of = |uid: &'static str| next(&stage, move |builder| builder.env("POD_UID", uid));
    let (first, second, again) = (of("0b7f1c1e-1"), of("0b7f1c1e-2"), of("0b7f1c1e-1"));
    stage.start(first);
    let mut old = stage.take_weir();
    let current = second.start();
    current.expect_log("serving in place of the weir before this one");
    old.kill();
    let exit = again.fails();
    assert!(exit.stderr.contains("this weir has taken over from that pod"), "{}", exit.stderr);
    assert!(exit.stderr.contains("another process has port 4140"), "{}", exit.stderr);
    Client::over(dialler(&stage.client, PROXY)().unwrap()).get("http://hello/").expect_status(200);
}

/// A program that runs.
struct Stranger {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Stranger {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
