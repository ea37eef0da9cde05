//! Processes of the node's network namespace that are no weir: they get nothing, and are not taken for one.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use e2e::eventually;

use super::{database, echoes, ends, next, tunnel, upgrade};
use crate::transparent::Stage;

/// What the programs below have in common: names as weirs have them, with listeners that vouch for them.
pub(super) const PYTHON: &str = r#"
import random, re, socket, sys

def attest(number):
    s = socket.socket()
    s.bind((f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 0))
    s.listen(1)
    return s

def unix(name):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.bind("\0" + name)
    return s

def offered(number):
    "Listens as a weir does that can be taken over from."
    s = unix(f"weir-handover/{number:06x}")
    s.listen(16)
    globals()["kept"] = attest(number)
    print("there", flush=True)
    return s

def names():
    found = re.findall(r"@(weir-handover/[0-9a-f]{6})$", open("/proc/net/unix").read(), re.M)
    return sorted(set(found))

def ask(first, own=None, number=None):
    "Asks each weir that can be taken over from; returns what comes, with its descriptors."
    got = []
    for name in names():
        n = number if number is not None else random.randrange(0x800001, 0xfffffe) | 1
        s = unix(own or f"weir-handover-next/{n:06x}")
        vouches = attest(n)
        s.settimeout(10)
        s.connect("\0" + name)
        try:
            s.send(first)
            message, fds, _, _ = socket.recv_fds(s, 4096, 250)
        except OSError as error:
            message, fds = type(error).__name__.encode(), []
        got.append((message.decode(), fds))
        s.close()
        vouches.close()
    return got

def wait():
    sys.stdin.read()
"#;

/// Runs a program of a stranger on the node, in another cgroup than weir's.
fn stranger(stage: &Stage, body: &str) -> Command {
    let mut command = stage.net.node().command("python3");
    command.args(["-c", &format!("{PYTHON}\n{body}")]);
    command
}

fn says(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn a_stranger_that_asks_for_the_listeners_gets_neither_a_word_nor_a_descriptor() {
    let Some(mut stage) = Stage::set() else { return };
    let (_backends, _database) = (stage.backends(), database(&stage.b));
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    let mut open = tunnel(&stage);
    let first = r#"b'{"is":"next","version":1,"name":"weir"}'"#;
    for how in [
        // As a weir would.
        format!("print(ask({first}))"),
        // With no name of that kind, and with another spelling of one.
        format!("print(ask({first}, own='x'))"),
        format!("print(ask({first}, own='weir-handover-next/0800003', number=0x800003))"),
        // With the number that the weir itself vouches for.
        format!("print(ask({first}, own='weir-handover-next/' + names()[0][-6:], number=0x800003))"),
        // With the number of weir's own explicit proxy's address, and with none that anybody vouches for.
        format!("print(ask({first}, own='weir-handover-next/000001', number=0x800003))"),
        format!("print(ask({first}, own='weir-handover-next/900001', number=0x800003))"),
    ] {
        let got = says(stranger(&stage, &how));
        assert!(
            got == "[('', [])]"
                || got == "[('ConnectionResetError', [])]"
                || got == "[('BrokenPipeError', [])]",
            "{how}: {got}"
        );
    }
    eventually("the count of strangers", || {
        old.metric("weir_handovers_total", &[("result", "stranger")]) == 6.0
    });
    assert!(!old.log().contains("the next weir takes the listeners over"), "{}", old.log());
    // And a weir takes over all the same.
    let _current = upgrade(&old, next(&stage, |builder| builder));
    echoes(&mut open, "still");
    drop(open);
    ends(old);
}

#[test]
fn a_stranger_in_the_middle_passes_for_neither_side() {
    let Some(mut stage) = Stage::set() else { return };
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    // It connects whoever asks it to the real one, and says what passes.
    let middle = r#"
real = names()[0]
s = offered(0x900000)
s.settimeout(4)
try:
    c, _ = s.accept()
    print("asked", c.recv(4096), flush=True)
except TimeoutError:
    print("nobody asked", flush=True)
wait()
"#;
    let mut middle = Stranger::start(stranger(&stage, middle));
    assert_eq!(middle.line(), "there");
    let _current = upgrade(&old, next(&stage, |builder| builder));
    assert_eq!(middle.line(), "nobody asked");
    ends(old);
}

#[test]
fn a_stranger_who_offers_beforehand_is_not_asked_and_hinders_nobody() {
    let Some(mut stage) = Stage::set() else { return };
    let (_backends, _database) = (stage.backends(), database(&stage.b));
    let before = r#"
s = offered(0x900000)
s.settimeout(30)
more = [unix(f"weir-handover/{n:06x}") for n in range(0x900002, 0x900042, 2)]
for it in more: it.listen(16)
# Two names that are none.
weird = [unix("weir-handover/"), unix("weir-handover/\udcff")]
print("more", flush=True)
try:
    c, _ = s.accept()
    print("asked", flush=True)
except TimeoutError:
    pass
wait()
"#;
    let mut before = Stranger::start(stranger(&stage, before));
    assert_eq!((before.line().as_str(), before.line().as_str()), ("there", "more"));
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    old.expect_log("is not a weir of this node");
    let mut open = tunnel(&stage);
    let current = upgrade(&old, next(&stage, |builder| builder));
    echoes(&mut open, "still");
    drop(open);
    ends(old);
    let _last = upgrade(&current, next(&stage, |builder| builder));
    ends(current);
    assert_eq!(before.rest(), "", "it was asked");
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

    /// Ends it, and returns what it has said since.
    fn rest(mut self) -> String {
        let _ = self.child.stdin.take().map(|mut it| it.flush());
        let _ = self.child.kill();
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        rest.trim().to_owned()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
