//! The TCP connections of a network namespace, by sock_diag(7): who has them, where they lead, and for how long nothing has
//! passed. The same interface ends one (SOCK_DESTROY, as `ss --kill` does).
//!
//! The socket belongs to the namespace that its thread was in when it was opened, and asks about that one from anywhere.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
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
const INET_DIAG_MARK: u16 = 15;
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

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Where it leads, as the application sees it: translation of addresses happens to packets. No IPv4-mapped address.
    pub remote: SocketAddr,
    /// The cgroup in which the socket was made, by the inode number of its directory.
    pub cgroup: Option<u64>,
    /// SO_MARK; 0 without CAP_NET_ADMIN.
    pub mark: u32,
    /// Since the last data in either direction. `None` if it was not asked for, or while something waits to be read, sent or
    /// acknowledged.
    pub idle: Option<Duration>,
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
            self.ask(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, family, idle, &[0; ID])?;
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

    /// The connection as it is now.
    ///
    /// # Errors
    ///
    /// The kernel's error: it is gone.
    pub fn again(&mut self, connection: &Connection) -> io::Result<Connection> {
        self.ask(SOCK_DIAG_BY_FAMILY, NLM_F_ACK, connection.family, true, &connection.id)?;
        let mut found = None;
        self.answers(|now| {
            found = Some(*now);
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
        self.ask(SOCK_DESTROY, NLM_F_ACK, connection.family, false, &connection.id)?;
        self.answers(|_| true).map(drop)
    }

    /// Sends a request: `struct inet_diag_req_v2`.
    fn ask(&mut self, kind: u16, flags: u16, family: u8, idle: bool, id: &[u8; ID]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let extensions = if idle { 1 << (INET_DIAG_INFO - 1) } else { 0 };
        let mut message = Vec::with_capacity(HEADER + 8 + ID);
        message.extend((HEADER as u32 + 8 + ID as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend([family, libc::IPPROTO_TCP as u8, extensions, 0]);
        message.extend(STATES.to_ne_bytes());
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
    let is_open = 1_u32.checked_shl(state.into()).is_some_and(|state| state & STATES != 0);
    if !is_open {
        return None;
    }
    let id: [u8; ID] = number(body, 4)?;
    let port = u16::from_be_bytes(number(&id, 2)?);
    let remote = match i32::from(family) {
        libc::AF_INET => SocketAddr::from((Ipv4Addr::from(number::<4>(&id, 20)?), port)),
        libc::AF_INET6 => {
            let address = Ipv6Addr::from(number::<16>(&id, 20)?);
            SocketAddr::new(std::net::IpAddr::from(address).to_canonical(), port)
        }
        _ => return None,
    };
    let is_queued = [56, 60].map(|at| number(body, at).map(u32::from_ne_bytes)) != [Some(0), Some(0)];
    let mut connection = Connection { remote, cgroup: None, mark: 0, idle: None, family, id };
    let mut rest = body.get(BODY..)?;
    while let (Some(length), Some(kind)) = (number(rest, 0), number(rest, 2)) {
        let length = usize::from(u16::from_ne_bytes(length));
        let Some(value) = rest.get(4..length) else { break };
        match u16::from_ne_bytes(kind) {
            INET_DIAG_MARK => connection.mark = number(value, 0).map_or(0, u32::from_ne_bytes),
            INET_DIAG_CGROUP_ID => connection.cgroup = number(value, 0).map(u64::from_ne_bytes),
            INET_DIAG_INFO if !is_queued => connection.idle = idle(value),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(connection)
}

/// For how long nothing has passed, by `struct tcp_info` (linux/tcp.h): `tcpi_unacked`, `tcpi_last_data_sent` and
/// `tcpi_last_data_recv`, the latter in milliseconds.
fn idle(info: &[u8]) -> Option<Duration> {
    let of = |at| number(info, at).map(u32::from_ne_bytes);
    let (unacknowledged, sent, received) = (of(24)?, of(44)?, of(52)?);
    (unacknowledged == 0).then(|| Duration::from_millis(sent.min(received).into()))
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::mem::offset_of;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// The connection of this thread's namespace that leads there.
    fn find(diag: &mut SockDiag, remote: SocketAddr) -> Option<Connection> {
        let mut found = None;
        let all = diag.connections(true, usize::MAX, |it| {
            if it.remote == remote {
                found = Some(*it);
            }
        });
        assert!(all.unwrap());
        found
    }

    #[test]
    fn a_connection_is_found_by_where_it_leads_with_its_cgroup() {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(at) else { continue };
            let to = listener.local_addr().unwrap();
            let mut diag = SockDiag::open().unwrap();
            assert_eq!(find(&mut diag, to), None);
            let mut client = TcpStream::connect(to).unwrap();
            let found = find(&mut diag, to).unwrap();
            assert!(found.idle.is_some_and(|idle| idle < Duration::from_secs(60)), "{found:?}");
            assert!(found.cgroup.is_some() || !own.contains("0::"), "{found:?}");
            assert_eq!(diag.again(&found).unwrap().remote, to);
            // What nobody has read yet is on its way.
            client.write_all(b"x").unwrap();
            let server = listener.accept().unwrap().0;
            let back = find(&mut diag, client.local_addr().unwrap()).unwrap();
            assert_eq!(back.idle, None, "unread bytes: {server:?}");
            drop(client);
            assert!(diag.again(&found).is_err(), "closed");
        }
    }

    #[test]
    fn a_socket_of_ipv6_that_leads_to_ipv4_is_shown_as_it_is() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let std::net::IpAddr::V4(v4) = to.ip() else { panic!("{to}") };
        let Ok(_client) = TcpStream::connect((v4.to_ipv6_mapped(), to.port())) else { return };
        assert!(find(&mut SockDiag::open().unwrap(), to).is_some());
    }

    #[test]
    fn no_more_connections_are_read_than_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let _clients = [to; 3].map(|to| TcpStream::connect(to).unwrap());
        let mut seen = 0;
        let all = SockDiag::open().unwrap().connections(false, 2, |_| seen += 1).unwrap();
        assert_eq!((all, seen), (false, 2));
    }

    #[test]
    fn whatever_the_kernel_says_is_read_without_a_panic() {
        let mut whole = vec![0; HEADER + BODY];
        whole[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        whole[HEADER] = libc::AF_INET as u8;
        whole[HEADER + 1] = 1;
        whole[HEADER + 4 + 2..HEADER + 4 + 4].copy_from_slice(&80_u16.to_be_bytes());
        whole[HEADER + 4 + 20..HEADER + 4 + 24].copy_from_slice(&[10, 96, 0, 10]);
        whole.extend(12_u16.to_ne_bytes());
        whole.extend(INET_DIAG_CGROUP_ID.to_ne_bytes());
        whole.extend(7_u64.to_ne_bytes());
        let length = whole.len() as u32;
        whole[..4].copy_from_slice(&length.to_ne_bytes());
        let read = |bytes: &[u8]| messages(bytes, 0).collect::<Vec<_>>();
        let Some(Message::Connection(it)) = read(&whole).pop() else { panic!("a connection") };
        assert_eq!((it.remote, it.cgroup, it.idle), ("10.96.0.10:80".parse().unwrap(), Some(7), None));
        assert!(messages(&whole, 1).next().is_none(), "an answer to another request");
        for length in 0..whole.len() {
            read(&whole[..length]);
            let mut shorter = whole[..length].to_vec();
            if length >= 4 {
                shorter[..4].copy_from_slice(&(length as u32).to_ne_bytes());
            }
            read(&shorter);
            // Lengths that lie.
            for lie in [0, 1, 3, 4, 15, 16, 255] {
                for at in [0, HEADER + BODY] {
                    let mut lies = whole.clone();
                    lies[at] = lie;
                    read(&lies[..length]);
                }
            }
        }
    }

    #[test]
    fn the_times_are_where_the_kernel_writes_them() {
        assert_eq!(offset_of!(libc::tcp_info, tcpi_unacked), 24);
        assert_eq!(offset_of!(libc::tcp_info, tcpi_last_data_sent), 44);
        assert_eq!(offset_of!(libc::tcp_info, tcpi_last_data_recv), 52);
    }
}
