//! Cgroups (version 2) for pods that are none, removed with whatever still runs in them.
#![allow(unsafe_code, reason = "a program enters its cgroup between fork and exec")]

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than a killed process takes to leave its cgroup, also in an emulated machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A cgroup of ours. It is removed when dropped, with those below it; whatever still runs there is killed.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes a cgroup named `name` below `parent`.
    ///
    /// # Errors
    ///
    /// It is there already, or may not be made.
    pub fn create(parent: &Path, name: &str) -> Result<Self> {
        let path = parent.join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make the cgroup {}", path.display()))?;
        Ok(Self { path })
    }

    /// Takes the cgroup at `path` for its own. It and those it is in are made where they are missing.
    ///
    /// # Errors
    ///
    /// It may not be made.
    pub fn at(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path).with_context(|| format!("cannot make the cgroup {}", path.display()))?;
        Ok(Self { path })
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The command will start inside this cgroup.
    ///
    /// # Errors
    ///
    /// It is gone, or may not be entered.
    pub fn hold(&self, command: &mut Command) -> io::Result<()> {
        hold(&self.path, command)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// The command will start inside the cgroup at this path.
///
/// # Errors
///
/// It is not there, or may not be entered.
pub fn hold(cgroup: &Path, command: &mut Command) -> io::Result<()> {
    let mut processes = File::options().write(true).open(cgroup.join("cgroup.procs"))?;
    // SAFETY: between fork and exec only one write is made, to a descriptor that is open already. `0` is the writer.
    unsafe { command.pre_exec(move || processes.write_all(b"0")) };
    Ok(())
}

/// Where cgroup2 is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` beside version 1.
pub fn mount() -> Option<PathBuf> {
    // As proc_pid_mountinfo(5) has it.
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let is_cgroup2 = |line: &&str| line.split(" - ").nth(1).is_some_and(|kind| kind.starts_with("cgroup2 "));
    mounts.lines().find(is_cgroup2)?.split(' ').nth(4).map(PathBuf::from)
}

/// The cgroup of this process.
pub fn own() -> Option<PathBuf> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(mount()?.join(own))
}

/// The kernel's number of a cgroup.
///
/// # Errors
///
/// It is not there.
pub fn id(cgroup: &Path) -> io::Result<u64> {
    Ok(fs::metadata(cgroup)?.ino())
}

/// Removes cgroups `PREFIX-PID…` below `parent` whose process is gone: somebody killed an earlier run outright.
pub fn sweep(parent: &Path, prefix: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| crate::is_left_behind(name, prefix)) {
            remove(&entry.path());
        }
    }
}

/// Kills what runs in a cgroup and below it, and removes it with those below, which go first.
pub fn remove(cgroup: &Path) {
    if fs::write(cgroup.join("cgroup.kill"), "1").is_err() {
        // Linux before 5.14 has no such file, and version 1 neither.
        kill_each(cgroup);
    }
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        remove(&entry.path());
    }
    // A killed process leaves its cgroup a moment after the signal.
    let end = Instant::now() + PATIENCE;
    while is_busy(fs::remove_dir(cgroup)) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_busy(removed: io::Result<()>) -> bool {
    removed.is_err_and(|error| error.kind() == ErrorKind::ResourceBusy)
}

fn kill_each(cgroup: &Path) {
    let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0) {
        // It is in a cgroup that only we put processes into, so it is not another's.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}
