//! Refuses a weir to enter network namespaces (setns(2)) while it runs, as a security module may, or has it wait for the kernel's
//! answers about networks, as where other processes have its lock on them: the kernel asks the test each time (seccomp_unotify(2)).
#![allow(unsafe_code, reason = "seccomp has no other interface")]

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex};

use super::Pod;

/// Where the guarded process keeps the descriptor by which the kernel asks; nobody else uses so high a number.
const AT: RawFd = 900;

/// What a weir asks before it does these things.
#[derive(Clone, Default)]
pub struct Gate(Arc<Rules>);

#[derive(Default)]
struct Rules {
    /// Which namespaces may not be entered, by their inode numbers.
    refused: Mutex<HashSet<u64>>,
    /// Whether questions about networks wait, and how many have done so.
    waits: Mutex<(bool, usize)>,
    go_on: Condvar,
}

impl Gate {
    /// From now on this pod's namespace may not be entered.
    pub fn refuse(&self, pod: &Pod) {
        self.0.refused.lock().unwrap().insert(inode(&pod.namespace()).unwrap());
    }

    /// It may again.
    pub fn permit(&self, pod: &Pod) {
        self.0.refused.lock().unwrap().remove(&inode(&pod.namespace()).unwrap());
    }

    /// From now on whoever asks about interfaces, addresses and routes (rtnetlink(7)) waits.
    pub fn hold(&self) {
        self.0.waits.lock().unwrap().0 = true;
    }

    /// How many threads have waited.
    pub fn held(&self) -> usize {
        self.0.waits.lock().unwrap().1
    }

    /// They go on, and nobody waits any more.
    pub fn release(&self) {
        self.0.waits.lock().unwrap().0 = false;
        self.0.go_on.notify_all();
    }

    /// Makes `command` ask, once it is started and [`Self::opened`].
    pub(crate) fn guard(command: &mut Command) {
        // SAFETY: system calls on memory of the closure's own, allowed between fork and exec.
        unsafe { command.pre_exec(install) };
    }

    /// Answers for `child` until it ends.
    pub(crate) fn opened(&self, child: &Child) {
        // SAFETY: both calls return a new descriptor that nothing else owns.
        let asked = unsafe {
            let pid = OwnedFd::from_raw_fd(made(libc::syscall(libc::SYS_pidfd_open, child.id(), 0)));
            OwnedFd::from_raw_fd(made(libc::syscall(libc::SYS_pidfd_getfd, pid.as_raw_fd(), AT, 0)))
        };
        let gate = self.clone();
        std::thread::spawn(move || while gate.answer(&asked) {});
    }

    /// Answers once. Returns whether there may be another question.
    fn answer(&self, asked: &OwnedFd) -> bool {
        let fd = asked.as_raw_fd();
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one live entry.
        let polled = unsafe { libc::poll(&raw mut poll, 1, -1) };
        if polled < 0 {
            return io::Error::last_os_error().kind() == io::ErrorKind::Interrupted;
        }
        if poll.revents & libc::POLLIN == 0 {
            return false; // It has ended.
        }
        // SAFETY: a struct of integers, for which zero is a value, as the kernel demands.
        let mut question: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: a live struct of the kernel's size, which it writes to.
        if unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut question) } < 0 {
            return true; // Whoever asked has ended meanwhile.
        }
        let args = question.data.args;
        if libc::c_long::from(question.data.nr) == libc::SYS_setns {
            let path = format!("/proc/{}/fd/{}", question.pid, args[0]);
            let refused = |it| self.0.refused.lock().unwrap().contains(&it);
            answer(asked, question.id, inode(Path::new(&path)).is_ok_and(refused));
        } else if args[2] == libc::NETLINK_ROUTE as u64 && self.0.waits.lock().unwrap().0 {
            let (rules, asked) = (self.0.clone(), asked.try_clone().unwrap());
            std::thread::spawn(move || rules.wait(&asked, question.id));
        } else {
            answer(asked, question.id, false);
        }
        true
    }
}

impl Rules {
    /// Answers once nobody is to wait any more.
    fn wait(&self, asked: &OwnedFd, id: u64) {
        let mut waits = self.waits.lock().unwrap();
        waits.1 += 1;
        drop(self.go_on.wait_while(waits, |it| it.0).unwrap());
        answer(asked, id, false);
    }
}

/// Has the call fail, or go on.
fn answer(asked: &OwnedFd, id: u64, refused: bool) {
    let answer = libc::seccomp_notif_resp {
        id,
        val: 0,
        error: if refused { -libc::EPERM } else { 0 },
        flags: if refused { 0 } else { libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32 },
    };
    // SAFETY: a live struct of the kernel's size, which it reads.
    unsafe { libc::ioctl(asked.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const answer) };
}

/// Has the kernel ask about each setns(2) of the calling process, and of what it becomes, and about each of its netlink(7) sockets.
fn install() -> io::Result<()> {
    let stay = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let load = |offset: usize| stay(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset as u32);
    let jump = |k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt,
        jf,
        k,
    };
    let low = if cfg!(target_endian = "little") { 0 } else { 4 };
    let mut filter = [
        load(std::mem::offset_of!(libc::seccomp_data, nr)),
        jump(libc::SYS_setns as u32, 3, 0),
        jump(libc::SYS_socket as u32, 0, 3),
        load(std::mem::offset_of!(libc::seccomp_data, args) + low),
        jump(libc::AF_NETLINK as u32, 0, 1),
        stay(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_USER_NOTIF),
        stay(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: a live program; dup2 makes a descriptor that exec keeps, and close ends one that is ours.
    unsafe {
        let asked = libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        );
        let kept = if asked < 0 { -1 } else { libc::dup2(asked as RawFd, AT) };
        if kept < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::close(asked as RawFd);
    }
    Ok(())
}

#[track_caller]
fn made(result: libc::c_long) -> RawFd {
    assert!(result >= 0, "{}", io::Error::last_os_error());
    result as RawFd
}

fn inode(path: &Path) -> io::Result<u64> {
    Ok(fs::metadata(path)?.ino())
}
