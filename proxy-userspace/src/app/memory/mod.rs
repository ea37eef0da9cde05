//! Measures how much memory is in use, and has things closed when it gets scarce.
//!
//! On a thread of its own: an attack takes a fraction of a second, and the control plane may be busy with a catalog that
//! long. What was measured is told to the workers ([`Memory`](crate::proxy::memory::Memory)); which connections of clients
//! end is decided here, since they are spread over the workers.

mod cgroup;
mod meter;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;

use self::meter::{Measured, Meter};
use crate::allocator::{give_back, in_large_blocks, set_short_at};
use crate::control::State;
use crate::domain::memory::Level;
use crate::proxy::listener::ListenerKind;
use crate::proxy::memory::{ALERT, Round};

/// How often the use is measured while little is in use.
const LOOK: Duration = Duration::from_millis(100);

/// The same while much is: above [`ALERT`] percent of the budget.
const LOOK_MUCH: Duration = Duration::from_millis(20);

/// The least pause between two measurements.
const PAUSE: Duration = Duration::from_millis(2);

/// Above so many percent, it is looked who holds more than a share, so that it is known when memory gets scarce.
const FORESIGHT: u64 = 40;

/// The same while memory is scarce.
const LOOK_SCARCE: Duration = Duration::from_millis(5);

/// The pause between two rounds: those that were told to end do so meanwhile, and the kernel learns of it.
const ROUND: Duration = Duration::from_millis(25);

/// The thread; ends when this is dropped.
pub(super) struct Watching {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread.
///
/// # Errors
///
/// The system cannot start another thread.
pub(super) fn start(control: &Arc<State>) -> anyhow::Result<Watching> {
    let stop = Arc::new(AtomicBool::new(false));
    let (control, stopped) = (control.clone(), stop.clone());
    let thread = thread::Builder::new().name("weir-memory".to_owned());
    let thread =
        thread.spawn(move || watch(&control, &stopped)).context("no thread for the memory budget")?;
    Ok(Watching { stop, thread: Some(thread) })
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn watch(control: &State, stopped: &AtomicBool) {
    control.shared.memory.is_measured_by(thread::current());
    let mut meter = Meter::new();
    let mut next_round = Instant::now();
    while !stopped.load(Ordering::Relaxed) {
        let (large, settings) = (in_large_blocks(), control.settings());
        let measured = meter.measure(settings.limits.memory, Instant::now());
        let Measured { used, budget, .. } = measured;
        let memory = &control.shared.memory;
        let (before, level) = memory.measured(used, budget, large);
        set_short_at(memory.short_at());
        if before != level {
            tell(control, before, level, &measured);
        }
        let now = Instant::now();
        let share_of = |percent: u64| budget / 100 * percent;
        if used >= share_of(FORESIGHT) && now >= next_round {
            next_round = now + if level > Level::Normal { ROUND } else { LOOK };
            shed(control, level, settings.limits.copy_buffer, used, budget);
        }
        // Whatever wakes this thread, it takes only a small part of a processor.
        thread::sleep(PAUSE);
        thread::park_timeout(match level {
            Level::Normal if used < share_of(ALERT) => LOOK,
            Level::Normal => LOOK_MUCH,
            Level::Shed | Level::Refuse | Level::Full => LOOK_SCARCE,
        });
    }
}

/// Finds who holds more than a share, and ends connections of theirs if memory is scarce, so that the use falls below where
/// the first level ends.
fn shed(control: &State, level: Level, copy_buffer: usize, used: u64, budget: u64) {
    let mut round = Round::new(level, budget, copy_buffer);
    let data = |kind| matches!(kind, ListenerKind::Outgoing | ListenerKind::Transparent);
    for listener in control.listeners().iter().filter(|it| data(it.kind)) {
        listener.visit(|holder, activity| round.add(holder, activity));
    }
    let memory = &control.shared.memory;
    let excess = used.saturating_sub(Level::Shed.ends(budget));
    if level == Level::Normal {
        return memory.set_above(round.above(budget / 100 * FORESIGHT / 2));
    }
    let chosen = round.choose(excess);
    chosen.end(memory);
    memory.set_above(chosen.above);
    give_back();
}

/// Says that the level has changed: in the log, and to who asks whether weir is ready.
fn tell(control: &State, before: Level, level: Level, measured: &Measured) {
    let note = (level > Level::Normal).then(|| format!("{}: {measured}", level.name()));
    control.ready.note("memory", note);
    let (from, to) = (before.name(), level.name());
    match level {
        Level::Normal => tracing::info!(from, to, "memory: {measured}"),
        Level::Shed => tracing::warn!(
            from,
            to,
            "memory: {measured}; what is idle or slow is closed, of those who hold more than their share"
        ),
        Level::Refuse => {
            tracing::warn!(from, to, "memory: {measured}; who holds more than a fair share gets nothing new")
        }
        Level::Full => tracing::error!(from, to, "memory: {measured}; nobody gets anything new"),
    }
}
