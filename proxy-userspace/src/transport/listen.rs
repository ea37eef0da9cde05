//! Listening sockets.
//!
//! One socket per port, shared by all workers: each registers a duplicate of it and any free worker accepts. So one
//! accept queue has every client that connected (none is lost when a worker ends), the dead-man switch has one socket,
//! and one descriptor is passed to a successor.
//!
//! Deliberately absent: groups of sockets at one address (SO_REUSEPORT). Closing one of a group resets the clients in its
//! queue. [`bind_beside`] uses the option for sockets at different addresses, which make no group.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockAddr, SockFilter, SockRef, Socket, Type};

/// Connections that may wait to be accepted, per port; the kernel limits it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A port that could not be bound; the text says what to do.
#[derive(Debug)]
pub struct BindError {
    address: SocketAddr,
    cause: io::Error,
}

impl BindError {
    /// Whether another process has the port.
    pub fn is_in_use(&self) -> bool {
        self.cause.kind() == io::ErrorKind::AddrInUse
    }
}

/// Listens on `address`. `[::]` also accepts IPv4, and becomes `0.0.0.0` on a node without IPv6.
///
/// # Errors
///
/// [`BindError`], whose text has the address and the remedy.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    open(address)
        .or_else(|cause| match v4_twin(address) {
            Some(twin) if cause.raw_os_error() == Some(libc::EAFNOSUPPORT) => open(twin),
            _ => Err(cause),
        })
        .map_err(|cause| BindError { address, cause })
}

/// Binds `address` although sockets of this process, `others`, have its port at other addresses, of which one may be the
/// unspecified address (`0.0.0.0`, `[::]`). It gets no connections before [`start_listening`]; then those to `address`, or those that
/// no socket at a more specific address gets.
///
/// # Errors
///
/// As [`bind`].
pub fn bind_beside(address: SocketAddr, others: &[&TcpListener]) -> Result<TcpListener, BindError> {
    let bound = || {
        for other in others {
            SockRef::from(*other).set_reuse_port(true)?;
        }
        let socket = unbound(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&SockAddr::from(address))?;
        Ok(socket.into())
    };
    bound().map_err(|cause| BindError { address, cause })
}

/// Has a socket made by [`bind_beside`] accept connections.
///
/// # Errors
///
/// The kernel's error.
pub fn start_listening(socket: &TcpListener) -> io::Result<()> {
    SockRef::from(socket).listen(BACKLOG)
}

/// How often a free range is looked for: after many short connections, few ranges are whole.
const TRIES: usize = 1024;

/// Listens on `count` consecutive ports, starting with `first`. A first port of 0 uses any free range of ports.
///
/// # Errors
///
/// [`BindError`] of the first port that could not be bound.
pub fn bind_range(first: SocketAddr, count: u16) -> Result<Vec<TcpListener>, BindError> {
    if first.port() != 0 {
        return run(first, count);
    }
    let mut tries = 0;
    loop {
        let lead = bind(first)?;
        let base = lead.local_addr().map_err(|cause| BindError { address: first, cause })?;
        let rest = base
            .port()
            .checked_add(1)
            .ok_or(())
            .and_then(|next| run(SocketAddr::new(base.ip(), next), count - 1).map_err(|_| ()));
        tries += 1;
        match rest {
            Ok(rest) => return Ok(std::iter::once(lead).chain(rest).collect()),
            Err(()) if tries < TRIES => {}
            Err(()) => {
                let cause = io::Error::new(io::ErrorKind::AddrInUse, "no run of free ports");
                return Err(BindError { address: first, cause });
            }
        }
    }
}

/// From now on new clients cannot connect; those that have connected, or are completing the handshake, are still
/// accepted. Closing a listener after its queue is empty then loses no client whose connect() succeeded.
///
/// A classic BPF filter drops each segment that opens a connection (SYN without ACK, the fourteenth byte of the TCP
/// header, RFC 9293 §3.1) and passes those that complete one. The client's kernel retries a second later, and reaches
/// the listener of that time.
///
/// # Errors
///
/// The kernel's error (newer kernels require CAP_NET_ADMIN); the listener is then unchanged.
pub fn refuse_new(listener: &TcpListener) -> io::Result<()> {
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const SYN: u32 = 0x02;
    const SYN_OR_ACK: u32 = 0x12;
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(AND, 0, 0, SYN_OR_ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

fn run(first: SocketAddr, count: u16) -> Result<Vec<TcpListener>, BindError> {
    (0..count)
        .map(|offset| {
            let port = first.port().checked_add(offset);
            let overflow = || BindError { address: first, cause: io::ErrorKind::AddrNotAvailable.into() };
            bind(SocketAddr::new(first.ip(), port.ok_or_else(overflow)?))
        })
        .collect()
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = unbound(address)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn unbound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn v4_twin(address: SocketAddr) -> Option<SocketAddr> {
    (address.ip() == Ipv6Addr::UNSPECIFIED).then(|| (Ipv4Addr::UNSPECIFIED, address.port()).into())
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, cause } = self;
        let port = address.port();
        match cause.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "cannot listen on {address}: another process has port {port}; stop it (`ss -ltnp 'sport = :{port}'` \
                 names it) or set another `listen`"
            ),
            io::ErrorKind::PermissionDenied => write!(
                f,
                "cannot listen on {address}: not permitted; ports below 1024 need CAP_NET_BIND_SERVICE"
            ),
            io::ErrorKind::AddrNotAvailable => {
                write!(f, "cannot listen on {address}: this machine does not have that address or port")
            }
            _ => write!(f, "cannot listen on {address}: {cause}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named_with_its_cure() {
        let held = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let address = held.local_addr().expect("it is bound");
        let text = bind(address).expect_err("it is taken").to_string();
        assert!(text.contains(&address.to_string()) && text.contains("another process"), "{text}");
    }

    #[test]
    fn a_listener_that_refuses_new_clients_still_takes_those_that_connected() {
        let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let early = std::net::TcpStream::connect(address).expect("it listens");
        match refuse_new(&listener) {
            Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
                let said =
                    "left out, because this kernel asks for CAP_NET_ADMIN: a test of a listener's filter";
                return io::Write::write_fmt(&mut io::stderr(), format_args!("{said}\n")).expect("stderr");
            }
            attached => attached.expect("a filter may be attached"),
        }
        let late = std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(300));
        assert_eq!(late.expect_err("nobody new").kind(), io::ErrorKind::TimedOut);
        let (_, peer) = listener.accept().expect("the early one");
        assert_eq!(peer, early.local_addr().expect("it is connected"));
    }

    #[test]
    fn a_range_from_port_zero_is_consecutive() {
        let held = bind_range(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 8).expect("free ports");
        let ports: Vec<u16> = held.iter().map(|one| one.local_addr().expect("bound").port()).collect();
        assert!(ports.windows(2).all(|pair| pair[1] == pair[0] + 1), "{ports:?}");
    }
}
