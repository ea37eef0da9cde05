//! Measures how much memory is in use, and has things closed when it gets scarce.
//!
//! On a thread of its own: an attack takes a fraction of a second, and the control plane may be busy with a catalog that
//! long. What was measured is told to the workers ([`Memory`](crate::proxy::memory::Memory)); which connections of clients
//! end is decided here, since they are spread over the workers.

mod cgroup;
mod meter;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;

use self::meter::{FORESIGHT, Measured, Meter};
use crate::allocator::{give_back, in_large_blocks, set_short_at};
use crate::control::State;
use crate::domain::memory::{Effort, Level, Source, receive_buffer};
use crate::proxy::memory::{ALERT, Above, Round, Sizes};

/// How often the use is measured while little is in use.
const LOOK: Duration = Duration::from_millis(100);

/// The same while much is: above [`ALERT`] percent of the budget.
const LOOK_MUCH: Duration = Duration::from_millis(20);

/// The least pause between two measurements.
const PAUSE: Duration = Duration::from_millis(2);

/// The same while memory is scarce.
const LOOK_SCARCE: Duration = Duration::from_millis(5);

/// The pause between two rounds: those that were told to end do so meanwhile, and the kernel learns of it.
const ROUND: Duration = Duration::from_millis(25);

/// The pause after a round that could close nothing.
const REST: Duration = Duration::from_secs(1);

/// How many of those above their share are named when the level changes.
const NAMED: usize = 3;

/// What Kubernetes sets in every container.
const IN_A_POD: &str = "KUBERNETES_SERVICE_HOST";

