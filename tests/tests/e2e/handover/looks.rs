//! A look at the pods' network namespaces that is under way when weir hands over.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use e2e::weir::builder::Builder;
use e2e::{Pod, Weir, eventually};
use nix::sys::signal::Signal;

use super::{DATABASE, database, echoes, ends, following, gets_ready, unready, upgrade, waiting};
use crate::transparent::Stage;

/// weir enters network namespaces slowly, until this is dropped: its threads that do so wait before each setns(2) (ptrace(2)).
struct Slow(Child);

impl Slow {
    #[track_caller]
    fn looks(weir: &Weir) -> Self {
        const SLOW: &str = r#"
import ctypes, glob, os, platform, sys, time

SYSCALL, SEIZE, INTERRUPT, INFO = 24, 0x4206, 0x4207, 0x420e
SETNS = {"x86_64": 308, "aarch64": 268}[platform.machine()]
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
info = ctypes.create_string_buffer(128)

def call(request, number, address=None, data=None):
    assert ptrace(request, number, address, data) >= 0, os.strerror(ctypes.get_errno())

for thread in glob.glob(f"/proc/{sys.argv[1]}/task/*"):
    if open(f"{thread}/comm").read() == "weir-netns\n":
        number = int(os.path.basename(thread))
        call(SEIZE, number, None, 1)  # PTRACE_O_TRACESYSGOOD
        call(INTERRUPT, number)
print("slow", flush=True)
while True:
    number, status = os.waitpid(-1, 0x40000000)  # __WALL
    if not os.WIFSTOPPED(status):
        continue
    signal = os.WSTOPSIG(status)
    if signal == 0x85:
        call(INFO, number, len(info), ctypes.addressof(info))
        # Entered: `op` is 1.
        if info.raw[0] == 1 and int.from_bytes(info.raw[24:32], sys.byteorder) == SETNS:
            time.sleep(0.3)
        signal = 0
    elif status >> 16:
        signal = 0
    call(SYSCALL, number, None, signal)
"#;
        let mut command = Command::new("python3");
        command.args(["-c", SLOW, &weir.pid().to_string()]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "slow\n");
        Self(child)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        // The kernel lets them go on.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The ports that the node's weirs use in pods.
fn ports(stage: &Stage) -> Vec<u16> {
    let output = stage.net.node().command("cat").arg("/proc/net/unix").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = text.lines().filter_map(|line| line.split_once("@weir-pod-port-"));
    names.map(|(_, port)| port.trim().parse().unwrap()).collect()
}

fn of(stage: &Stage, netns: &Path) -> Builder {
    following(stage, Weir::new().in_pods_of(&stage.net, netns))
}

#[test]
fn a_look_at_new_pods_that_is_under_way_takes_no_port_that_a_weir_has_given_back() {
    let Some(mut stage) = Stage::set() else { return };
    let _database = database(&stage.b);
    let folder = tempfile::tempdir().unwrap();
    let [few, all, now, later] = ["few", "all", "now", "later"].map(|name| folder.path().join(name));
    let more: Vec<Pod> = (0..8).map(|number| stage.net.pod(&format!("more-{number}"))).collect();
    let first = [&stage.client, &stage.a, &stage.b, &stage.beyond].map(Pod::clone);
    for (place, pods) in [(&few, first.to_vec()), (&all, [&first[..], &more].concat())] {
        fs::create_dir(place).unwrap();
        pods.iter().for_each(|pod| symlink(pod.namespace(), place.join(pod.name())).unwrap());
    }
    symlink(&few, &now).unwrap();
    stage.start(of(&stage, &now));
    stage.until_listening(4);
    let old = stage.take_weir();
    let mut open = stage.dial(DATABASE);
    echoes(&mut open, "open");
    assert_eq!(ports(&stage), [4136]);
    let current = waiting(&old, super::next(&stage, unready));
    let slow = Slow::looks(&old);
    // All at once, and one look finds them.
    symlink(&all, &later).unwrap();
    fs::rename(&later, &now).unwrap();
    fs::write(few.join("a change"), "").unwrap();
    let joined = || old.log().matches("listening in a pod's network namespace").count();
    eventually("the first of them", || joined() > 4);
    gets_ready(&current);
    old.expect_log("draining: the next weir serves");
    eventually("its port to be given back", || ports(&stage).is_empty());
    drop(slow);
    // The weir after the next one has that port, in every pod.
    let last = upgrade(&current, of(&stage, &now));
    assert_eq!(ports(&stage), [4136]);
    eventually("it in every pod", || {
        last.metric("weir_interception_netns", &[("state", "listening")]) == (first.len() + more.len()) as f64
    });
    echoes(&mut open, "still");
    drop(open);
    old.signal(Signal::SIGTERM);
    ends(old);
    ends(current);
}
