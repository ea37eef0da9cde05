//! Reading while memory is short.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use crate::allocator::is_short;

/// How much is read at once while memory is short.
const SHORT: usize = 4 * 1024;

/// Reads from `stream`; not much at once while memory is short.
pub(super) fn poll_read(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    match is_short() && buf.remaining() > SHORT {
        true => poll_little(stream, cx, buf),
        false => Pin::new(stream).poll_read(cx, buf),
    }
}

/// Reads a little: the kernel gives memory to what was read, not to what is there to be read into.
#[cold]
fn poll_little(stream: &mut TcpStream, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    let mut little = ReadBuf::new(buf.initialize_unfilled_to(SHORT));
    ready!(Pin::new(stream).poll_read(cx, &mut little))?;
    let read = little.filled().len();
    buf.advance(read);
    Poll::Ready(Ok(()))
}
