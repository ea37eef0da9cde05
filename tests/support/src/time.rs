//! Waiting with a deadline, for everything that happens in another process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the harness waits for any single thing before it fails the test. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `holds` is true, looking every 5 ms; fails the test with `what` once `limit` is over, as a [`Clock`] has it.
#[track_caller]
pub fn within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let clock = Clock::start();
    while !holds() {
        assert!(!clock.is_past(limit), "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Time as far as the machine gave it. While anybody waits for a core (`/proc/pressure/cpu`, kernel's
/// Documentation/accounting/psi.rst), nothing that takes long says anything of weir. A kernel that does not tell has a
/// machine that is never busy.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    begun: Instant,
    waited: Duration,
}

impl Clock {
    /// However busy the machine is, a limit is over after so many times itself.
    const AT_MOST: u32 = 10;

    /// Begins to count.
    pub fn start() -> Self {
        Self { begun: Instant::now(), waited: waited() }
    }

    /// The time since then during which nobody waited for a core.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed().saturating_sub(waited().saturating_sub(self.waited))
    }

    /// Whether more of it than `limit` has passed, or of all time as much as [`Self::at_most`].
    pub fn is_past(&self, limit: Duration) -> bool {
        self.elapsed() >= limit || self.begun.elapsed() >= Self::at_most(limit)
    }

    /// Ten times the limit, but no more than four times [`PATIENCE`], unless the limit itself is longer: a process that shares its
    /// core with thirty others has hardly run for a second by then.
    fn at_most(limit: Duration) -> Duration {
        limit.max((PATIENCE * 4).min(limit * Self::AT_MOST))
    }

    /// Whether somebody has waited for a core for a good part of the time since then.
    pub fn was_busy(&self) -> bool {
        self.elapsed() < self.begun.elapsed().mul_f64(0.8)
    }
}

/// Sleeps for `span`, and longer on a busy machine: a [`Clock`] says how long.
pub fn pause(span: Duration) {
    let clock = Clock::start();
    while !clock.is_past(span) {
        std::thread::sleep(span.saturating_sub(clock.elapsed()).min(Duration::from_millis(50)));
    }
}

/// How long somebody has waited for a core since the machine started.
fn waited() -> Duration {
    let pressure = std::fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    let some = pressure.lines().find_map(|line| line.strip_prefix("some ")?.split("total=").nth(1));
    Duration::from_micros(some.and_then(|total| total.trim().parse().ok()).unwrap_or(0))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_counts_no_more_than_there_was_and_ends_on_a_busy_machine_too() {
        let (clock, begun) = (Clock::start(), Instant::now());
        let never = Clock { begun, waited: Duration::ZERO };
        std::thread::sleep(Duration::from_millis(50));
        assert!(clock.elapsed() <= clock.begun.elapsed());
        assert!(!clock.is_past(Duration::from_secs(60)));
        // Of one that has waited since the machine started, nothing counts but ten times the limit.
        assert!(never.is_past(Duration::from_millis(5)));
        for (limit, at_most) in [(1, 10), (30, 120), (600, 600)] {
            assert_eq!(Clock::at_most(Duration::from_secs(limit)), Duration::from_secs(at_most));
        }
    }
}
