//! The hop limit of a connection's packets: TTL (RFC 791 §3.2), Hop Limit (RFC 8200 §3).
//!
//! For an accepted connection it is read with the multicast options: for a stream socket Linux stores there the hop
//! limit of the packet that completed its handshake (`tcp_v4_syn_recv_sock`, `tcp_v6_syn_recv_sock`), and
//! `IP_PKTOPTIONS` reads the same value. Unlike a copy of the SYN (`TCP_SAVE_SYN`) this needs no memory, and also works
//! with SYN cookies.

use std::io;

use socket2::SockRef;

/// The hop limit with which an accepted `connection` arrived. IPv4 on an IPv6 socket counts as IPv6. `None` where the
/// kernel does not report it; a kernel that does not store it reports 1, the default of the option.
pub fn hop_limit(connection: &SockRef<'_>, is_ipv6: bool) -> Option<u8> {
    let limit = if is_ipv6 { connection.multicast_hops_v6() } else { connection.multicast_ttl_v4() };
    limit.ok()?.try_into().ok()
}

/// Sets the hop limit of the packets of `socket`.
///
/// # Errors
///
/// The kernel's error.
pub fn set_hop_limit(socket: &SockRef<'_>, limit: u8, is_ipv6: bool) -> io::Result<()> {
    if is_ipv6 {
        socket.set_unicast_hops_v6(limit.into())?;
    }
    // Also for an IPv6 socket, which may connect to an IPv4 address.
    socket.set_ttl_v4(limit.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, SockAddr, Socket, Type};
    use std::net::SocketAddr;

    #[test]
    fn a_connection_comes_with_the_hop_limit_that_it_was_sent_with() {
        for (listens, dials) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::]:0", "::1"),
            ("[::]:0", "127.0.0.1"),
            ("[::]:0", "::ffff:127.0.0.1"),
        ] {
            let Ok(listener) = crate::transport::bind(listens.parse().unwrap()) else { continue };
            let at = SocketAddr::new(dials.parse().unwrap(), listener.local_addr().unwrap().port());
            for limit in [254, 234, 192, 64] {
                let client = Socket::new(Domain::for_address(at), Type::STREAM, None).unwrap();
                set_hop_limit(&SockRef::from(&client), limit, at.is_ipv6()).unwrap();
                client.connect(&SockAddr::from(at)).unwrap();
                // `bind` makes non-blocking sockets.
                let (accepted, peer) = loop {
                    match listener.accept() {
                        Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                        accepted => break accepted.unwrap(),
                    }
                };
                let came = hop_limit(&SockRef::from(&accepted), peer.is_ipv6());
                assert_eq!(came, Some(limit), "{listens} {dials}");
            }
        }
    }
}
