//! The TCP connections of a network namespace, by sock_diag(7): who has them, where they lead, and for how long nothing has
//! passed. The same interface ends one (SOCK_DESTROY, as `ss --kill` does).
//!
//! The socket belongs to the namespace that its thread was in when it was opened, and asks about that one from anywhere.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

// linux/netlink.h and linux/sock_diag.h.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;

// linux/inet_diag.h: attributes of an answer.
const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_CGROUP_ID: u16 = 21;

/// Length in bytes of a message header.
const HEADER: usize = 16;
/// `struct inet_diag_sockid`: ports, addresses, interface and cookie.
const ID: usize = 48;
/// `struct inet_diag_msg`, before the attributes.
const BODY: usize = 72;

/// The kernel writes at most 32 KiB at a time (`netlink_dump`).
const BUFFER: usize = 32 * 1024;

/// TCP_ESTABLISHED and TCP_CLOSE_WAIT (net/tcp_states.h), as bits: connections that an application can still send on.
const STATES: u32 = 1 << 1 | 1 << 8;
/// TCP_FIN_WAIT1 and TCP_FIN_WAIT2: the application has closed its sending side, and still reads.
const ENDING: u32 = 1 << 4 | 1 << 5;
/// A connection that its far end may still read on: that end has not closed its sending side. A socket in TCP_CLOSE_WAIT may stay
/// for as long as its program likes, also after the far end is gone and others use its ports.
const VOUCHES: u32 = 1 << 1 | ENDING;
/// TCP_LISTEN.
const LISTENING: u32 = 1 << 10;

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Where it leads, as the application sees it: translation of addresses happens to packets. No IPv4-mapped address.
    pub remote: SocketAddr,
    /// The port at its near end.
    pub local_port: u16,
    /// The cgroup in which the socket was made, by the inode number of its directory.
    pub cgroup: Option<u64>,
    /// Since the peer's last data. `None` if it was not asked for, while something waits to be read, sent or acknowledged, or
    /// unless the peer's data came in a later clock tick than the last that was sent: an answer may be outstanding.
    pub idle: Option<Duration>,
    /// Its state, as a bit.
    state: u32,
    family: u8,
    id: [u8; ID],
}

