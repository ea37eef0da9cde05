//! The heartbeat: reports whether the workers are alive, to readiness and to the eBPF programs.
//!
//! Runs on its own thread and takes no lock while all workers are healthy. So connections are still diverted to healthy
//! workers while the control plane is busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;

use crate::control::State;
use crate::intercept::{Heartbeat, Interception, monotonic_ns};

/// A worker that is silent for longer counts as dead.
const DEAD_WORKER: Duration = Duration::from_secs(2);

/// How often the workers are checked.
const BEAT: Duration = Duration::from_millis(250);

/// The heartbeat thread; ends when this is dropped.
pub(super) struct Beating {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread.
///
/// # Errors
///
/// The system cannot start another thread.
pub(super) fn start(control: &Arc<State>) -> anyhow::Result<Beating> {
    let heart = control.programs.lock().as_ref().ok().map(Interception::heart);
    let stop = Arc::new(AtomicBool::new(false));
    let (control, stopped) = (control.clone(), stop.clone());
    let thread = thread::Builder::new().name("weir-heartbeat".to_owned());
    let thread = thread.spawn(move || beat(&control, heart.as_ref(), &stopped));
    Ok(Beating { stop, thread: Some(thread.context("no thread for the heart")?) })
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// Until `stopped`, passes on the time when the worker that is silent longest was last seen. The programs get that
/// time, not the current time: they wait two more seconds themselves, so the current time would double how long
/// connections go to a worker that hangs.
fn beat(control: &State, heart: Option<&Heartbeat>, stopped: &AtomicBool) {
    let mut said = [None, None];
    while !stopped.load(Ordering::Relaxed) {
        let silent = control.shared.oldest_beat();
        let beats = heart.map_or(Ok(()), |it| it.beat_at(before(monotonic_ns(), silent)));
        let now = [moves(silent), beats.map_err(|why| why.to_string())];
        for ((name, now), said) in ["workers", "heart"].into_iter().zip(now).zip(&mut said) {
            if said.as_ref() != Some(&now) {
                *said = Some(now.clone());
                control.ready.set(name, now);
            }
        }
        thread::park_timeout(BEAT);
    }
}

fn moves(silent: Duration) -> Result<(), String> {
    if silent < DEAD_WORKER {
        Ok(())
    } else {
        Err(format!("a worker has not moved for {} s", silent.as_secs()))
    }
}

/// The time `silent` before `now`, in nanoseconds.
fn before(now: u64, silent: Duration) -> u64 {
    now.saturating_sub(u64::try_from(silent.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_are_told_when_the_quietest_worker_moved_and_not_when_weir_looked() {
        assert_eq!(before(5_000_000_000, Duration::from_millis(1500)), 3_500_000_000);
        assert_eq!(before(1, Duration::MAX), 0);
    }

    #[test]
    fn a_worker_silent_for_two_seconds_is_not_ready_and_says_for_how_long() {
        assert_eq!(moves(Duration::from_millis(1999)), Ok(()));
        assert_eq!(moves(Duration::from_millis(3999)), Err("a worker has not moved for 3 s".to_owned()));
    }
}
