//! Network namespaces as files, and what weir makes in a pod's.
//!
//! [`listen`], [`is_loopback_up`], [`add_route`] and [`remove_route`] act in the calling thread's network namespace.
#![allow(unsafe_code, reason = "ioctls and a netlink socket")]

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use nix::sys::statfs::{FsType, fstatfs};
use proxy_ebpf::pods::{LISTEN_V4, LISTEN_WIRE_V4};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// `NSFS_MAGIC` of linux/magic.h: the file system of namespaces.
const NSFS: i64 = 0x6e73_6673;

/// `NS_GET_NSTYPE` of linux/nsfs.h.
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;

/// `SIOCGSKNS` of linux/sockios.h: the network namespace of a socket.
const SIOCGSKNS: libc::c_ulong = 0x894c;

/// `SIOCGIFFLAGS` of linux/sockios.h: an interface's flags.
const SIOCGIFFLAGS: libc::c_ulong = 0x8913;

/// Connections that may wait to be accepted in one pod; the kernel limits it to the pod's `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Bytes that the kernel buffers of what a client in a pod has sent (SO_RCVBUF), until the listener gets the bound that is
/// configured: never as many as the pod's own settings say (net.ipv4.tcp_rmem).
const RECEIVED: usize = 64 * 1024;

/// What a file of the folder of network namespaces is: its device and inode number identify a namespace as long as
/// something holds it.
pub type NetnsId = (u64, u64);

/// Opens a network namespace by its file.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidInput`], without a number of the system's, if it is another file: also before the runtime has
/// mounted the namespace there. Else the kernel's error.
pub fn open(path: &Path) -> io::Result<(OwnedFd, NetnsId)> {
    // A pipe or a device must not make this wait.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    // SAFETY: an ioctl without memory.
    let kind = || match unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) } {
        kind if kind < 0 => Err(io::Error::last_os_error()),
        kind => Ok(kind),
    };
    if fstatfs(&file)?.filesystem_type() != FsType(NSFS) || kind()? != libc::CLONE_NEWNET {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the file is no network namespace"));
    }
    let metadata = file.metadata()?;
    Ok((File::into(file), (metadata.dev(), metadata.ino())))
}

/// The network namespace of a socket. It needs CAP_NET_ADMIN there.
///
/// # Errors
///
/// The kernel's error.
pub fn of_socket(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: an ioctl without memory, which returns a new descriptor that nothing else owns.
    unsafe {
        let fd = libc::ioctl(socket.as_raw_fd(), SIOCGSKNS);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Listens where diverted connections of this pod are steered to: at an address of the loopback interface and at the
/// fixed port itself. An automatic port would be one that the pod's own programs cannot bind any more.
///
/// # Errors
///
/// The kernel's error: the port is taken.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    listen_for_both(Ipv4Addr::from_bits(LISTEN_V4), port)
}

/// Listens where connections of other weirs to this pod are steered to, at another address and the same port as [`listen`].
///
/// # Errors
///
/// The kernel's error: the port is taken.
pub fn listen_on_wire(port: u16) -> io::Result<TcpListener> {
    listen_for_both(Ipv4Addr::from_bits(LISTEN_WIRE_V4), port)
}

fn listen_for_both(v4: Ipv4Addr, port: u16) -> io::Result<TcpListener> {
    // One socket for both families; it works also where IPv6 is disabled or the interface is still down.
    let both = open_listener(SocketAddr::new(v4.to_ipv6_mapped().into(), port));
    both.or_else(|cause| match cause.raw_os_error() {
        Some(libc::EAFNOSUPPORT) => open_listener(SocketAddr::new(v4.into(), port)),
        _ => Err(cause),
    })
}

/// Listens at this address, also while the interface is still down; of IPv6, for IPv6 alone.
///
/// # Errors
///
/// The kernel's error: the port is taken, or there is no IPv6.
pub fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    match address.is_ipv6() {
        true => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
        false => socket.set_freebind_v4(true)?,
    }
    start(socket, address)
}

/// Whether the loopback interface is up: while it is down, no address of weir's can be reached there.
///
/// # Errors
///
/// The kernel's error.
pub fn is_loopback_up() -> io::Result<bool> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: a struct of integers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    // SAFETY: a live request of the kernel's size, which it writes to.
    if unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGIFFLAGS, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: what this ioctl sets of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(libc::c_int::from(flags) & libc::IFF_UP != 0)
}

fn open_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    start(socket, address)
}

fn start(socket: Socket, address: SocketAddr) -> io::Result<TcpListener> {
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(RECEIVED)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_EXCL: u16 = 0x200;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_PREFSRC: u16 = 7;
const RT_TABLE_LOCAL: u8 = 255;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_HOST: u8 = 254;
const RTN_LOCAL: u8 = 2;

/// Makes the /64 local: its addresses are then the pod's own, with ::1 as the source of connections to them. Does nothing
/// where it is so already.
///
/// # Errors
///
/// The kernel's error: the pod has no IPv6, or its loopback interface is down.
pub fn add_route(prefix: Ipv6Addr) -> io::Result<()> {
    match route(prefix, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        answer => answer,
    }
}

/// Undoes [`add_route`].
///
/// # Errors
///
/// The kernel's error: there is no such route.
pub fn remove_route(prefix: Ipv6Addr) -> io::Result<()> {
    route(prefix, RTM_DELROUTE, 0)
}

/// Sends one message of rtnetlink(7) about the route, and reads the kernel's answer.
fn route(prefix: Ipv6Addr, kind: u16, flags: u16) -> io::Result<()> {
    let adds = kind == RTM_NEWROUTE;
    let scope = if adds { RT_SCOPE_UNIVERSE } else { RT_SCOPE_HOST };
    let family = libc::AF_INET6 as u8;
    let mut body = vec![family, 64, 0, 0, RT_TABLE_LOCAL, RTPROT_STATIC, scope, RTN_LOCAL, 0, 0, 0, 0];
    let mut attribute = |kind: u16, value: &[u8]| {
        body.extend((4 + value.len() as u16).to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(value);
    };
    attribute(RTA_DST, &prefix.octets());
    attribute(RTA_OIF, &if_nametoindex("lo")?.to_ne_bytes());
    if adds {
        attribute(RTA_PREFSRC, &Ipv6Addr::LOCALHOST.octets());
    }
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend((16 + body.len() as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    sendto(netlink.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    // The kernel answers before sendto returns: a header of 16 bytes, and the error as a negative number.
    let mut answer = [0; 1024];
    let length = recv(netlink.as_fd().as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
    let code = answer[..length.min(answer.len())].get(16..20).and_then(|it| it.first_chunk());
    match code.map(|it| i32::from_ne_bytes(*it)) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
