//! The operating system's side of the bench and the demo. Every unsafe block of theirs lives here.
#![allow(unsafe_code, reason = "epoll, affinity, namespaces and signals have no safe wrapper in std")]

pub(crate) mod cgroup;
pub(crate) mod cpu;
pub(crate) mod epoll;
pub(crate) mod interrupt;
pub(crate) mod netns;

/// A negative answer of a system call is the error that errno says.
fn checked(answer: i32) -> std::io::Result<i32> {
    if answer < 0 { Err(std::io::Error::last_os_error()) } else { Ok(answer) }
}
