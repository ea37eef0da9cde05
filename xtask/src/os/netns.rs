//! Network namespaces by name, as `ip netns` keeps them, so that a curious person can look into one.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

use crate::process::output;

/// A network namespace of ours, deleted when dropped; its interfaces go with it.
pub(crate) struct Netns {
    name: String,
    file: Arc<File>,
}

impl Netns {
    pub(crate) fn create(name: &str) -> Result<Self> {
        ip(&["netns", "add", name])?;
        let file = File::open(format!("/run/netns/{name}")).context("the namespace just made")?;
        let made = Self { name: name.to_owned(), file: Arc::new(file) };
        made.ip(&["link", "set", "lo", "up"])?;
        Ok(made)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` inside.
    pub(crate) fn ip(&self, arguments: &[&str]) -> Result<()> {
        let mut all = vec!["-n", &self.name];
        all.extend(arguments);
        ip(&all)
    }

    /// Runs `work` on a thread of its own inside this namespace. Sockets made there stay there.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let answer = std::thread::scope(|scope| {
            let thread = scope.spawn(|| enter(&self.file).map(|()| work()));
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        Ok(answer?)
    }

    /// What a thread that is to live inside calls first.
    pub(crate) fn entrance(&self) -> impl Fn() -> std::io::Result<()> + Send + 'static {
        let file = Arc::clone(&self.file);
        move || enter(&file)
    }

    /// The command will run inside.
    pub(crate) fn hold(&self, command: &mut Command) {
        let file = Arc::clone(&self.file);
        // SAFETY: between fork and exec only setns is called, a system call that allocates nothing.
        unsafe { command.pre_exec(move || enter(&file)) };
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "delete", &self.name]) {
            eprintln!("could not clean up: {error:#}");
        }
    }
}

fn enter(namespace: &File) -> std::io::Result<()> {
    Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
}

fn ip(arguments: &[&str]) -> Result<()> {
    output(Command::new("ip").args(arguments)).map(drop)
}

/// Deletes namespaces named `PREFIX-PID-…` whose process is gone: somebody killed an earlier run outright.
pub(crate) fn sweep(prefix: &str) {
    let Ok(names) = std::fs::read_dir("/run/netns") else { return };
    for name in names.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let pid = name
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_prefix('-')?.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = ip(&["netns", "delete", &name]);
        }
    }
}
