//! Uploads that wait for window.
//!
//! The window of a connection is shared by its streams (RFC 9113 §5.2.1): one whose endpoint does not read its body may
//! hold all of it, and then no other body passes. The h2 crate does not say which of the two windows is used up, so an
//! upload that waits long counts against its connection in either case.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long an upload may wait before new requests avoid its connection.
const LONG: Duration = Duration::from_millis(100);

/// The uploads of one connection that wait, in the order in which they began to.
#[derive(Clone, Debug, Default)]
pub(super) struct Stalls(Arc<Mutex<Vec<Instant>>>);

/// One of them; it waits until this is dropped.
#[derive(Debug)]
pub(super) struct Stall {
    all: Stalls,
    since: Instant,
}

impl Stalls {
    /// An upload begins to wait at `since`.
    pub(super) fn begin(&self, since: Instant) -> Stall {
        let mut all = self.0.lock();
        // Whoever asks the clock first may be here second.
        let at = all.partition_point(|it| *it <= since);
        all.insert(at, since);
        Stall { all: self.clone(), since }
    }

    /// Whether one has waited long.
    pub(super) fn is_long(&self, now: Instant) -> bool {
        self.0.lock().first().is_some_and(|since| now.saturating_duration_since(*since) >= LONG)
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        if let Ok(at) = all.binary_search(&self.since) {
            all.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_stalled_while_its_longest_wait_is_long() {
        let (stalls, now) = (Stalls::default(), Instant::now());
        assert!(!stalls.is_long(now));
        let (first, second) = (stalls.begin(now), stalls.begin(now + LONG));
        let same = stalls.begin(now + LONG);
        assert!(!stalls.is_long(now + LONG / 2) && stalls.is_long(now + LONG));
        drop(first);
        assert!(!stalls.is_long(now + LONG) && stalls.is_long(now + 2 * LONG));
        drop(second);
        assert!(stalls.is_long(now + 2 * LONG), "the other one still waits");
        drop(same);
        assert!(!stalls.is_long(now + 9 * LONG));
    }
}
