//! The heartbeat: what the workers' signs of life mean for readiness and for the eBPF programs.

use std::sync::Arc;
use std::time::Duration;

use crate::admin::Desk;
use crate::intercept::{Interception, monotonic_ns};

/// A worker silent for longer does not serve.
const DEAD_WORKER: Duration = Duration::from_secs(2);

/// How often weir looks at its workers.
const BEAT: Duration = Duration::from_millis(250);

/// Passes on, as long as weir runs, when the worker that is silent longest was last seen. That moment, and not the one
/// of passing it on, is what the programs are told: they wait two seconds of their own, and would otherwise send
/// connections to a worker that hangs for twice as long.
pub(super) async fn beat(desk: Arc<Desk>) -> anyhow::Result<()> {
    let heart = desk.interception.lock().as_ref().ok().map(Interception::heart);
    let mut ticks = tokio::time::interval(BEAT);
    loop {
        ticks.tick().await;
        let silent = desk.shared.oldest_beat();
        desk.ready.set("workers", moves(silent));
        if let Some(heart) = &heart {
            heart.beat_at(before(monotonic_ns(), silent))?;
        }
    }
}

fn moves(silent: Duration) -> Result<(), String> {
    if silent < DEAD_WORKER {
        Ok(())
    } else {
        Err(format!("a worker has not moved for {} s", silent.as_secs()))
    }
}

/// The moment `silent` before `now`, in nanoseconds.
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
