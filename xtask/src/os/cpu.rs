//! Cores, CPU time by the scheduler's own accounting, and resident memory.

use std::fs;
use std::io::Result;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::{Pid, gettid};
use test_support::process::memory;

/// To the affinity calls, the calling thread.
const THIS_THREAD: Pid = Pid::from_raw(0);

/// Cores apart for what is measured and for what measures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) proxy: usize,
    pub(crate) load: usize,
}

impl Cores {
    /// The first two cores this process may use; the same one twice if there is only one.
    pub(crate) fn choose() -> Result<Self> {
        let allowed = sched_getaffinity(THIS_THREAD)?;
        let mut usable = (0..CpuSet::count()).filter(|core| allowed.is_set(*core) == Ok(true));
        let proxy = usable.next().unwrap_or(0);
        Ok(Self { proxy, load: usable.next().unwrap_or(proxy) })
    }

    pub(crate) fn are_apart(self) -> bool {
        self.proxy != self.load
    }
}

/// Ties the calling thread, and the threads it starts later, to one core.
pub(crate) fn pin_thread(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    Ok(sched_setaffinity(THIS_THREAD, &set)?)
}

/// The command will run on this core only.
pub(crate) fn pinned(command: &mut Command, core: usize) -> &mut Command {
    // SAFETY: between fork and exec, pin_thread makes a system call and allocates nothing.
    unsafe { command.pre_exec(move || pin_thread(core)) }
}

/// The id of the calling thread.
pub(crate) fn thread_id() -> u32 {
    gettid().as_raw().unsigned_abs()
}

/// CPU time that all threads of a process have had, by the scheduler's accounting (in nanoseconds, unlike `times`).
pub(crate) fn of_process(pid: u32) -> anyhow::Result<Duration> {
    let tasks =
        fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} is gone"))?;
    let mut sum = Duration::ZERO;
    for task in tasks {
        sum += schedstat(&fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default());
    }
    Ok(sum)
}

/// CPU time that one of our own threads has had.
pub(crate) fn of_thread(thread: u32) -> Duration {
    schedstat(&fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap_or_default())
}

fn schedstat(text: &str) -> Duration {
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

/// CPU time that anybody has had on any core since boot, to the hundredth of a second.
pub(crate) fn of_machine() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system, (idle, iowait,) irq, softirq, steal
    let busy: u64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|index| fields.get(*index)).sum();
    Duration::from_millis(busy * 10)
}

/// Waits until the cores are idle but for a tenth, at most `patience`; returns whether they were.
pub(crate) fn wait_for_quiet(patience: Duration) -> bool {
    const WINDOW: Duration = Duration::from_millis(200);
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        let (before, begun) = (of_machine(), Instant::now());
        std::thread::sleep(WINDOW);
        let busy = (of_machine() - before).as_secs_f64() / begun.elapsed().as_secs_f64() / cores;
        if busy < 0.1 {
            return true;
        }
    }
    false
}

/// Resident memory of a process in bytes: its own and what it has of files.
pub(crate) fn resident(pid: u32) -> anyhow::Result<u64> {
    memory(pid, "VmRSS")
}

/// Memory of a process in bytes that is its own and no file's.
pub(crate) fn anonymous(pid: u32) -> anyhow::Result<u64> {
    memory(pid, "RssAnon")
}

/// The most resident memory that a process has had, in bytes.
pub(crate) fn resident_at_most(pid: u32) -> anyhow::Result<u64> {
    memory(pid, "VmHWM")
}
