//! Waiting with a deadline, for everything that happens in another process.

use std::time::{Duration, Instant};

/// How long the harness waits for any single thing before it fails the test. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Waits until `holds` is true, looking every 5 ms; fails the test with `what` after `limit`.
#[track_caller]
pub fn within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// [`within`] the harness's [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    within(PATIENCE, what, holds);
}

/// Whether `holds` stays true for all of `span`, looked at every 20 ms.
pub fn holds_for(span: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + span;
    while Instant::now() < end {
        if !holds() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}
