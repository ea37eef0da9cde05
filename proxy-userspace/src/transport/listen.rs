//! Listening sockets.
//!
//! One socket per port, shared by all workers: each registers a duplicate of it and whoever is free accepts.
//! So one accept queue holds every client that connected (nothing is lost when a worker goes), one socket
//! stands in the dead-man switch, and one descriptor is handed to a successor.
//!
//! Deliberately absent: SO_REUSEPORT. Closing one socket of such a group resets the clients in its queue.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Connections that may wait to be accepted, per port; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A port that could not be had; says what to do.
#[derive(Debug)]
pub struct BindError {
    address: SocketAddr,
    cause: io::Error,
}

/// Listens on `address`. `[::]` also takes IPv4, and becomes `0.0.0.0` on a node without IPv6.
///
/// # Errors
///
/// [`BindError`], whose text names the address and the cure.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    open(address)
        .or_else(|cause| match v4_twin(address) {
            Some(twin) if cause.raw_os_error() == Some(libc::EAFNOSUPPORT) => open(twin),
            _ => Err(cause),
        })
        .map_err(|cause| BindError { address, cause })
}

/// Listens on `count` consecutive ports from `first` on. A first port of 0 takes any free run of ports.
///
/// # Errors
///
/// [`BindError`] of the first port that could not be had.
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
            Err(()) if tries < 64 => {}
            Err(()) => {
                let cause = io::Error::new(io::ErrorKind::AddrInUse, "no run of free ports");
                return Err(BindError { address: first, cause });
            }
        }
    }
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
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
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
    fn a_range_from_port_zero_is_consecutive() {
        let held = bind_range(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 8).expect("free ports");
        let ports: Vec<u16> = held.iter().map(|one| one.local_addr().expect("bound").port()).collect();
        assert!(ports.windows(2).all(|pair| pair[1] == pair[0] + 1), "{ports:?}");
    }
}
