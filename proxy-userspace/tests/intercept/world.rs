//! A node, a pod and their cgroups, made for one test and gone after it.
//!
//! The node is a network namespace without a name, in which the test's own thread runs; the pod is another,
//! joined to it by a veth pair. Applications are real processes, forked from the test, because a cgroup
//! holds processes: `pod.run(..)` moves one into the pod's cgroup and namespace and hands back what its
//! closure says.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, geteuid, gettid};
use test_support::{cgroup, netns, process};

/// Longer than all that a process of a test does takes in an emulated machine on a busy one.
const PATIENCE: Duration = Duration::from_mins(5);
/// Longer than one step takes there.
pub const STEP: Duration = Duration::from_mins(1);

/// Addresses of the node on its side of the veth pair.
pub const NODE: [&str; 2] = ["10.77.0.1", "fd77::1"];
/// The pod's own addresses.
pub const POD: [&str; 2] = ["10.77.0.2", "fd77::2"];
/// Service addresses behind which, in the pod itself, a server listens: what a direct connection reaches.
pub const SERVICE: [&str; 2] = ["10.96.0.10", "fd96::10"];

/// A node with a pod.
pub struct World {
    pod: OwnedFd,
    node: OwnedFd,
    // Dropped in this order: a cgroup goes after those in it.
    /// The cgroup of the pod's container.
    pub container: Cgroup,
    /// The pod's cgroup.
    pub pod_cgroup: Cgroup,
    /// The pods' parent cgroup.
    pub pods: Cgroup,
}

/// Runs a test on a fresh node, or says that it is left out.
pub fn on_a_node(test: impl FnOnce(&World) + Send + 'static) {
    if !geteuid().is_root() {
        // Past the test harness, which would swallow it.
        let _ = writeln!(std::io::stderr(), "left out, because it needs root: a test of the eBPF programs");
        return;
    }
    let body = move || test(&World::new());
    if let Err(panic) = std::thread::spawn(body).join() {
        resume_unwind(panic);
    }
}

impl World {
    /// Makes the calling thread live on a new node.
    fn new() -> Self {
        let node = new_namespace();
        let node_thread = gettid();
        let pod = std::thread::spawn(move || {
            let pod = new_namespace();
            configure(&format!("link add eth0 type veth peer name pod0 netns {node_thread}"));
            configure("link set eth0 up");
            addresses("eth0", &[(POD[0], 24), (POD[1], 64)]);
            addresses("lo", &[(SERVICE[0], 32), (SERVICE[1], 128)]);
            pod
        })
        .join()
        .expect("the pod's namespace");
        configure("link set pod0 up");
        addresses("pod0", &[(NODE[0], 24), (NODE[1], 64)]);
        let pods = Cgroup::new(&cgroup::own().expect("a cgroup of version 2"));
        let pod_cgroup = Cgroup::new(&pods.path);
        let container = Cgroup::new(&pod_cgroup.path);
        Self { pod, node, pods, pod_cgroup, container }
    }

    /// Runs an application in the pod's container, to its end.
    pub fn run(&self, application: impl FnOnce() -> String) -> String {
        Process::start(&self.pod, &self.container, application).result()
    }

    /// Runs an application in the pod's network namespace and another cgroup, to its end.
    pub fn run_in(&self, cgroup: &Cgroup, application: impl FnOnce() -> String) -> String {
        Process::start(&self.pod, cgroup, application).result()
    }

    /// Runs an application in some other network namespace, in a cgroup, to its end.
    pub fn run_at(&self, netns: &OwnedFd, cgroup: &Cgroup, application: impl FnOnce() -> String) -> String {
        Process::start(netns, cgroup, application).result()
    }

    /// Starts an application in the pod's container.
    pub fn start(&self, application: impl FnOnce() -> String) -> Process {
        Process::start(&self.pod, &self.container, application)
    }

    /// Starts an application in some other network namespace, in a cgroup.
    pub fn start_at(
        &self,
        netns: &OwnedFd,
        cgroup: &Cgroup,
        application: impl FnOnce() -> String,
    ) -> Process {
        Process::start(netns, cgroup, application)
    }

