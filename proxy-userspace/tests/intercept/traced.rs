//! A process that goes from one bpf(2) to the next as the test lets it, by ptrace(2): so it can be ended between any two.
//! What it runs is what weir runs, without a hook for tests in it.

use nix::sys::signal::{Signal, raise};
use nix::unistd::Pid;

use crate::world::Process;

/// A command of bpf(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command(pub u64);

impl Command {
    pub const LINK_CREATE: Self = Self(28);
}

/// To be called first in the process that is to be traced. It then waits for its tracer: the thread that forked it.
pub fn consent() {
    trace(libc::PTRACE_TRACEME, 0, 0).expect("to be traced");
    raise(Signal::SIGSTOP).expect("a stop");
}

/// A process under the eyes of the calling thread.
pub struct Traced {
    process: Process,
}

impl Traced {
    /// Takes over a process that begins with [`consent`].
    pub fn seize(process: Process) -> Self {
        let this = Self { process };
        this.wait();
        // Calls are told from signals; and nobody is left behind stopped if the test ends first.
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
        trace(libc::PTRACE_SETOPTIONS, this.pid().as_raw(), options as usize).expect("options");
        this
    }

    /// Lets it go on until it has made its next call of bpf(2), and says which that was; `None` when it has ended.
    pub fn next(&self) -> Option<Command> {
        loop {
            let Some((libc::SYS_bpf, command)) = self.to_entry()? else { continue };
            // To the call's end.
            self.go()?;
            return Some(Command(command));
        }
    }

    /// Lets it go on until it is about to make this call; `None` when it has ended.
    pub fn reach(&self, command: Command) -> Option<()> {
        while self.to_entry()? != Some((libc::SYS_bpf, command.0)) {}
        Some(())
    }

    /// Ends it where it stands.
    pub fn kill(self) {
        self.process.kill();
    }

    pub fn pid(&self) -> Pid {
        self.process.pid
    }

    /// Lets it go on to its next entry into the kernel: the call's number and first argument, if that is what stopped it.
    #[expect(clippy::option_option, reason = "an end and a stop of another kind are two things")]
    fn to_entry(&self) -> Option<Option<(i64, u64)>> {
        const GET_SYSCALL_INFO: libc::c_uint = 0x420e;
        const ENTRY: u8 = 1;
        self.go()?;
        // `struct ptrace_syscall_info`: what it is in the first byte; of an entry, the number at 24 and arguments from 32.
        let mut info = [0_u64; 11];
        let size = size_of_val(&info);
        // SAFETY: the kernel writes at most as many bytes as the size says.
        let answer = unsafe { libc::ptrace(GET_SYSCALL_INFO, self.pid().as_raw(), size, info.as_mut_ptr()) };
        assert!(answer > 0, "PTRACE_GET_SYSCALL_INFO: {}", std::io::Error::last_os_error());
        Some((info[0].to_ne_bytes()[0] == ENTRY).then_some((info[3] as i64, info[4])))
    }

    /// Lets it go on to the next stop; `None` when it has ended.
    fn go(&self) -> Option<()> {
        trace(libc::PTRACE_SYSCALL, self.pid().as_raw(), 0).ok()?;
        self.wait().then_some(())
    }

    /// Whether it has stopped, and not ended.
    fn wait(&self) -> bool {
        let mut status = 0;
        // SAFETY: a live variable. Its end, if it comes to that, is left to be waited for by `Process`.
        unsafe {
            let mut seen: libc::siginfo_t = std::mem::zeroed();
            let pid = self.pid().as_raw();
            let flags = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT | libc::__WALL;
            assert_eq!(libc::waitid(libc::P_PID, pid as u32, &raw mut seen, flags), 0, "waitid");
            seen.si_code == libc::CLD_TRAPPED && libc::waitpid(pid, &raw mut status, libc::__WALL) == pid
        }
    }
}

fn trace(request: libc::c_uint, process: i32, data: usize) -> std::io::Result<()> {
    // SAFETY: of the requests used here none reads or writes our memory.
    let answer = unsafe { libc::ptrace(request, process, std::ptr::null_mut::<libc::c_void>(), data) };
    if answer < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
