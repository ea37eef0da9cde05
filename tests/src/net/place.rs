//! Where something runs: in the test's own namespace, or in a pod's.
#![allow(unsafe_code, reason = "limits and capabilities are set between fork and exec")]

use std::ffi::OsStr;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::resource::{Resource, setrlimit};

use test_support::{cgroup, process};

use super::Pod;
use crate::raw;
use crate::time::PATIENCE;

/// A network namespace and a cgroup.
#[derive(Clone)]
pub enum Place {
    /// The test's own.
    Here,
    /// A pod's namespace, with the given cgroup.
    Pod(Pod, PathBuf),
}

impl From<&Pod> for Place {
    fn from(pod: &Pod) -> Self {
        Self::Pod(pod.clone(), pod.cgroup().to_owned())
    }
}

impl Place {
    /// Listens here.
    pub fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        match self {
            Self::Here => raw::listen(address),
            Self::Pod(pod, _) => pod.listen(address),
        }
    }

    /// A socket for datagrams here.
    pub fn datagrams(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        match self {
            Self::Here => UdpSocket::bind(address),
            Self::Pod(pod, _) => pod.datagrams(address),
        }
    }

    /// Connects from here. In a pod it is a process of the pod that connects.
    pub fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        match self {
            Self::Here => TcpStream::connect_timeout(&address, PATIENCE),
            Self::Pod(pod, _) => pod.connect(address),
        }
    }

    /// A program to be started here; it dies with the thread that starts it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Self::Pod(pod, cgroup) = self {
            cgroup::hold(cgroup, &mut command).expect("the pod's cgroup");
            pod.netns().hold(&mut command);
        }
        process::die_with_parent(&mut command);
        command
    }
}

/// Makes `command` run with so much of a resource, which it may raise to `hard`.
pub fn limit(command: &mut Command, resource: Resource, soft: u64, hard: u64) {
    // SAFETY: setrlimit is a plain system call, allowed between fork and exec.
    unsafe { command.pre_exec(move || Ok(setrlimit(resource, soft, hard)?)) };
}

/// Capabilities that a test gives or withholds, by their number in capabilities(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// CAP_NET_ADMIN: attach programs.
    NetAdmin = 12,
    /// CAP_SYS_ADMIN: includes the two below.
    SysAdmin = 21,
    /// CAP_PERFMON: programs that read kernel memory.
    Perfmon = 38,
    /// CAP_BPF: load programs and make maps.
    Bpf = 39,
}

impl Capability {
    /// Its name as Kubernetes writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NetAdmin => "NET_ADMIN",
            Self::SysAdmin => "SYS_ADMIN",
            Self::Perfmon => "PERFMON",
            Self::Bpf => "BPF",
        }
    }
}

/// Makes `command` run without the capabilities to administer the system or its network and to load BPF programs.
pub fn drop_capabilities(command: &mut Command) {
    use Capability::{Bpf, NetAdmin, Perfmon, SysAdmin};
    drop_bounds(command, |number| {
        [NetAdmin, SysAdmin, Perfmon, Bpf].iter().any(|capability| *capability as libc::c_ulong == number)
    });
}

/// Makes `command` run with no other capabilities, and without ever gaining one: what `drop: [ALL]`, `add: […]` and
/// `allowPrivilegeEscalation: false` make of a container that runs as root.
pub fn keep_capabilities(command: &mut Command, kept: &'static [Capability]) {
    drop_bounds(command, |number| !kept.iter().any(|capability| *capability as libc::c_ulong == number));
    // SAFETY: prctl is a plain system call, allowed between fork and exec.
    unsafe { command.pre_exec(|| Ok(nix::sys::prctl::set_no_new_privs()?)) };
}

/// Takes capabilities out of the bounding set: what is not in it is not gained by `exec`, not even by root. Without
/// root that fails, and nothing is there to be dropped.
fn drop_bounds(command: &mut Command, which: impl Fn(libc::c_ulong) -> bool + Send + Sync + 'static) {
    const ALL: std::ops::Range<libc::c_ulong> = 0..64;
    // SAFETY: prctl is a plain system call, allowed between fork and exec; numbers unknown to the kernel are refused.
    unsafe {
        command.pre_exec(move || {
            for capability in ALL.filter(|number| which(*number)) {
                libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
            }
            Ok(())
        })
    };
}
