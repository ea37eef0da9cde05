//! Accept queues of diverted connections over an upgrade: the next weir has ports of its own, so the old one empties its own first.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use e2e::time::holds_for;
use e2e::{Client, Request, Weir, eventually};
use nix::sys::signal::Signal;

use super::{DATABASE, database, echoes, ends, gets_ready, next, next_in_pods, unready, upgrade, waiting};
use crate::transparent::{Stage, V4, dialler};

#[test]
fn an_upgrade_resets_nobody_who_waits_for_room_in_a_pods_accept_queue() {
    let Some(mut stage) = Stage::set() else { return };
    let _database = database(&stage.b);
    let full = |stage: &Stage| next_in_pods(stage, |builder| builder.set("limits", "{ connections: 2 }"));
    stage.start(full(&stage));
    stage.until_listening(4);
    let old = stage.take_weir();
    let dial = || {
        let (connect, mut client) = (dialler(&stage.client, DATABASE), None);
        // Where a busy machine leaves weir without a turn, it goes direct: nobody is there.
        eventually("a diverted connection", || {
            client = connect().ok().map(Client::over);
            client.is_some()
        });
        client.unwrap()
    };
    let mut open = [dial(), dial()];
    for client in &mut open {
        echoes(client, "open");
    }
    let mut waiting: Vec<Client> = (0..8).map(|_| dial()).collect();
    for client in &mut waiting {
        client.send("in turn");
    }
    eventually("the listener to be full", || old.turned_away("transparent", "full") >= 1.0);
    let _current = upgrade(&old, full(&stage));
    old.expect_log("draining: the next weir serves");
    // Longer than the old one keeps its ports.
    assert!(holds_for(Duration::from_secs(3), || !waiting.iter_mut().any(Client::is_closed)));
    for client in &mut open {
        echoes(client, "still");
    }
    drop(open);
    // Whose turn it is, is weir's choice: each leaves when it has had its own.
    thread::scope(|scope| {
        for mut client in waiting {
            scope.spawn(move || {
                client.expect("in turn");
            });
        }
    });
    ends(old);
}

/// weir's workers without a turn, until this is dropped: their threads are stopped, and no other (ptrace(2)).
struct Stopped(Child);

impl Stopped {
    #[track_caller]
    fn workers(weir: &Weir) -> Self {
        const STOP: &str = r#"
import ctypes, glob, os, sys

SEIZE, INTERRUPT = 0x4206, 0x4207
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
for thread in glob.glob(f"/proc/{sys.argv[1]}/task/*"):
    if open(f"{thread}/comm").read().startswith("weir-data"):
        number = int(os.path.basename(thread))
        for request in (SEIZE, INTERRUPT):
            assert ptrace(request, number, None, None) == 0, os.strerror(ctypes.get_errno())
        os.waitpid(number, 0x40000000)  # __WALL
        print("stopped", flush=True)
sys.stdin.read()
"#;
        let mut command = Command::new("python3");
        command.args(["-c", STOP, &weir.pid().to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        // The two that each weir of a test has.
        assert_eq!(output.lines().map_while(Result::ok).take(2).collect::<Vec<_>>(), ["stopped"; 2]);
        Self(child)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // The kernel lets them go on.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_upgrade_resets_nobody_whom_a_busy_node_left_no_turn_to_accept() {
    let Some(mut stage) = Stage::set() else { return };
    // Where dialling takes longer than weir may be silent, it goes direct.
    let (_backends, _direct) = (stage.backends(), stage.direct());
    stage.start(next_in_pods(&stage, |builder| builder));
    stage.until_listening(4);
    let old = stage.take_weir();
    let new = waiting(&old, next_in_pods(&stage, unready));
    let stopped = Stopped::workers(&old);
    let mut clients: Vec<Client> = (0..5).map(|_| stage.dial(V4)).collect();
    for client in &mut clients {
        client.start(&Request::get("/").with("Host", "hello"));
    }
    gets_ready(&new);
    old.expect_log("draining: the next weir serves");
    assert!(holds_for(Duration::from_secs(3), || !clients.iter_mut().any(Client::is_closed)));
    drop(stopped);
    for client in &mut clients {
        client.response().expect_status(200);
    }
}

#[test]
fn a_weir_waits_for_the_ports_of_one_whom_a_busy_node_leaves_no_turn_to_close_them() {
    let Some(mut stage) = Stage::set() else { return };
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    let stopped = Stopped::workers(&old);
    let current = next(&stage, |builder| builder).start();
    current.expect_log("serving in place of the weir before this one");
    old.expect_log("draining: the next weir serves");
    // Both halves are taken for so long.
    let waits = thread::spawn(move || {
        thread::sleep(Duration::from_secs(6));
        drop(stopped);
    });
    // A weir that a thread has started ends with that thread.
    let last = next(&stage, |builder| builder).start();
    waits.join().unwrap();
    last.expect_log("serving in place of the weir before this one");
    for weir in [old, current] {
        weir.signal(Signal::SIGTERM);
        ends(weir);
    }
}
