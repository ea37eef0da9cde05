//! Which process has an abstract name of a Unix socket: said by the kernel, and not by who has the name.
//!
//! Every process of a network namespace may bind a free abstract name and connect to one. SO_PEERCRED says little of it:
//! every container may have user 0, and without the node's PID namespace the process id of another container is 0. A socket
//! of the Internet families has the cgroup of the process that made it, and sock_diag(7) tells that to every process of the
//! network namespace (`INET_DIAG_CGROUP_ID`, Linux 5.9). No process can make a socket in another cgroup than its own.
//!
//! So a name ends in a number, and the process that has the name listens on TCP at the loopback address that is made of the
//! same number. The name says "number n"; the listener at 127.n says "number n is of this cgroup and user".
//! As long as a process has the name, nobody else can have it, so a process in the middle cannot pass off its own end
//! of a connection for another's.
//!
//! Nothing is ever sent over that listener, and whoever connects to it is not accepted.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvfrom, sendto, setsockopt,
    socket,
};
use nix::sys::time::{TimeVal, TimeValLike};
use socket2::{Domain, Protocol, Socket, Type};

/// The numbers: those of 127.128.0.0/9, without the first and the last.
pub const NUMBERS: RangeInclusive<u32> = 0x80_0001..=0xff_fffe;

/// Maximum time for the kernel's answer, which takes microseconds.
const WITHIN: Duration = Duration::from_secs(2);

/// `SOCK_DIAG_BY_FAMILY`, `NLM_F_REQUEST | NLM_F_DUMP`, `NLMSG_DONE` and `NLMSG_ERROR` of linux/netlink.h and sock_diag.h.
const BY_FAMILY: u16 = 20;
const DUMP: u16 = 0x301;
const DONE: u16 = 3;
const ERROR: u16 = 2;

/// `TCP_LISTEN` as a bit of `idiag_states`.
const LISTENING: u32 = 1 << 10;

/// `INET_DIAG_CGROUP_ID` of linux/inet_diag.h.
const CGROUP: u16 = 21;

/// Sizes in bytes: of a netlink header, and of a `struct inet_diag_msg`.
const HEADER: usize = 16;
const FIXED: usize = 72;

/// Who made a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOwner {
    /// The kernel's id of its cgroup, version 2.
    pub cgroup: u64,
    /// Its user.
    pub user: u32,
}

/// A socket that says which process has a name.
///
/// Make it before the name and drop it before the name: it must never speak for a name that is free.
#[derive(Debug)]
pub struct Attestation(Socket);

impl Attestation {
    /// A socket that says nothing yet.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn prepare() -> io::Result<Self> {
        Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).map(Self)
    }

    /// Says from now on that this process has the name with `number`. Call it once.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn attest(&self, number: u32) -> io::Result<()> {
        self.0.bind(&SocketAddr::from((address(number), 0)).into())?;
        self.0.listen(1)
    }
}

/// Who says that they have the name with `number`. Anybody may say so: look for one that is known by its cgroup.
///
/// # Errors
///
/// The kernel has no sock_diag for TCP, or its answer is not understood.
pub fn attesters(number: u32) -> io::Result<Vec<SocketOwner>> {
    owners(SocketAddr::from((address(number), 0)))
}