    /// Starts a process on the node, in a cgroup.
    pub fn start_on_node(&self, cgroup: &Cgroup, program: impl FnOnce() -> String) -> Process {
        Process::start(&self.node, cgroup, program)
    }

    /// The pod's network namespace.
    pub fn pod_netns(&self) -> &OwnedFd {
        &self.pod
    }

    /// Runs a thread of the test in the pod's network namespace.
    pub fn in_pod<R: Send>(&self, body: impl FnOnce() -> R + Send) -> R {
        netns::inside(&self.pod, body).expect("the pod's namespace")
    }
}

/// A cgroup, removed when dropped.
pub struct Cgroup {
    pub path: PathBuf,
    _made: cgroup::Cgroup,
}

impl Cgroup {
    /// A new one below `parent`, with a name of its own.
    pub fn new(parent: &Path) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("weir-intercept-{}-{number}", std::process::id());
        Self::of(cgroup::Cgroup::create(parent, &name).expect("a new cgroup"))
    }

    /// A new one with this name; a path below `parent` whose folders before the last are there or made as well, and stay.
    pub fn named(parent: &Path, name: &str) -> Self {
        Self::of(cgroup::Cgroup::at(parent.join(name)).expect("a new cgroup"))
    }

    fn of(made: cgroup::Cgroup) -> Self {
        Self { path: made.path().to_owned(), _made: made }
    }

    /// Removes it, and makes it again at the same path.
    pub fn make_anew(&self) {
        let end = Instant::now() + PATIENCE;
        while fs::remove_dir(&self.path).is_err() {
            assert!(Instant::now() < end, "{} is not removed", self.path.display());
            std::thread::sleep(Duration::from_millis(1));
        }
        fs::create_dir(&self.path).expect("the cgroup again");
    }

    /// Moves the calling process into it.
    pub fn enter(&self) {
        fs::write(self.path.join("cgroup.procs"), "0").expect("move into the cgroup");
    }

    /// The kernel's id of it.
    pub fn id(&self) -> u64 {
        cgroup::id(&self.path).expect("the cgroup")
    }
}

/// A process forked from the test. Killed when dropped.
pub struct Process {
    pub pid: Pid,
    said: File,
    waited: bool,
}

impl Process {
    /// Forks. The child does what `program` says and nothing else: it must not print, because a lock of
    /// another thread's may be held for ever in it.
    fn start(netns: &OwnedFd, cgroup: &Cgroup, program: impl FnOnce() -> String) -> Self {
        silence_forked();
        let (said, say) = nix::unistd::pipe().expect("pipe");
        // SAFETY: the child only makes system calls, allocates (which glibc allows after a fork) and exits.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Parent { child } => {
                drop(say);
                Self { pid: child, said: File::from(said), waited: false }
            }
            ForkResult::Child => {
                FORKED.store(true, Ordering::Relaxed);
                close_all_but([netns.as_raw_fd(), say.as_raw_fd()]);
                let said = catch_unwind(AssertUnwindSafe(|| {
                    cgroup.enter();
                    netns::enter(netns).expect("setns");
                    program()
                }));
                let line = said.unwrap_or_else(|panic| {
                    let text = panic.downcast_ref::<String>().cloned();
                    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                    format!("panic: {}", text.unwrap_or_default())
                });
                let _ = File::from(say).write_all(line.as_bytes());
                // SAFETY: ends the child at once, without the test's clean-up.
                unsafe { libc::_exit(0) }
            }
        }
    }

    /// Waits for the process to end and gives what it said.
    pub fn result(mut self) -> String {
        let mut said = String::new();
        let end = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        loop {
            wait_readable(self.said.as_fd(), end);
            match self.said.read(&mut buffer).expect("a pipe") {
                0 => break,
                n => said.push_str(std::str::from_utf8(&buffer[..n]).expect("text")),
            }
        }
        self.reap();
        assert!(!said.starts_with("panic: "), "in the forked process: {said}");
        said
    }

    /// Fails, and says why it ended, when it has.
    #[track_caller]
    pub fn expect_running(&self) {
        let mut said = String::new();
        let ended = poll(&mut [PollFd::new(self.said.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO);
        if ended.expect("poll") > 0 {
            (&self.said).read_to_string(&mut said).expect("a pipe");
            panic!("the forked process ended: {said}");
        }
    }

    /// Kills it, as the kernel would when memory is short.
    pub fn kill(mut self) {
        kill(self.pid, Signal::SIGKILL).expect("kill");
        self.reap();
    }

    fn reap(&mut self) {
        waitpid(self.pid, None).expect("waitpid");
        self.waited = true;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.waited {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}

/// Whether this is a process forked from the test.
static FORKED: AtomicBool = AtomicBool::new(false);

/// Has panics in forked processes say nothing by themselves. Set before the fork: in the child, another thread of the
/// parent's that was panicking would keep std's lock on the hook for ever.
fn silence_forked() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !FORKED.load(Ordering::Relaxed) {
                told(panic);
            }
        }));
    });
}

