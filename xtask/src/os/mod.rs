//! The operating system's side of the bench and the demo. Every unsafe block of theirs lives here.
#![allow(
    unsafe_code,
    reason = "signal handlers, work between fork and exec, and epoll_pwait2, which nix does not have"
)]

pub(crate) mod cpu;
pub(crate) mod descriptors;
pub(crate) mod discard;
pub(crate) mod epoll;
pub(crate) mod interrupt;
