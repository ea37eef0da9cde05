//! The head of a request as it was written to an endpoint, kept for as long as the request may have to be sent again.
//!
//! One copy of the text costs a tenth of a copy of a header map, and less than half of a copy of its names and values.

use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;

/// The memory of a longer head is given back as soon as the answer is complete.
const LONG: usize = 2 * 1024;

/// The head of the request that a connection carries.
#[derive(Debug, Default)]
pub(super) struct SentHead {
    /// See [`Stage`].
    stage: AtomicU8,
    /// The lock is never contended: the connection and its exchange are on one thread.
    text: Mutex<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// None is to be kept, or it was taken.
    None = 0,
    /// It is to be kept, and was not written yet.
    Due = 1,
    /// It is kept.
    Kept = 2,
    /// It is kept, and is long.
    KeptLong = 3,
}

impl SentHead {
    /// The head that is written next is kept.
    pub(super) fn keep(&self) {
        self.set(Stage::Due);
    }

    /// Whether the next call of [`SentHead::wrote`] keeps something.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        self.stage.load(Ordering::Relaxed) == Stage::Due as u8
    }

    /// `head` is written now, and is the first that is written for this request. `None`: it begins with something older, which
    /// was not written in time; then no head is kept.
    pub(super) fn wrote(&self, head: Option<&[u8]>) {
        let Some(head) = head else { return self.set(Stage::None) };
        let mut text = self.text.lock();
        text.clear();
        text.extend_from_slice(head);
        self.set(if head.len() > LONG { Stage::KeptLong } else { Stage::Kept });
    }

    /// The head, if one was to be kept and was written.
    pub(super) fn take(&self) -> Option<Vec<u8>> {
        if self.stage.load(Ordering::Relaxed) < Stage::Kept as u8 {
            return None;
        }
        self.set(Stage::None);
        Some(std::mem::take(&mut *self.text.lock()))
    }

    /// The request is not sent again.
    pub(super) fn is_over(&self) {
        if self.stage.load(Ordering::Relaxed) == Stage::KeptLong as u8 {
            *self.text.lock() = Vec::new();
        }
        self.set(Stage::None);
    }

    fn set(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_head_that_was_to_be_kept_is_there_and_only_until_its_answer() {
        let sent = SentHead::default();
        assert!(!sent.is_due() && sent.take().is_none());
        sent.keep();
        assert!(sent.is_due() && sent.take().is_none(), "it was not written");
        sent.wrote(Some(b"GET / HTTP/1.1\r\n\r\n"));
        assert!(!sent.is_due());
        assert_eq!(sent.take().as_deref(), Some(&b"GET / HTTP/1.1\r\n\r\n"[..]));
        assert!(sent.take().is_none());
        sent.keep();
        sent.wrote(Some(b"GET /a HTTP/1.1\r\n\r\n"));
        sent.is_over();
        assert!(sent.take().is_none(), "it was answered");
        sent.keep();
        assert!(sent.take().is_none(), "the next one was not written");
        sent.wrote(None);
        assert!(!sent.is_due() && sent.take().is_none(), "it did not come alone");
        sent.keep();
        sent.wrote(Some(&[b'x'; LONG + 1]));
        sent.is_over();
        assert_eq!(sent.text.lock().capacity(), 0, "a long one keeps no memory");
    }
}
