//! Whether a client has ended its sending side, or reset the connection, while nothing is read from it.
//!
//! While hyper waits for an answer, or while the endpoint takes no more of a body, it reads nothing from the client. The
//! runtime knows from the kernel's events that the client has left (`EPOLLRDHUP`, `EPOLLHUP`), also then; asking it costs
//! no system call. It wakes the connection's task for that only as long as nothing is unread. With unread bytes (the
//! next request, or more of a body) the connection's timer looks here from time to time, see
//! [`Activity::look`](super::Activity::look).

use std::io;
use std::mem::MaybeUninit;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use socket2::SockRef;
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;

use super::activity::{Activity, Sending};
use super::reader::Reader;

/// Looks at the client's side of `stream`, which `reader` reads, and notes in `activity` what was found there.
/// `buffered` says whether bytes were read from it that hyper has not taken. The end wakes the task, whose exchange may
/// be waiting in it.
///
/// # Errors
///
/// When the client has reset the connection.
pub(super) fn look(
    stream: &TcpStream,
    reader: &mut Reader,
    activity: &Activity,
    buffered: bool,
    cx: &mut Context<'_>,
) -> io::Result<()> {
    loop {
        let ready = stream.poll_read_ready(cx)?;
        reader.note(&ready, cx);
        if ready.is_pending() {
            activity.set_sending(Sending::Open);
            return Ok(());
        }
        let state = state(stream);
        if is_reset(state) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let ended = state.is_read_closed();
        if !ended && !activity.takes_look() {
            activity.set_sending(Sending::Unread);
            return Ok(());
        }
        match stream.try_io(Interest::READABLE, || peek(stream)) {
            Ok(0) if !buffered => {
                activity.set_sending(Sending::Ended);
                cx.waker().wake_by_ref();
            }
            Ok(_) if ended => activity.set_sending(Sending::EndsLater),
            Ok(_) => activity.set_sending(Sending::Unread),
            // All was read before, and the runtime had not noticed.
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock && !ended => continue,
            Err(cause) => return Err(cause),
        }
        return Ok(());
    }
}

/// Whether the peer has reset the connection, or the kernel has given it up. Costs no system call.
pub(super) fn was_reset(stream: &TcpStream) -> bool {
    is_reset(state(stream))
}

/// As [`was_reset`], where weir has ended its own sending side: that both sides have ended is no reset.
pub(super) fn has_failed(stream: &TcpStream) -> bool {
    state(stream).is_error()
}

fn is_reset(state: Ready) -> bool {
    state.is_write_closed() || state.is_error()
}

/// What the runtime knows of `stream`.
fn state(stream: &TcpStream) -> Ready {
    let all = Interest::READABLE | Interest::WRITABLE | Interest::ERROR;
    match pin!(stream.ready(all)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(ready)) => ready,
        Poll::Ready(Err(_)) | Poll::Pending => Ready::EMPTY,
    }
}

/// How many bytes could be read, at most one.
fn peek(stream: &TcpStream) -> io::Result<usize> {
    SockRef::from(stream).peek(&mut [MaybeUninit::uninit()])
}
