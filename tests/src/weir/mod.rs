//! `Weir`: the real binary as a child process, with a folder of its own.
//!
//! The binary is the one in `WEIR_BIN`, else the one beside the tests' target folder. `WEIR_BPF_OBJECT` goes through
//! to it, so that the same tests run against a rebuilt BPF object.

pub mod binary;
pub mod builder;
pub mod folder;
pub mod metrics;
mod output;
pub mod state;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{PipeReader, Write as _};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use test_support::process::{Running, memory};

use crate::client::Client;
use crate::message::{Request, Response};
use crate::net::cgroup::MemoryCgroup;
use crate::net::place::Place;
use crate::time::{Clock, eventually};
pub use builder::Builder;
use folder::Folder;

/// A running weir; killed when dropped, and its log shown when the test fails.
pub struct Weir {
    child: Running,
    place: Place,
    bound: Bound,
    log: Log,
    unread: Option<PipeReader>,
    folder: Folder,
    /// Dropped last: the cgroup must be empty by then.
    _memory: Option<MemoryCgroup>,
}

/// What weir has written to its standard output and error.
pub(crate) type Log = Arc<Mutex<String>>;

/// The addresses weir says it listens on, once it is ready.
#[derive(Clone, Debug, Default)]
pub struct Bound {
    outgoing: Option<SocketAddr>,
    /// The other routers, by label.
    routers: BTreeMap<String, SocketAddr>,
    admin: Option<SocketAddr>,
    probes: Option<SocketAddr>,
    transparent: Vec<SocketAddr>,
}

impl Weir {
    /// A weir with a free port for each listener, two workers and an empty folder of services.
    #[expect(clippy::new_ret_no_self, reason = "reads best at the call: Weir::new().service(..).start()")]
    pub fn new() -> Builder {
        Builder::new()
    }

    /// A started weir with one service in linkerd's file format.
    #[track_caller]
    pub fn serving(name: &str, endpoints: &[SocketAddr]) -> Self {
        Self::new().service(name, endpoints).start()
    }

    /// The explicit proxy's address.
    #[track_caller]
    pub fn outgoing(&self) -> SocketAddr {
        self.bound.outgoing.expect("an outgoing listener")
    }

    /// The address of another router than the first.
    #[track_caller]
    pub fn router(&self, label: &str) -> SocketAddr {
        self.bound.routers[label]
    }

    /// The admin listener's address.
    #[track_caller]
    pub fn admin(&self) -> SocketAddr {
        self.bound.admin.expect("an admin listener")
    }

    /// The probes listener's address.
    #[track_caller]
    pub fn probes(&self) -> SocketAddr {
        self.bound.probes.expect("a probes listener")
    }

    /// The transparent listeners' addresses.
    pub fn transparent(&self) -> &[SocketAddr] {
        &self.bound.transparent
    }

    /// A new connection to the explicit proxy.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::over(self.place.connect(self.outgoing()).expect("a connection to :4140"))
    }

    /// The answer to a GET through the explicit proxy, over a connection of its own.
    #[track_caller]
    pub fn get(&self, url: &str) -> Response {
        self.client().get(url)
    }

    /// The answer to a request through the explicit proxy, over a connection of its own.
    #[track_caller]
    pub fn ask(&self, request: &Request) -> Response {
        self.client().ask(request)
    }

    /// The answer to a GET at the admin listener.
    #[track_caller]
    pub fn admin_get(&self, path: &str) -> Response {
        self.get_from(self.admin(), path)
    }

    /// The answer to a GET at one of weir's listeners, reached from where weir runs.
    #[track_caller]
    pub fn get_from(&self, listener: SocketAddr, path: &str) -> Response {
        let stream =
            self.place.connect(listener).unwrap_or_else(|e| panic!("no connection to {listener}: {e}"));
        Client::over(stream).ask(&Request::get(path).with("Host", "localhost").with("Connection", "close"))
    }

    /// The folder with its configuration and services.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Everything it has written so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Fills the pipe that nobody reads, to its last byte.
    pub fn fill_unread_log(&self) {
        let pipe = self.unread.as_ref().expect("a log that is unread").as_raw_fd();
        // Opened anew: that this writer does not wait must not concern weir.
        let mut options = File::options();
        options.write(true).custom_flags(OFlag::O_NONBLOCK.bits());
        let mut writer = options.open(format!("/proc/self/fd/{pipe}")).unwrap();
        while writer.write(b".").is_ok() {}
    }

    /// Waits until it has written `text`: what it writes is read a moment after it was written.
    #[track_caller]
    pub fn expect_log(&self, text: &str) {
        eventually(&format!("{text:?} in the log"), || self.log.lock().unwrap().contains(text));
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.child.signal(signal);
    }

    /// SIGSTOP, and waits until every thread stands still.
    #[track_caller]
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
        let stopped = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
        };
        let tasks = format!("/proc/{}/task", self.pid());
        eventually("weir to stand still", || std::fs::read_dir(&tasks).unwrap().flatten().all(stopped));
    }

    /// The thread ids of its workers, of which there is at least one. A thread names itself only once it runs.
    #[track_caller]
    pub fn workers(&self) -> Vec<i32> {
        let folder = format!("/proc/{}/task", self.pid());
        let is_worker = |task: &std::fs::DirEntry| {
            std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("weir-data-"))
        };
        let find = || std::fs::read_dir(&folder).unwrap().flatten().filter(is_worker).collect::<Vec<_>>();
        eventually("a worker", || !find().is_empty());
        find().iter().map(|task| task.file_name().to_str().unwrap().parse().unwrap()).collect()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill();
    }

    /// Waits for its end; fails the test when it has not come within `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let clock = Clock::start();
        loop {
            if let Some(status) = self.child.ended().unwrap() {
                return status;
            }
            assert!(!clock.is_past(limit), "weir still runs after {limit:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.ended().unwrap().is_some()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        memory(self.pid(), "VmRSS").unwrap()
    }

    /// Resident memory that no file is behind, in bytes.
    pub fn anonymous(&self) -> u64 {
        memory(self.pid(), "RssAnon").unwrap()
    }

    /// How many file descriptors it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(PathBuf::from(format!("/proc/{}/fd", self.pid()))).unwrap().count()
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        let threads = std::thread::panicking().then(|| threads(self.pid()));
        let status = self.child.kill();
        let log = self.log();
        if let Some(threads) = threads {
            eprintln!("--- weir ({status:?}) said:\n{log}--- its threads at the end:\n{threads}---");
        } else {
            // A panic in one of weir's threads need not end it, but it is a bug whatever the test looked at.
            assert!(!log.contains("panicked at"), "weir panicked:\n{log}");
        }
    }
}

/// The name of each thread of a process, with its state and what it waits for: what tells a process that is stuck from one
/// that has nothing to do, and from one that somebody stopped.
fn threads(pid: u32) -> String {
    let mut lines = String::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let (stat, schedule) = (read("stat"), read("schedstat"));
        let state = stat.rsplit(") ").next().and_then(|rest| rest.get(..1)).unwrap_or("?").to_owned();
        let (name, waits, call) = (read("comm"), read("wchan"), read("syscall"));
        let (name, call, schedule) = (name.trim(), call.trim(), schedule.trim());
        lines += &format!("{name}: {state}, in {waits}, call {call}, ran and waited (ns) {schedule}\n");
    }
    lines
}
