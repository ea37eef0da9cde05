//! The SYN of an accepted connection, of which the kernel keeps a copy for listeners that ask for one.
//!
//! Its sequence number is the client's own and random, and no translation of addresses changes it. So it tells a
//! connection from an earlier one that left an entry with the same addresses and ports.
#![allow(unsafe_code, reason = "socket options that no crate has")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// From linux/tcp.h.
const TCP_SAVE_SYN: libc::c_int = 27;
const TCP_SAVED_SYN: libc::c_int = 28;

const PROTOCOL_TCP: u8 = 6;
/// Where a TCP header has its sequence number (RFC 9293, 3.1).
const SEQUENCE: usize = 4;

/// Makes the kernel keep the SYN of each connection to `listener` until it is asked for: about 60 bytes.
///
/// # Errors
///
/// The socket is none of TCP.
pub fn save_syns(listener: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer is to a live variable, and the length is its size.
    let answer = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_SAVE_SYN,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The sequence number of the SYN that opened this connection; only once. `None` where the kernel kept none: it was
/// answered by a SYN cookie, or the listener did not ask for it.
pub(super) fn sequence(connection: BorrowedFd<'_>) -> Option<u32> {
    // Two headers of the greatest length are shorter, but for IPv6 extensions.
    let mut headers = [0_u8; 256];
    let mut length = size_of_val(&headers) as libc::socklen_t;
    // SAFETY: the pointers are to live variables, and the length says how long the first is.
    let answer = unsafe {
        libc::getsockopt(
            connection.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_SAVED_SYN,
            headers.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if answer < 0 { None } else { read(headers.get(..length as usize)?) }
}

/// The sequence number in an IP header with a TCP header behind it.
fn read(headers: &[u8]) -> Option<u32> {
    let first = *headers.first()?;
    let (protocol, length) = match first >> 4 {
        4 => (*headers.get(9)?, usize::from(first & 15) * 4),
        6 => (*headers.get(6)?, 40),
        _ => return None,
    };
    // Something else follows an IPv6 header that has extensions: none that a pod's SYN has.
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
}
