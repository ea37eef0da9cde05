//! What the kernel holds of a socket.
#![allow(unsafe_code, reason = "a socket option that no crate has")]

use std::os::fd::RawFd;

/// `SK_MEMINFO_*` of linux/sock_diag.h: what was received and not read, what waits to be sent or acknowledged, and what is
/// set aside for either; the last one is what comes while the socket is in use.
const RMEM_ALLOC: usize = 0;
const FWD_ALLOC: usize = 4;
const WMEM_QUEUED: usize = 5;
const BACKLOG: usize = 7;
const VARS: usize = 9;

/// What the kernel holds of a socket, in bytes with its own overhead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelMemory {
    /// Of what the peer has sent.
    pub received: u64,
    /// Of what the peer has not acknowledged yet.
    pub sent: u64,
    /// Set aside.
    pub ahead: u64,
}

impl KernelMemory {
    /// All of it.
    pub fn total(self) -> u64 {
        self.received + self.sent + self.ahead
    }
}

/// What the kernel holds of the socket that has this number now (SO_MEMINFO, Linux 4.12). Nothing where there is none.
pub fn kernel_memory(socket: RawFd) -> KernelMemory {
    let mut info = [0_u32; VARS];
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, the size of `info`; a number that is no socket is an error.
    let answer = unsafe {
        let to = info.as_mut_ptr().cast();
        libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_MEMINFO, to, &raw mut length)
    };
    if answer < 0 {
        return KernelMemory::default();
    }
    let of = |at: usize| u64::from(info[at]);
    KernelMemory { received: of(RMEM_ALLOC) + of(BACKLOG), sent: of(WMEM_QUEUED), ahead: of(FWD_ALLOC) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn what_nobody_reads_and_what_nobody_takes_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        client.set_nonblocking(true).unwrap();
        let mut written = 0;
        while let Ok(n) = client.write(&[0; 16 * 1024]) {
            written += n as u64;
        }
        let (of_client, of_server) = (kernel_memory(client.as_raw_fd()), kernel_memory(server.as_raw_fd()));
        assert!(of_server.received > 0 && of_client.sent > 0, "{of_server:?} {of_client:?}");
        assert!(of_server.received + of_client.sent >= written, "{written}: {of_server:?} {of_client:?}");
        assert_eq!((of_client.received, of_server.sent), (0, 0));
        assert_eq!(kernel_memory(-1), KernelMemory::default());
        assert_eq!(kernel_memory(std::fs::File::open("/proc/self/stat").unwrap().as_raw_fd()).total(), 0);
    }
}
