//! Whether a client has sent more than the head of its request. Needed only for a request whose body is held back
//! (`Expect: 100-continue`); for the others a read costs two stores.
//!
//! What hyper has read but not parsed is not visible from outside. So the bytes of a head are counted as they arrive,
//! and compared with the length of that head in its usual spelling; for another spelling the answer is unknown, and
//! more is assumed to have arrived. What arrives later is still in the socket, since hyper reads no further: a watched
//! connection then checks whether the socket is readable.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// The head began within a read that also contained data of the previous request.
const UNKNOWN: u32 = u32::MAX;

/// The end of a head.
const EMPTY_LINE: u32 = u32::from_be_bytes(*b"\r\n\r\n");

/// What has arrived from a client since the head of its request began.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// How many bytes, or [`UNKNOWN`].
    bytes: AtomicU32,
    /// The last four of them.
    last: AtomicU32,
    watch: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

/// Whether the connection must report when data arrives.
#[derive(Clone, Copy, Debug)]
enum Watch {
    No = 0,
    Yes = 1,
    Came = 2,
}

impl Ahead {
    /// `bytes` arrived, before their head was complete; they are the `first` of it, or more.
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

    /// The previous request is over: the first bytes of the next head are unknown unless they are still to arrive.
    pub(super) fn forget(&self) {
        self.bytes.store(UNKNOWN, Ordering::Relaxed);
    }

    /// A request begins, with nothing held back so far.
    pub(super) fn begin(&self) {
        self.watch.store(Watch::No as u8, Ordering::Relaxed);
    }

    /// Whether nothing has arrived but a head of `usual` bytes in its usual spelling: with one space after each colon,
    /// and CRLF. A head with fewer spaces is mistaken for it if it is followed by exactly as many bytes as it is
    /// shorter, which end with an empty line.
    pub(super) fn is_head_of(&self, usual: usize) -> bool {
        let bytes = self.bytes.load(Ordering::Relaxed);
        bytes != UNKNOWN && bytes as usize == usual && self.last.load(Ordering::Relaxed) == EMPTY_LINE
    }

    /// From now on the connection reports when data arrives.
    pub(super) fn watch(&self) {
        self.watch.store(Watch::Yes as u8, Ordering::Relaxed);
    }

    /// Whether it must report.
    pub(super) fn is_watched(&self) -> bool {
        self.watch.load(Ordering::Relaxed) == Watch::Yes as u8
    }

    /// Data, or the end, has arrived.
    pub(super) fn tell(&self) {
        self.watch.store(Watch::Came as u8, Ordering::Relaxed);
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }

    /// Ready once data has arrived.
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
