//! Reading without a copy, for whoever only counts what comes.

use std::io::{Error, ErrorKind, Result};
use std::net::TcpStream;
use std::os::fd::AsRawFd;

/// Takes up to `most` bytes that have come on a blocking `stream` and throws them away; returns how many. 0 is the end.
pub(crate) fn discard(stream: &TcpStream, most: usize) -> Result<usize> {
    loop {
        // SAFETY: with MSG_TRUNC a TCP socket drops the bytes (tcp(7)); nothing is written to the null pointer.
        let count = unsafe { libc::recv(stream.as_raw_fd(), std::ptr::null_mut(), most, libc::MSG_TRUNC) };
        if let Ok(count) = usize::try_from(count) {
            return Ok(count);
        }
        let error = Error::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
