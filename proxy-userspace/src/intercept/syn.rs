//! The sequence number of the SYN that opened an accepted connection.
//!
//! The client chooses it, and address translation does not change it. So it distinguishes a connection from others with
//! the same addresses and ports: an earlier one, or one that somebody else forges.
//!
//! The kernel keeps a copy of the SYN for listeners that request it, but not if it answered with a SYN cookie, as it
//! does under a SYN flood. Then the number is computed: the next expected number less the received bytes, both known to
//! the kernel.
#![allow(unsafe_code, reason = "socket options that no crate has")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// From linux/tcp.h.
const TCP_REPAIR: libc::c_int = 19;
const TCP_REPAIR_QUEUE: libc::c_int = 20;
const TCP_QUEUE_SEQ: libc::c_int = 21;
const TCP_SAVE_SYN: libc::c_int = 27;
const TCP_SAVED_SYN: libc::c_int = 28;
/// Values of the options above: on, off without a window probe, and the receive queue.
const REPAIR_ON: libc::c_int = 1;
const REPAIR_OFF: libc::c_int = -1;
const RECEIVED: libc::c_int = 1;

/// The beginning of `struct tcp_info`, as far as needed, and the offset of `tcpi_bytes_received`, eight bytes.
const INFO: usize = 136;
const BYTES_RECEIVED: usize = 128;

/// How often the number and the received bytes are read in turn until no byte arrived in between.
const TRIES: usize = 16;

const PROTOCOL_TCP: u8 = 6;
/// The offset of the sequence number in a TCP header (RFC 9293, 3.1).
const SEQUENCE: usize = 4;

/// Makes the kernel keep the SYN of each connection to `listener` until it is read: about 60 bytes.
///
/// # Errors
///
/// The socket is not a TCP socket.
pub fn save_syns(listener: BorrowedFd<'_>) -> io::Result<()> {
    set(listener, libc::IPPROTO_TCP, TCP_SAVE_SYN, 1)
}

/// The sequence number of the SYN that opened this connection; call it once. `None` if unknown: the kernel did not keep
/// the SYN, and weir lacks CAP_NET_ADMIN.
pub(super) fn sequence(connection: BorrowedFd<'_>) -> Option<u32> {
    saved(connection).or_else(|| reckoned(connection))
}

/// From the copy of the SYN.
fn saved(connection: BorrowedFd<'_>) -> Option<u32> {
    // Two headers of maximum length fit, except with IPv6 extensions.
    let mut headers = [0_u8; 256];
    let length = get(connection, TCP_SAVED_SYN, &mut headers).ok()?;
    read(headers.get(..length)?)
}

/// Computed: the next number expected from the client, less the bytes received and the SYN itself.
fn reckoned(connection: BorrowedFd<'_>) -> Option<u32> {
    set(connection, libc::IPPROTO_TCP, TCP_REPAIR, REPAIR_ON).ok()?;
    let number = reckon(connection);
    // None of these calls fails for a socket that accepted the first one. They undo its side effects: without
    // SO_REUSEADDR, a lingering connection would keep the next weir from binding the port.
    let _ = set(connection, libc::IPPROTO_TCP, TCP_REPAIR, REPAIR_OFF);
    let _ = set(connection, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1);
    number
}

fn reckon(connection: BorrowedFd<'_>) -> Option<u32> {
    set(connection, libc::IPPROTO_TCP, TCP_REPAIR_QUEUE, RECEIVED).ok()?;
    for _ in 0..TRIES {
        let before = received(connection)?;
        let mut next = [0; 4];
        get(connection, TCP_QUEUE_SEQ, &mut next).ok().filter(|length| *length == 4)?;
        if received(connection)? == before {
            // The lower 32 bits of both: sequence numbers wrap around.
            return Some(u32::from_ne_bytes(next).wrapping_sub(before as u32).wrapping_sub(1));
        }
    }
    None
}

