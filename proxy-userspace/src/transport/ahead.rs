//! Whether a client has sent more than the head of its request. Only a request that keeps its body back asks (`Expect:
//! 100-continue`); for the others a read costs two stores.
//!
//! What hyper has read but not parsed cannot be seen from outside it. So the bytes of a head are counted as they come, and
//! compared with how long that head is when it is written the usual way; of one that is written otherwise it cannot be told,
//! and more is taken to have come. What comes later is still in the socket, since hyper reads no further: there a connection
//! that is watched asks whether it is readable.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// The head began in the middle of what came together with the request before it.
const UNKNOWN: u32 = u32::MAX;

/// The end of a head.
const EMPTY_LINE: u32 = u32::from_be_bytes(*b"\r\n\r\n");

/// What has come from a client since the head of its request began.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// How many bytes, or [`UNKNOWN`].
    bytes: AtomicU32,
    /// The last four of them.
    last: AtomicU32,
    watch: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

/// Whether the connection is to say when something comes.
#[derive(Clone, Copy, Debug)]
enum Watch {
    No = 0,
    Yes = 1,
    Came = 2,
}

impl Ahead {
    /// `bytes` came, before their head was whole; the `first` of it, or more.
    pub(super) fn came(&self, bytes: &[u8], first: bool) {
        let before = if first { 0 } else { self.bytes.load(Ordering::Relaxed) };
        let count = u32::try_from(bytes.len()).unwrap_or(UNKNOWN);
        self.bytes.store(before.saturating_add(count), Ordering::Relaxed);
        let last = match bytes.last_chunk() {
            Some(last) => u32::from_be_bytes(*last),
            None => {
                let before = self.last.load(Ordering::Relaxed);
                bytes.iter().fold(before, |last, byte| (last << 8) | u32::from(*byte))
            }
        };
        self.last.store(last, Ordering::Relaxed);
    }

    /// The request before is over: what the next head's first bytes are is not known unless they are still to come.
    pub(super) fn forget(&self) {
        self.bytes.store(UNKNOWN, Ordering::Relaxed);
    }

    /// A request begins that keeps nothing back so far.
    pub(super) fn begin(&self) {
        self.watch.store(Watch::No as u8, Ordering::Relaxed);
    }

    /// Whether nothing has come but a head that has `usual` bytes when it is written the usual way: with one space behind
    /// each colon, and CRLF. A head with fewer spaces is taken for such a one if what follows it has just as many bytes as
    /// they are fewer, and ends with an empty line.
    pub(super) fn is_head_of(&self, usual: usize) -> bool {
        let bytes = self.bytes.load(Ordering::Relaxed);
        bytes != UNKNOWN && bytes as usize == usual && self.last.load(Ordering::Relaxed) == EMPTY_LINE
    }

    /// From now on the connection says when something comes.
    pub(super) fn watch(&self) {
        self.watch.store(Watch::Yes as u8, Ordering::Relaxed);
    }

    /// Whether it is to say so.
    pub(super) fn is_watched(&self) -> bool {
        self.watch.load(Ordering::Relaxed) == Watch::Yes as u8
    }

    /// Something has come, or the end.
    pub(super) fn tell(&self) {
        self.watch.store(Watch::Came as u8, Ordering::Relaxed);
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }

    /// Ready once something has come.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.watch.load(Ordering::Relaxed) == Watch::Came as u8 {
            return Poll::Ready(());
        }
        *self.waker.lock() = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_head_written_the_usual_way_is_known_to_have_come_alone() {
        let usual = "POST / HTTP/1.1\r\nHost: a\r\n\r\n";
        let tight = "POST / HTTP/1.1\r\nHost:a\r\n\r\n";
        let cases: [(&[&str], bool); 13] = [
            (&[usual], true),
            (&["POST / HT", "TP/1.1\r\nHost: a\r\n\r\n"], true),
            (&["POST / HTTP/1.1\r\nHost: a\r\n", "\r\n"], true),
            (&["POST / HTTP/1.1\r\nHost: a\r", "\n", "\r", "\n"], true),
            (&[&format!("{tight}\n")], false),
            (&[&format!("{usual}body")], false),
            (&[&format!("{usual}\r\n")], false),
            (&["POST / HT", "TP/1.1\r\nHost: a\r\n\r\n5\r\nhello\r\n0\r\n\r\n"], false),
            (&[tight], false),
            (&[&format!("{tight}x")], false),
            (&[&format!("{tight}\r\n")], false),
            (&["POST / HTTP/1.1\nHost: a\n\n"], false),
            (&["POST / HTTP/1.1\r\nHost:    a\r\n\r\n"], false),
        ];
        for (pieces, expected) in cases {
            let ahead = Ahead::default();
            ahead.forget();
            assert!(
                !ahead.is_head_of(usual.len()),
                "nothing is known of what came together with something else"
            );
            for (at, piece) in pieces.iter().enumerate() {
                ahead.came(piece.as_bytes(), at == 0);
            }
            assert_eq!(ahead.is_head_of(usual.len()), expected, "{pieces:?}");
        }
    }
}
