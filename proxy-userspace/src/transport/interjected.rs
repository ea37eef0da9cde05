//! Bytes that are written to a client before the answer that runs: its interim answers (1xx).
//!
//! hyper writes no interim answer but 100. Who has one hands it over here and lets hyper flush: only then is it certain
//! that no byte of an answer is waiting above, which would come before it.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

/// Bytes that wait for the next flush.
#[derive(Debug, Default)]
pub(super) struct Interjected {
    waiting: AtomicBool,
    bytes: Mutex<Vec<u8>>,
}

impl Interjected {
    /// `bytes` are to be written.
    pub(super) fn push(&self, bytes: &[u8]) {
        self.bytes.lock().extend_from_slice(bytes);
        self.waiting.store(true, Ordering::Relaxed);
    }

    /// Takes what is to be written.
    pub(super) fn take(&self) -> Option<Bytes> {
        if !self.waiting.load(Ordering::Relaxed) {
            return None;
        }
        self.waiting.store(false, Ordering::Relaxed);
        Some(std::mem::take(&mut *self.bytes.lock()).into())
    }
}
