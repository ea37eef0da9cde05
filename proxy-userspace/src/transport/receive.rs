//! How much the kernel buffers of what a peer has sent and weir has not read (SO_RCVBUF).
//!
//! It is memory of weir's cgroup. The kernel's own bounds (tcp_rmem) are those of a network namespace, and a pod may set
//! them in its own: every connection that weir makes or accepts there has weir's bound instead. An accepted one has that
//! of its listener.
//!
//! So it is with what weir has sent and the peer has not acknowledged (tcp_wmem, SO_SNDBUF): in pods it has the same bound. On
//! the node that is left to the kernel. `limits.notSent` bounds another thing, what was not even sent.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

/// The bound as long as the memory budget is not known.
const USUAL: usize = 256 * 1024;

/// Bytes that the kernel buffers of what a peer has sent. It counts twice as many, with its own overhead.
#[derive(Debug)]
pub struct ReceiveBuffers {
    /// Of connections of the node; 0 leaves it to the kernel.
    node: AtomicUsize,
    /// Of those in pods' network namespaces.
    pods: AtomicUsize,
}

impl ReceiveBuffers {
    /// Buffers of this many bytes; with 0, the kernel's own on the node.
    pub fn new(bytes: Option<usize>) -> Self {
        let pods = bytes.filter(|bytes| *bytes > 0).unwrap_or(USUAL);
        Self { node: AtomicUsize::new(bytes.unwrap_or(USUAL)), pods: AtomicUsize::new(pods) }
    }

    /// Of sockets that are made from now on: those of the node, where 0 leaves it to the kernel, and those in pods. Returns
    /// whether either has changed.
    pub fn set(&self, node: usize, pods: usize) -> bool {
        let changes = [(&self.node, node), (&self.pods, pods)];
        changes.into_iter().fold(false, |any, (it, bytes)| it.swap(bytes, Ordering::Relaxed) != bytes || any)
    }

    /// Bounds those of `socket`, and of what it accepts. Call it before the connection is made: it decides the scale of the
    /// window (RFC 7323 §2.2).
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn bound(&self, socket: &impl AsFd, in_pod: bool) -> io::Result<()> {
        let bytes = if in_pod { &self.pods } else { &self.node };
        match bytes.load(Ordering::Relaxed) {
            0 => Ok(()),
            bytes if in_pod => bound_both(socket, bytes),
            bytes => bound_to(socket, bytes),
        }
    }

    /// The same for a socket of which only weir's own small messages come.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn bound_usual(socket: &impl AsFd) -> io::Result<()> {
        bound_both(socket, USUAL)
    }
}

impl Default for ReceiveBuffers {
    fn default() -> Self {
        Self::new(None)
    }
}

/// Whether weir may have more than net.core.rmem_max and wmem_max (CAP_NET_ADMIN).
static MAY_EXCEED: AtomicBool = AtomicBool::new(true);

fn bound_to(socket: &impl AsFd, bytes: usize) -> io::Result<()> {
    forced_or(
        || setsockopt(socket, sockopt::RcvBufForce, &bytes),
        || setsockopt(socket, sockopt::RcvBuf, &bytes),
    )
}

fn bound_both(socket: &impl AsFd, bytes: usize) -> io::Result<()> {
    bound_to(socket, bytes)?;
    forced_or(
        || setsockopt(socket, sockopt::SndBufForce, &bytes),
        || setsockopt(socket, sockopt::SndBuf, &bytes),
    )
}

/// What `forced` does, and `plain` where weir may not do that.
fn forced_or(forced: impl Fn() -> Answer, plain: impl Fn() -> Answer) -> io::Result<()> {
    if MAY_EXCEED.load(Ordering::Relaxed) {
        match forced() {
            Err(Errno::EPERM) => MAY_EXCEED.store(false, Ordering::Relaxed),
            answer => return answer.map_err(io::Error::from),
        }
    }
    plain().map_err(io::Error::from)
}

/// What the kernel says of an option.
type Answer = Result<(), Errno>;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use nix::sys::socket::getsockopt;

    use super::*;

    fn of(socket: &impl AsFd) -> usize {
        getsockopt(socket, sockopt::RcvBuf).unwrap()
    }

    #[test]
    fn what_a_listener_accepts_has_its_bound_and_a_pods_is_never_left_to_the_kernel() {
        for (setting, in_pod, expected) in [
            (None, false, Some(USUAL)),
            (None, true, Some(USUAL)),
            (Some(64 << 10), false, Some(64 << 10)),
            (Some(64 << 10), true, Some(64 << 10)),
            (Some(0), false, None),
            (Some(0), true, Some(USUAL)),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let before = of(&listener);
            ReceiveBuffers::new(setting).bound(&listener, in_pod).unwrap();
            let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            // As many again are for the kernel's own overhead (socket(7)).
            let expected = expected.map_or(before, |bytes| 2 * bytes);
            assert_eq!((of(&listener), of(&accepted)), (expected, expected), "{setting:?} {in_pod}");
        }
    }

    #[test]
    fn in_pods_the_bound_is_also_that_of_what_is_sent_and_on_the_node_that_is_left_to_the_kernel() {
        let of = |socket: &TcpListener| getsockopt(socket, sockopt::SndBuf).unwrap();
        for (in_pod, expected) in [(false, None), (true, Some(2 * USUAL))] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let before = of(&listener);
            ReceiveBuffers::default().bound(&listener, in_pod).unwrap();
            assert_eq!(of(&listener), expected.unwrap_or(before), "in a pod: {in_pod}");
            let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            let accepted = getsockopt(&accepted, sockopt::SndBuf).unwrap();
            assert!(expected.is_none_or(|it| it == accepted), "{accepted}");
        }
    }

    #[test]
    fn a_change_is_noticed_and_counts_from_then_on() {
        let buffers = ReceiveBuffers::default();
        assert!(!buffers.set(USUAL, USUAL));
        assert!(buffers.set(USUAL, 64 << 10) && buffers.set(0, 64 << 10) && !buffers.set(0, 64 << 10));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        buffers.bound(&listener, true).unwrap();
        assert_eq!(of(&listener), 128 << 10);
    }
}
