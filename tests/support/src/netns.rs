//! Network namespaces: with a name, as `ip netns` keeps them, so that a curious person can look into one; or of a process.
#![allow(unsafe_code, reason = "a program enters its namespace between fork and exec")]

use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns, unshare};

use crate::process::output;

/// A network namespace. One that has a name is deleted with the last clone of this; its interfaces go with it.
#[derive(Clone, Debug)]
pub struct Netns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: Option<String>,
    file: Arc<OwnedFd>,
}

impl Netns {
    /// Makes one with this name, its loopback up.
    ///
    /// # Errors
    ///
    /// There is one of this name already, or none may be made.
    pub fn create(name: &str) -> Result<Self> {
        output(Command::new("ip").args(["netns", "add", name]))?;
        let file = File::open(format!("/run/netns/{name}")).context("the namespace just made")?;
        let made = Self::new(Some(name.to_owned()), file);
        made.ip("link set lo up")?;
        Ok(made)
    }

    /// The one that a process is in.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        Ok(Self::new(None, File::open(format!("/proc/{pid}/ns/net"))?))
    }

    fn new(name: Option<String>, file: File) -> Self {
        Self(Arc::new(Inner { name, file: Arc::new(file.into()) }))
    }

    /// Runs lines of `ip -batch` inside.
    ///
    /// # Errors
    ///
    /// One of them failed: what `ip` says of it.
    pub fn ip(&self, batch: &str) -> Result<()> {
        let mut command = Command::new("ip");
        self.hold(&mut command);
        run_batch(&mut command, batch)
    }

    /// What `ip` calls it, as long as this process has it.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.file.as_raw_fd())
    }

    /// Runs `work` on a thread of its own inside this namespace. Sockets made there stay there.
    ///
    /// # Errors
    ///
    /// The namespace may not be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        inside(&self.0.file, work)
    }

    /// What a thread that is to live inside calls first.
    pub fn entrance(&self) -> impl Fn() -> io::Result<()> + Clone + Send + 'static {
        let file = Arc::clone(&self.0.file);
        move || enter(&file)
    }

    /// The command will run inside.
    pub fn hold(&self, command: &mut Command) {
        let file = Arc::clone(&self.0.file);
        // SAFETY: between fork and exec only setns is called, a system call that allocates nothing.
        unsafe { command.pre_exec(move || enter(&file)) };
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Some(name) = &self.name else { return };
        if let Err(error) = output(Command::new("ip").args(["netns", "delete", name])) {
            eprintln!("could not clean up: {error:#}");
        }
    }
}

/// Moves the calling thread into a namespace.
///
/// # Errors
///
/// It may not be entered.
pub fn enter(namespace: &impl AsFd) -> io::Result<()> {
    Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
}

/// Moves the calling thread into a new namespace without a name, its loopback up.
///
/// # Errors
///
/// None may be made.
pub fn enter_new() -> Result<OwnedFd> {
    unshare(CloneFlags::CLONE_NEWNET).context("a new network namespace")?;
    ip("link set lo up")?;
    Ok(File::open("/proc/thread-self/ns/net").context("the namespace just made")?.into())
}

/// Runs `work` on a thread of its own inside a namespace. Sockets made there stay there.
///
/// # Errors
///
/// The namespace may not be entered.
pub fn inside<T: Send>(namespace: &(impl AsFd + Sync), work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| enter(namespace).map(|()| work()));
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Waits until the calling thread's namespace really has those of these addresses that are of IPv6: the kernel makes the route
/// to one in a worker, some time after `ip` has ended.
///
/// # Errors
///
/// One is not there after a minute.
pub fn wait_for(addresses: &[IpAddr]) -> Result<()> {
    let end = Instant::now() + Duration::from_mins(1);
    for address in addresses.iter().filter(|address| address.is_ipv6()) {
        while !is_own(*address) {
            ensure!(Instant::now() < end, "the namespace has no {address}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

/// Whether what is sent to this address of IPv6 would have it as its source, too. Nothing is sent.
fn is_own(address: IpAddr) -> bool {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0));
    let own = socket.and_then(|socket| socket.connect((address, 9)).and_then(|()| socket.local_addr()));
    own.is_ok_and(|own| own.ip() == address)
}

/// Runs lines of `ip -batch` in the namespace of the calling thread.
///
/// # Errors
///
/// One of them failed: what `ip` says of it.
pub fn ip(batch: &str) -> Result<()> {
    run_batch(&mut Command::new("ip"), batch)
}

fn run_batch(ip: &mut Command, batch: &str) -> Result<()> {
    let piped = ip.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = piped.spawn().context("cannot start iproute2's `ip`")?;
    // Where it ends at one of the first lines, it does not read the last ones.
    let _ = child.stdin.take().context("its standard input is piped")?.write_all(batch.as_bytes());
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("`ip` failed: {}, at:\n{batch}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Deletes namespaces named `PREFIX-PID…` whose process is gone: somebody killed an earlier run outright.
pub fn sweep(prefix: &str) {
    let Ok(names) = std::fs::read_dir("/run/netns") else { return };
    for name in names.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        if crate::is_left_behind(&name, prefix) {
            let _ = output(Command::new("ip").args(["netns", "delete", &name]));
        }
    }
}