/// The number of bytes received from the client in order; the FIN counts as one.
fn received(connection: BorrowedFd<'_>) -> Option<u64> {
    let mut info = [0_u8; INFO];
    get(connection, libc::TCP_INFO, &mut info).ok().filter(|length| *length == INFO)?;
    info.get(BYTES_RECEIVED..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

/// Sets an integer socket option.
fn set(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the pointer is to a live variable, and the length is its size.
    let answer =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads a TCP option into `value`; returns how many bytes the kernel wrote.
fn get(socket: BorrowedFd<'_>, option: libc::c_int, value: &mut [u8]) -> io::Result<usize> {
    let mut length = libc::socklen_t::try_from(value.len()).unwrap_or(libc::socklen_t::MAX);
    let (level, to) = (libc::IPPROTO_TCP, value.as_mut_ptr().cast());
    // SAFETY: the pointers are to live variables, and the length says how long the first is.
    let answer = unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, to, &raw mut length) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(length as usize) }
}

/// The sequence number in an IP header with a TCP header behind it.
fn read(headers: &[u8]) -> Option<u32> {
    let first = *headers.first()?;
    let (protocol, length) = match first >> 4 {
        4 => (*headers.get(9)?, usize::from(first & 15) * 4),
        6 => (*headers.get(6)?, 40),
        _ => return None,
    };
    // An IPv6 header with extensions is followed by something else: a pod's SYN has none.
    let number = headers.get(length + SEQUENCE..)?.first_chunk()?;
    (protocol == PROTOCOL_TCP).then(|| u32::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(first: u8, length: usize, protocol_at: usize) -> Vec<u8> {
        let mut bytes = vec![0; length + 20];
        bytes[0] = first;
        bytes[protocol_at] = PROTOCOL_TCP;
        bytes[length + SEQUENCE..][..4].copy_from_slice(&[1, 2, 3, 4]);
        bytes
    }

    #[test]
    fn the_number_is_found_behind_either_ip_header() {
        for bytes in [headers(0x45, 20, 9), headers(0x4f, 60, 9), headers(0x60, 40, 6)] {
            assert_eq!(read(&bytes), Some(0x0102_0304));
            assert_eq!(read(&bytes[..bytes.len() - 13]), None);
        }
        let mut extended = headers(0x60, 40, 6);
        extended[6] = 0;
        assert_eq!(read(&extended), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn the_number_can_be_reckoned_without_the_syn_whatever_the_client_has_done_since() {
        use std::io::Write;
        use std::net::{Shutdown, TcpListener, TcpStream};
        use std::os::fd::AsFd;

        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            save_syns(listener.as_fd()).unwrap();
            // Sends nothing; a few bytes; many bytes, and continues; closes; resets.
            let deeds: [fn(TcpStream) -> Option<TcpStream>; 5] = [
                Some,
                |mut client| client.write_all(b"some").is_ok().then_some(client),
                |mut client| {
                    let again = client.try_clone().unwrap();
                    std::thread::spawn(move || while client.write_all(&[0; 65_536]).is_ok() {});
                    Some(again)
                },
                |mut client| {
                    client.write_all(b"all of it").unwrap();
                    client.shutdown(Shutdown::Write).unwrap();
                    Some(client)
                },
                |client| {
                    socket2::SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO)).unwrap();
                    None
                },
            ];
            for (number, deed) in deeds.into_iter().enumerate() {
                let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (server, _) = listener.accept().unwrap();
                let client = deed(client);
                let reckoned = reckoned(server.as_fd());
                let expected = saved(server.as_fd());
                assert!(expected.is_some());
                if is_net_admin() {
                    assert_eq!(reckoned, expected, "{address}, deed {number}");
                    assert!(socket2::SockRef::from(&server).reuse_address().unwrap());
                } else {
                    assert_eq!(reckoned, None);
                }
                drop((server, client));
            }
        }
    }

    fn is_net_admin() -> bool {
        super::super::capabilities::missing().is_empty()
    }
}
