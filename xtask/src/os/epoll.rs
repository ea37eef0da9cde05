//! epoll, as little of it as the load generator and the backends need: level-triggered reading with a token.

use std::io::Result;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::checked;

/// Events taken from the kernel at once.
const BATCH: usize = 256;

pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: no memory is passed.
        let fd = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor is new and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; BATCH] })
    }

    /// Reports `token` whenever `socket` can be read. Closing the socket takes it out again.
    pub(crate) fn add(&self, socket: &impl AsRawFd, token: usize) -> Result<()> {
        let mut event =
            libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLRDHUP) as u32, u64: token as u64 };
        // SAFETY: `event` lives through the call, which copies it.
        let answer = unsafe {
            libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &raw mut event)
        };
        checked(answer).map(drop)
    }

    /// The tokens that can be read, waiting at most `timeout` (to the nanosecond: arrivals are 125 µs apart).
    pub(crate) fn wait(&mut self, timeout: Duration) -> Result<impl Iterator<Item = usize> + use<'_>> {
        let limit = libc::timespec {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // SAFETY: the event buffer has BATCH entries and, with `limit`, lives through the call; no signal mask.
        let ready = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                BATCH as i32,
                &raw const limit,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        let ready = match checked(ready as i32) {
            Ok(ready) => ready as usize,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        Ok(self.events[..ready].iter().map(|event| event.u64 as usize))
    }
}

/// Lets this thread's waits end on time; the kernel's default allows them 50 µs more.
pub(crate) fn exact_timers() {
    // SAFETY: PR_SET_TIMERSLACK takes a number and nothing else.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1usize) };
}