/// Asks about one network namespace.
#[derive(Debug)]
pub struct SockDiag {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl SockDiag {
    /// Asks about the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkSockDiag)?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// Asks for the cgroup of a connection of weir's own.
    ///
    /// # Errors
    ///
    /// The kernel does not tell whose a connection is, and why.
    pub fn probe() -> io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let to = listener.local_addr()?;
        let client = TcpStream::connect(to)?;
        let missing = |what| Err(io::Error::new(io::ErrorKind::Unsupported, what));
        match Self::open()?.cgroup_of(client.local_addr()?, to) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => missing("no cgroup of a connection (Linux 5.9, CONFIG_SOCK_CGROUP_DATA)"),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                missing("no sock_diag for TCP (CONFIG_INET_TCP_DIAG, or the module tcp_diag)")
            }
            Err(cause) => Err(cause),
        }
    }

    /// Calls `each` for every connection of IPv4 and IPv6, at most `most` times; returns whether these were all. With
    /// `idle`, also for how long nothing has passed on each, for which the kernel locks the socket for a moment. Once it
    /// has returned false, only single connections can be asked about.
    ///
    /// # Errors
    ///
    /// The kernel's error: ENOENT where it has no sock_diag for TCP.
    pub fn connections(
        &mut self,
        idle: bool,
        most: usize,
        mut each: impl FnMut(&Connection),
    ) -> io::Result<bool> {
        let mut seen = 0;
        for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
            self.ask(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, family, STATES, idle, &[0; ID])?;
            let whole = self.answers(|connection| {
                seen += 1;
                if seen <= most {
                    each(connection);
                }
                seen <= most
            });
            if !whole? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The ports that are listened on, at any address of IPv4 or IPv6: connections from them were accepted, not opened.
    ///
    /// # Errors
    ///
    /// The kernel's error: see [`Self::connections`].
    pub fn listening(&mut self) -> io::Result<HashSet<u16>> {
        let mut ports = HashSet::new();
        for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
            self.ask(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, family, LISTENING, false, &[0; ID])?;
            self.answers(|listener| {
                ports.insert(listener.local_port);
                true
            })?;
        }
        Ok(ports)
    }

    /// The connection as it is now.
    ///
    /// # Errors
    ///
    /// The kernel's error: it is gone.
    pub fn again(&mut self, connection: &Connection) -> io::Result<Connection> {
        self.ask(SOCK_DIAG_BY_FAMILY, NLM_F_ACK, connection.family, STATES, true, &connection.id)?;
        let mut found = None;
        self.answers(|now| {
            found = Some(*now);
            true
        })?;
        found.filter(|it| it.state & ENDING == 0).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The cgroup in which a connected socket was made, by its own end and the other; `None` if the kernel does not say. A
    /// socket that is bound to an interface, or that only listens, is none of a connection, and neither is one whose other end
    /// has closed its sending side.
    ///
    /// # Errors
    ///
    /// The kernel's error: [`io::ErrorKind::NotFound`] where there is no such connection.
    pub fn cgroup_of(&mut self, own: SocketAddr, other: SocketAddr) -> io::Result<Option<u64>> {
        let (own, other) = (canonical(own), canonical(other));
        let family = if own.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        self.ask(SOCK_DIAG_BY_FAMILY, NLM_F_ACK, family as u8, u32::MAX, false, &id(own, other))?;
        let mut found = None;
        self.answers(|it| {
            // Where there is no such connection, the kernel shows who listens at the port.
            if it.state & VOUCHES != 0 && (it.local_port, it.remote) == (own.port(), other) {
                found = Some(it.cgroup);
            }
            true
        })?;
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Ends the connection: its application gets ECONNABORTED, and the peer a reset.
    ///
    /// # Errors
    ///
    /// The kernel's error: it is gone, CAP_NET_ADMIN is missing, or the kernel is built without it
    /// (CONFIG_INET_DIAG_DESTROY; EOPNOTSUPP).
    pub fn destroy(&mut self, connection: &Connection) -> io::Result<()> {
        self.ask(SOCK_DESTROY, NLM_F_ACK, connection.family, STATES, false, &connection.id)?;
        self.answers(|_| true).map(drop)
    }

    /// Sends a request: `struct inet_diag_req_v2`.
    fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        states: u32,
        idle: bool,
        id: &[u8; ID],
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let extensions = if idle { 1 << (INET_DIAG_INFO - 1) } else { 0 };
        let mut message = Vec::with_capacity(HEADER + 8 + ID);
        message.extend((HEADER as u32 + 8 + ID as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend([family, libc::IPPROTO_TCP as u8, extensions, 0]);
        message.extend(states.to_ne_bytes());
        message.extend(id);
        sendto(self.socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        Ok(())
    }

    /// Reads the answers to the last request, to their end or until `each` returns false; returns whether it was the end.
    fn answers(&mut self, mut each: impl FnMut(&Connection) -> bool) -> io::Result<bool> {
        loop {
            // The kernel writes the next part while the last one is read, so there is always one.
            let length = match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EINTR) => continue,
                length => length?,
            };
            let part = self.buffer.get(..length).unwrap_or(&self.buffer);
            for message in messages(part, self.sequence) {
                match message {
                    Message::Connection(connection) => {
                        if !each(&connection) {
                            return Ok(false);
                        }
                    }
                    Message::End => return Ok(true),
                    Message::Error(cause) => return Err(cause),
                }
            }
        }
    }
}

/// What the kernel says.
#[derive(Debug)]
enum Message {
    Connection(Connection),
    End,
    Error(io::Error),
}

/// The messages of one datagram that answer the request of this number; what makes no sense is left out.
fn messages(mut part: &[u8], sequence: u32) -> impl Iterator<Item = Message> {
    std::iter::from_fn(move || {
        loop {
            let length = number::<4>(part, 0).map(u32::from_ne_bytes)? as usize;
            let message = part.get(..length).filter(|it| it.len() >= HEADER)?;
            // Messages begin at multiples of four.
            part = part.get(length.next_multiple_of(4)..).unwrap_or_default();
            let kind = u16::from_ne_bytes(number(message, 4)?);
            if number(message, 8).map(u32::from_ne_bytes) != Some(sequence) {
                continue;
            }
            let body = message.get(HEADER..)?;
            match kind {
                NLMSG_DONE | NLMSG_ERROR => {
                    // A negative number of an error, or 0.
                    let code = number(body, 0).map_or(0, i32::from_ne_bytes);
                    let cause = (code < 0).then(|| io::Error::from_raw_os_error(code.saturating_neg()));
                    return Some(cause.map_or(Message::End, Message::Error));
                }
                SOCK_DIAG_BY_FAMILY => {
                    if let Some(connection) = connection(body) {
                        return Some(Message::Connection(connection));
                    }
                }
                _ => {}
            }
        }
    })
}

/// Reads `struct inet_diag_msg` with its attributes.
fn connection(body: &[u8]) -> Option<Connection> {
    let (family, state) = (*body.first()?, *body.get(1)?);
    // A single one is shown in any state.
    let state = 1_u32.checked_shl(state.into()).filter(|it| it & (STATES | ENDING | LISTENING) != 0)?;
    let id: [u8; ID] = number(body, 4)?;
    let (local_port, port) = (u16::from_be_bytes(number(&id, 0)?), u16::from_be_bytes(number(&id, 2)?));
    let remote = match i32::from(family) {
        libc::AF_INET => SocketAddr::from((Ipv4Addr::from(number::<4>(&id, 20)?), port)),
        libc::AF_INET6 => {
            let address = Ipv6Addr::from(number::<16>(&id, 20)?);
            SocketAddr::new(IpAddr::from(address).to_canonical(), port)
        }
        _ => return None,
    };
    let is_queued = [56, 60].map(|at| number(body, at).map(u32::from_ne_bytes)) != [Some(0), Some(0)];
    let mut connection = Connection { remote, local_port, cgroup: None, idle: None, state, family, id };
    let mut rest = body.get(BODY..)?;
    while let (Some(length), Some(kind)) = (number(rest, 0), number(rest, 2)) {
        let length = usize::from(u16::from_ne_bytes(length));
        let Some(value) = rest.get(4..length) else { break };
        match u16::from_ne_bytes(kind) {
            INET_DIAG_CGROUP_ID => connection.cgroup = number(value, 0).map(u64::from_ne_bytes),
            INET_DIAG_INFO if !is_queued => connection.idle = idle(value),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(connection)
}

/// What names a connection of any age (`INET_DIAG_NOCOOKIE`) at any interface.
fn id(own: SocketAddr, other: SocketAddr) -> [u8; ID] {
    let mut id = [0; ID];
    for (ports, address, end) in [(0, 4, own), (2, 20, other)] {
        id[ports..ports + 2].copy_from_slice(&end.port().to_be_bytes());
        match end.ip() {
            IpAddr::V4(v4) => id[address..address + 4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => id[address..address + 16].copy_from_slice(&v6.octets()),
        }
    }
    id[40..].fill(0xff);
    id
}

fn canonical(end: SocketAddr) -> SocketAddr {
    SocketAddr::new(end.ip().to_canonical(), end.port())
}

/// For how long nothing has passed, if the peer spoke last, by `struct tcp_info` (linux/tcp.h): `tcpi_unacked`,
/// `tcpi_last_data_sent` and `tcpi_last_data_recv`, the latter in milliseconds, of whole clock ticks. Of two in one tick
/// nothing tells which was the last.
fn idle(info: &[u8]) -> Option<Duration> {
    let of = |at| number(info, at).map(u32::from_ne_bytes);
    let (unacknowledged, sent, received) = (of(24)?, of(44)?, of(52)?);
    (unacknowledged == 0 && received < sent).then(|| Duration::from_millis(received.into()))
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
#[path = "sock_diag_tests.rs"]
mod tests;
