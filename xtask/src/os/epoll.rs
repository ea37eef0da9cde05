//! epoll, as little of it as the load generator and the backends need: level-triggered reading with a token.

use std::io::Result;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{self, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::prctl;
use nix::sys::time::TimeSpec;

/// Events taken from the kernel at once.
const BATCH: usize = 256;

pub(crate) struct Epoll {
    epoll: epoll::Epoll,
    events: Vec<EpollEvent>,
}

impl Epoll {
    pub(crate) fn new() -> Result<Self> {
        let epoll = epoll::Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, events: vec![EpollEvent::empty(); BATCH] })
    }

    /// Reports `token` whenever `socket` can be read. Closing the socket takes it out again.
    pub(crate) fn add(&self, socket: &impl AsFd, token: usize) -> Result<()> {
        let readable = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
        Ok(self.epoll.add(socket, EpollEvent::new(readable, token as u64))?)
    }

    /// The tokens that can be read, waiting at most `timeout` (to the nanosecond: arrivals are 125 µs apart, and nix has
    /// only the wait by milliseconds).
    pub(crate) fn wait(&mut self, timeout: Duration) -> Result<impl Iterator<Item = usize> + use<'_>> {
        let limit: libc::timespec = *TimeSpec::from_duration(timeout).as_ref();
        // SAFETY: the buffer has BATCH entries, each a `libc::epoll_event` (repr(transparent)), and lives through the call,
        // as `limit` does. There is no signal mask.
        let ready = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.0.as_raw_fd(),
                self.events.as_mut_ptr(),
                BATCH as i32,
                &raw const limit,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        let ready = match Errno::result(ready) {
            Ok(ready) => ready as usize,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        Ok(self.events[..ready].iter().map(|event| event.data() as usize))
    }
}

/// Lets this thread's waits end on time; the kernel's default allows them 50 µs more.
pub(crate) fn exact_timers() {
    // Where it is refused, waits take longer and nothing else changes.
    let _ = prctl::set_timerslack(1);
}
