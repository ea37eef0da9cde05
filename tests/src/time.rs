//! Waiting with a deadline, for everything that happens in another process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the harness waits for any single thing before it fails the test. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

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

/// Whether `holds` comes true within `limit`, looked at every 5 ms.
pub fn holds_within(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !holds() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// When the machine left this process waiting: a thread that wants to run every 2 ms notes when it could not.
pub struct Stalls {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(Instant, Instant)>>,
}

/// What was noted.
pub struct Stalled(Vec<(Instant, Instant)>);

impl Stalls {
    /// Begins to watch.
    pub fn watch() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut stalls = Vec::new();
            while !stopped.load(Ordering::SeqCst) {
                let due = Instant::now() + Duration::from_millis(2);
                std::thread::sleep(Duration::from_millis(2));
                let now = Instant::now();
                // What a busy machine does anyway.
                if now - due > Duration::from_millis(10) {
                    stalls.push((due, now));
                }
            }
            stalls
        });
        Self { stop, thread }
    }

    /// Ends it.
    pub fn end(self) -> Stalled {
        self.stop.store(true, Ordering::SeqCst);
        Stalled(self.thread.join().expect("the watching thread"))
    }
}

impl Stalled {
    /// How much of the time between two moments the process was left waiting.
    pub fn between(&self, from: Instant, to: Instant) -> Duration {
        let shared =
            |(begin, end): &(Instant, Instant)| (*end).min(to).saturating_duration_since((*begin).max(from));
        self.0.iter().map(shared).sum()
    }
}
