//! Whether a client has sent more than the head of its request, or more than its whole request. The first is needed for
//! a request whose body is held back (`Expect: 100-continue`), the second when a client ends its sending side; for the
//! others a read costs a few stores.
//!
//! What hyper has read but not parsed is not visible from outside. So the bytes of a head are counted as they arrive,
//! and compared with the length of that head in its usual spelling; for another spelling the answer is unknown, and
//! more is assumed to have arrived. What arrives later is still in the socket, since hyper reads no further: a watched
//! connection then checks whether the socket is readable.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// The head began within a read that also contained data of the previous request.
const UNKNOWN: u32 = u32::MAX;

/// The end of a head.
const EMPTY_LINE: u32 = u32::from_be_bytes(*b"\r\n\r\n");

/// The end of a chunked body without trailers, after any byte.
const LAST_CHUNK: u64 = u64::from_be_bytes(*b"\0\r\n0\r\n\r\n");

/// The length of a request whose body has no Content-Length.
const UNKNOWN_LENGTH: u64 = u64::MAX;

/// Another request has more bytes than this: `GET / HTTP/1.0` and an empty line are 18.
const LESS_THAN_A_REQUEST: u64 = 16;

/// What has arrived from a client since the head of its request began.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// How many bytes before the head was complete, or [`UNKNOWN`].
    bytes: AtomicU32,
    /// The last eight bytes.
    last: AtomicU64,
    /// How many bytes have arrived since the connection was idle last.
    all: AtomicU64,
    /// How many of these are of the requests that have begun since, or [`UNKNOWN_LENGTH`].
    requested: AtomicU64,
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
        if first {
            self.all.store(0, Ordering::Relaxed);
            self.requested.store(0, Ordering::Relaxed);
        }
        self.more(bytes);
    }

    /// `bytes` arrived: counts them, whatever they belong to.
    pub(super) fn more(&self, bytes: &[u8]) {
        let all = self.all.load(Ordering::Relaxed);
        self.all.store(all.saturating_add(bytes.len() as u64), Ordering::Relaxed);
        let last = match bytes.last_chunk() {
            Some(last) => u64::from_be_bytes(*last),
            None => {
                let before = self.last.load(Ordering::Relaxed);
                bytes.iter().fold(before, |last, byte| (last << 8) | u64::from(*byte))
            }
        };
        self.last.store(last, Ordering::Relaxed);
    }

    /// A request has begun whose head has `head` bytes in its usual spelling, and its body `body` bytes, where that is
    /// known.
    pub(super) fn requested(&self, head: usize, body: Option<u64>) {
        let before = self.requested.load(Ordering::Relaxed);
        let length = body.map_or(UNKNOWN_LENGTH, |body| body.saturating_add(head as u64));
        self.requested.store(before.saturating_add(length), Ordering::Relaxed);
    }

    /// Whether no other request has arrived behind the current one, which is complete. Spellings of a head differ by a
    /// few bytes, so a few bytes too many are no other request. `false` where that is unknown: behind a chunked body
    /// with trailers, and behind a head with many superfluous spaces.
    pub(super) fn is_last(&self) -> bool {
        match self.requested.load(Ordering::Relaxed) {
            UNKNOWN_LENGTH => self.last.load(Ordering::Relaxed) << 8 == LAST_CHUNK << 8,
            length => self.all.load(Ordering::Relaxed) <= length.saturating_add(LESS_THAN_A_REQUEST),
        }
    }

    /// How many bytes of a head have arrived that is not complete.
    pub(super) fn of_head(&self) -> u32 {
        match self.bytes.load(Ordering::Relaxed) {
            UNKNOWN => 0,
            bytes => bytes,
        }
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
        let last = self.last.load(Ordering::Relaxed) & u64::from(u32::MAX);
        bytes != UNKNOWN && bytes as usize == usual && last == u64::from(EMPTY_LINE)
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

    /// The lengths of heads, and of bodies where they are known.
    type Requests<'a> = &'a [(usize, Option<u64>)];

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

    #[test]
    fn a_request_behind_the_current_one_is_seen_and_a_spelling_is_not_taken_for_one() {
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n";
        let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let body = "4\r\nbody\r\n0\r\n\r\n";
        let two = format!("{get}{get}");
        let cases: [(String, Requests<'_>, bool); 11] = [
            (get.into(), &[(get.len(), Some(0))], true),
            ("GET / HTTP/1.1\nHost:a\n\n".into(), &[(get.len(), Some(0))], true),
            ("GET / HTTP/1.1\r\nHost:      a\r\n\r\n".into(), &[(get.len(), Some(0))], true),
            (two.clone(), &[(get.len(), Some(0))], false),
            (two, &[(get.len(), Some(0)), (get.len(), Some(0))], true),
            (format!("{get}GET / HT"), &[(get.len(), Some(0))], true),
            (format!("{post}body"), &[(post.len(), Some(4))], true),
            (format!("{post}body{get}"), &[(post.len(), Some(4))], false),
            (format!("{chunked}{body}"), &[(chunked.len(), None)], true),
            (format!("{chunked}0\r\n\r\n"), &[(chunked.len(), None)], true),
            (format!("{chunked}{body}{get}"), &[(chunked.len(), None)], false),
        ];
        for (arrived, requests, last) in cases {
            for size in [1, 7, 1000] {
                let ahead = Ahead::default();
                for (at, piece) in arrived.as_bytes().chunks(size).enumerate() {
                    ahead.came(piece, at == 0);
                }
                requests.iter().for_each(|(head, body)| ahead.requested(*head, *body));
                assert_eq!(ahead.is_last(), last, "{arrived:?} in pieces of {size}");
            }
        }
    }
}