/// The thread; ends when this is dropped.
pub(super) struct Watching {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Measures once, and starts the thread.
///
/// # Errors
///
/// The system cannot start another thread.
pub(super) fn start(control: &Arc<State>) -> anyhow::Result<Watching> {
    let mut watch = Watch::new(control.clone());
    watch.measure();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let thread = thread::Builder::new().name("weir-memory".to_owned());
    let thread = thread.spawn(move || watch.run(&stopped)).context("no thread for the memory budget")?;
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

/// What the thread knows.
struct Watch {
    control: Arc<State>,
    meter: Meter,
    /// The budget that was told last.
    told: Option<u64>,
    began: Instant,
    next_round: Instant,
    effort: Effort,
}

impl Watch {
    fn new(control: Arc<State>) -> Self {
        let began = Instant::now();
        let effort = Effort::default();
        Self { control, meter: Meter::new(), told: None, began, next_round: began, effort }
    }

    fn run(mut self, stopped: &AtomicBool) {
        self.control.shared.memory.is_measured_by(thread::current());
        while !stopped.load(Ordering::Relaxed) {
            let (level, Measured { used, budget, .. }) = self.measure();
            // Whatever wakes this thread, it takes only a small part of a processor.
            thread::sleep(PAUSE);
            thread::park_timeout(match level {
                Level::Normal if used < budget / 100 * ALERT => LOOK,
                Level::Normal => LOOK_MUCH,
                Level::Shed | Level::Refuse | Level::Full => LOOK_SCARCE,
            });
        }
    }

    /// Measures, and does what follows from that.
    fn measure(&mut self) -> (Level, Measured) {
        let control = self.control.clone();
        let (large, settings) = (in_large_blocks(), control.settings());
        let (memory, limits) = (&control.shared.memory, &settings.limits);
        let measured = self.meter.measure(limits.memory, Instant::now());
        let Measured { used, budget, source, least } = measured;
        memory.set_source(source);
        if self.told.replace(least) != Some(least) {
            tell_budget(&measured, self.meter.cgroup());
        }
        let (before, level) = memory.measured(used, budget, large);
        set_short_at(memory.short_at());
        let received = receive_buffers(&control, limits.receive_buffer, least);
        let now = Instant::now();
        if used < budget / 100 * FORESIGHT {
            memory.clear_above();
        } else if level > before || now >= self.next_round {
            let sizes = Sizes { copy_buffer: limits.copy_buffer, received };
            let pause = self.round(Round::new(level, used, budget, sizes), level, used, budget);
            self.next_round = now + pause;
        }
        if before != level {
            tell(&control, before, level, &measured);
        }
        (level, measured)
    }

    /// Finds who holds more than a share, and ends connections of theirs if memory is scarce, so that the use falls below where
    /// the first level ends. Returns the pause until the next time.
    fn round(&mut self, mut round: Round, level: Level, used: u64, budget: u64) -> Duration {
        let memory = &self.control.shared.memory;
        for listener in self.control.listeners().iter().filter(|it| it.kind.is_data()) {
            listener.visit(|holder, activity| round.add(holder, activity));
        }
        if level == Level::Normal {
            self.effort = Effort::default();
            memory.set_above(round.above());
            return LOOK;
        }
        let (chosen, rested) = (round.choose(), self.effort.rests());
        if level > Level::Shed || self.effort.is_worthwhile(self.began.elapsed(), used, budget) {
            self.effort.tell(chosen.end(memory));
        } else if !rested {
            tracing::warn!(
                "memory: closing connections does not help, something else uses it; the budget is too small \
                 for what weir has to know (limits.memory)"
            );
        }
        memory.set_above(chosen.above);
        give_back();
        if level == Level::Shed && self.effort.rests() { REST } else { ROUND }
    }
}

/// Bounds what the kernel holds of what a peer has sent, and returns how much that is at most.
fn receive_buffers(control: &State, setting: Option<usize>, budget: u64) -> u64 {
    let auto = usize::try_from(receive_buffer(budget)).unwrap_or(usize::MAX);
    let in_pods = setting.filter(|bytes| *bytes > 0).unwrap_or(auto);
    let sockets = &control.shared.sockets;
    if sockets.received.set(setting.unwrap_or(auto), in_pods) {
        sockets.bound_again();
    }
    // With the kernel's own overhead.
    2 * in_pods as u64
}

/// Says how much memory may be in use, and who says so.
fn tell_budget(measured: &Measured, cgroup: Option<&Path>) {
    let cgroup = cgroup.filter(|_| measured.source == Source::Cgroup).map(|it| it.display().to_string());
    if measured.source == Source::Machine && std::env::var_os(IN_A_POD).is_some() {
        tracing::warn!(
            "memory: {measured}: no limit of a cgroup was found; if the container has one, weir may be killed \
             (resources.limits.memory, limits.memory)"
        );
    } else {
        tracing::info!(cgroup = cgroup.as_deref(), "memory: {measured}");
    }
}

/// Says that the level has changed: in the log, and to who asks whether weir is ready.
fn tell(control: &State, before: Level, level: Level, measured: &Measured) {
    let note = (level > Level::Normal).then(|| format!("{}: {measured}", level.name()));
    control.ready.note("memory", note);
    let (from, to) = (before.name(), level.name());
    let above = named(&control.shared.memory.above(NAMED));
    match level {
        Level::Normal => tracing::info!(from, to, "memory: {measured}"),
        Level::Shed => tracing::warn!(
            from,
            to,
            above,
            "memory: {measured}; what is idle or slow is closed, of those who hold more than their share"
        ),
        Level::Refuse => tracing::warn!(
            from,
            to,
            above,
            "memory: {measured}; who holds more than a fair share gets nothing new"
        ),
        Level::Full => tracing::error!(from, to, above, "memory: {measured}; nobody gets anything new"),
    }
}

/// Those above their share, as `shop/cart-0 12.3 of 4.0 MiB`.
fn named(above: &[Above]) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let name = |it: &Above| format!("{} {:.1} of {:.1} MiB", it.holder.name, mib(it.bytes), mib(it.share));
    above.iter().map(name).collect::<Vec<_>>().join(", ")
}
