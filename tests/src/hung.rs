//! One thread of another process that stands still, while the others go on: what a deadlock or an endless loop looks
//! like from outside. SIGSTOP cannot do that, it stops them all; a debugger can.
#![allow(unsafe_code, reason = "ptrace")]

use std::io;

/// A thread held by ptrace(2); it goes on when this is dropped. Only the test's thread that made it may drop it.
pub struct Hung {
    thread: i32,
    // A tracer is a thread, not a process.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Hung {
    /// Holds this thread, of one of the test's own children.
    #[track_caller]
    pub fn thread(thread: i32) -> Self {
        ptrace(libc::PTRACE_SEIZE, thread).expect("a test may trace its own child");
        ptrace(libc::PTRACE_INTERRUPT, thread).expect("the thread is traced");
        // SAFETY: no memory is passed but a null pointer, which asks for no status.
        let waited = unsafe { libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL) };
        assert_eq!(waited, thread, "{}", io::Error::last_os_error());
        Self { thread, _not_send: std::marker::PhantomData }
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let _ = ptrace(libc::PTRACE_DETACH, self.thread);
    }
}

fn ptrace(request: libc::c_uint, thread: i32) -> io::Result<()> {
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: of the three requests used here none reads or writes our memory.
    let answer = unsafe { libc::ptrace(request, thread, null, null) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