/// Who this process is for others.
///
/// # Errors
///
/// As [`attesters`].
pub fn own() -> io::Result<SocketOwner> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    owners(listener.local_addr()?)?.pop().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The owners of the listeners at an address; at every port if that is 0.
fn owners(at: SocketAddr) -> io::Result<Vec<SocketOwner>> {
    let (socket, end) = (ask()?, Instant::now() + WITHIN);
    let mut found = Vec::new();
    let mut answer = vec![0; 64 << 10];
    while Instant::now() < end {
        let (length, sender) = recvfrom::<NetlinkAddr>(socket.as_raw_fd(), &mut answer)?;
        // Other processes may send to this socket, too: the kernel's port is 0.
        if sender.is_none_or(|it| it.pid() != 0) {
            continue;
        }
        if read(answer.get(..length).unwrap_or_default(), at, &mut found)? {
            return Ok(found);
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// 127.128.0.0/9 plus the number.
fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x7f00_0000 | (number & 0xff_ffff))
}

/// A socket on which the kernel lists all listeners of TCP over IPv4.
fn ask() -> io::Result<OwnedFd> {
    let netlink =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    let patience = TimeVal::milliseconds(i64::try_from(WITHIN.as_millis()).unwrap_or(i64::MAX));
    setsockopt(&netlink, ReceiveTimeout, &patience)?;
    let mut request = Vec::with_capacity(HEADER + 56);
    request.extend(72_u32.to_ne_bytes()); // the length of all
    request.extend(BY_FAMILY.to_ne_bytes());
    request.extend(DUMP.to_ne_bytes());
    request.extend([0; 8]); // sequence, port
    // struct inet_diag_req_v2: family, protocol, extensions, padding, states, and a zero for each field of the id.
    request.extend([libc::AF_INET as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    request.extend(LISTENING.to_ne_bytes());
    request.extend([0; 48]);
    sendto(netlink.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    Ok(netlink)
}

/// Reads one part of the list. Returns whether it was the last.
fn read(mut part: &[u8], at: SocketAddr, found: &mut Vec<SocketOwner>) -> io::Result<bool> {
    let foreign = || io::Error::new(io::ErrorKind::InvalidData, "sock_diag's answer is not understood");
    while !part.is_empty() {
        let length = usize::try_from(u32_at(part, 0).ok_or_else(foreign)?).map_err(|_| foreign())?;
        let message = part.get(HEADER..length).ok_or_else(foreign)?;
        match u16_at(part, 4) {
            Some(DONE) => return Ok(true),
            Some(ERROR) => {
                let number = u32_at(message, 0).ok_or_else(foreign)?.cast_signed();
                return Err(io::Error::from_raw_os_error(-number));
            }
            Some(BY_FAMILY) => found.extend(owner(message, at)),
            _ => return Err(foreign()),
        }
        part = part.get(aligned(length)..).unwrap_or_default();
    }
    Ok(false)
}

/// The owner of the listener in this `struct inet_diag_msg`, if it is at this address.
fn owner(message: &[u8], at: SocketAddr) -> Option<SocketOwner> {
    // Family, state, timer, retransmits; own port, peer's port, own address.
    let port = u16::from_be_bytes(message.get(4..6)?.try_into().ok()?);
    let address: [u8; 4] = message.get(8..12)?.try_into().ok()?;
    (at.ip() == IpAddr::from(address) && (at.port() == 0 || at.port() == port)).then_some(())?;
    let user = u32_at(message, 64)?;
    let mut attributes = message.get(FIXED..)?;
    while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let length = usize::from(length).max(4);
        if kind == CGROUP {
            let cgroup = u64::from_ne_bytes(attributes.get(4..12)?.try_into().ok()?);
            return Some(SocketOwner { cgroup, user });
        }
        attributes = attributes.get(aligned(length)..)?;
    }
    None
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_of_the_process_that_listens_at_its_address() {
        let number = fastrand::u32(NUMBERS);
        assert_eq!(attesters(number).unwrap(), []);
        let attestation = Attestation::prepare().unwrap();
        assert_eq!(attesters(number).unwrap(), []);
        attestation.attest(number).unwrap();
        let own = own().unwrap();
        assert_eq!(attesters(number).unwrap(), [own]);
        assert_eq!(own.user, nix::unistd::geteuid().as_raw());
        assert!(own.cgroup > 0);
        drop(attestation);
        assert_eq!(attesters(number).unwrap(), []);
    }

    #[test]
    fn whatever_the_kernel_answers_nothing_panics() {
        let at = SocketAddr::from((address(*NUMBERS.start()), 0));
        let mut found = Vec::new();
        for length in [0_u32, 1, 15, 16, 17, 88, 100, u32::MAX] {
            for kind in [0, BY_FAMILY, DONE, ERROR] {
                for size in [0, 4, 16, 20, 90, 100] {
                    let mut part = length.to_ne_bytes().to_vec();
                    part.extend(kind.to_ne_bytes());
                    part.resize(part.len() + size, 0);
                    let _ = read(&part, at, &mut found);
                }
            }
        }
        assert_eq!(found, []);
    }
}