/// Closes what the child inherited from other tests, whose sockets it would keep open; and of its own test,
/// which may want to see them closed.
fn close_all_but(mut keep: [i32; 2]) {
    keep.sort_unstable();
    let gaps = [(3, keep[0] - 1), (keep[0] + 1, keep[1] - 1), (keep[1] + 1, i32::MAX)];
    for (first, last) in gaps.into_iter().filter(|(first, last)| first <= last) {
        // SAFETY: nothing in the child uses them, and none is closed again: it ends without clean-up.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}

/// Waits until there is something to read, and fails after `end`.
pub fn wait_readable(fd: BorrowedFd<'_>, end: Instant) {
    let left = end.saturating_duration_since(Instant::now());
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    let ready = poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout).expect("poll");
    assert!(ready > 0, "nothing came in time");
}

/// Moves the calling thread into a new network namespace, with loopback up.
pub fn new_namespace() -> OwnedFd {
    netns::enter_new().expect("a new namespace")
}

/// Gives addresses, with their prefixes' lengths, to an interface of the calling thread's namespace.
pub fn addresses(interface: &str, addresses: &[(&str, u8)]) {
    for (address, length) in addresses {
        let nodad = if address.parse::<IpAddr>().expect("an address").is_ipv6() { "nodad" } else { "" };
        configure(&format!("address add {address}/{length} dev {interface} {nodad}"));
    }
    let own: Vec<IpAddr> =
        addresses.iter().map(|(address, _)| address.parse().expect("an address")).collect();
    netns::wait_for(&own).expect("the addresses");
}

/// Runs iproute2 in the calling thread's namespace.
pub fn configure(arguments: &str) {
    process::output(Command::new("ip").args(arguments.split_whitespace())).expect("iproute2");
}

/// Another descriptor for one that `process` has open.
pub fn steal(process: Pid, fd: i32) -> OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: system calls without memory; the descriptors they return are new and owned by no one else.
    unsafe {
        let pidfd = libc::syscall(libc::SYS_pidfd_open, process.as_raw(), 0);
        assert!(pidfd >= 0, "pidfd_open");
        let pidfd = OwnedFd::from_raw_fd(pidfd as i32);
        let copy = libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0);
        assert!(copy >= 0, "pidfd_getfd");
        OwnedFd::from_raw_fd(copy as i32)
    }
}

/// Gives up all capabilities but these, by their numbers in capabilities(7), and the means to get them back.
pub fn keep_only(capabilities: &[u32]) {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    // As linux/capability.h has them: the header, and two sets of three words.
    const _: () = assert!(size_of::<Header>() == 8 && size_of::<[u32; 6]>() == 24);
    let keep = capabilities.iter().fold(0_u64, |set, bit| set | 1 << bit);
    let (low, high) = (keep as u32, (keep >> 32) as u32);
    // Effective, permitted, inheritable; the lower word of each first.
    let data = [low, low, 0, high, high, 0];
    let header = Header { version: 0x2008_0522, pid: 0 };
    // SAFETY: version 3 of the header and two sets of data, as capset(2) wants them.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}
