//! A worker as everything on its thread sees it, and what all workers share.

mod wakers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use self::wakers::{WakerSlot, Wakers};
use super::fault::{Fault, Kind};
use super::listener::sockets::Sockets;
use super::routing::{Router, Routing};
use super::tcp;
use super::upstream::{Connecting, Dialer};
use crate::drain::Drain;
use crate::intercept::OriginalDsts;
use crate::telemetry::Counter;

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// Where requests go.
    pub routing: Arc<Routing>,
    /// How endpoints are connected to.
    pub connecting: Arc<Connecting>,
    /// The sockets that the workers accept on.
    pub sockets: Sockets,
    /// Where diverted connections were going; absent when nothing is diverted.
    pub original_dsts: Option<OriginalDsts>,
    /// How weir stops.
    pub drain: Drain,
    /// Answers that weir made itself, by kind.
    pub faults: [Counter; Kind::LABELS.len()],
    /// Requests answered with a diagnosis.
    pub diagnoses: Counter,
    /// What is counted of byte tunnels.
    pub tunnels: tcp::Stats,
    /// Each worker's last sign of life, in milliseconds since weir's start.
    beats: Box<[AtomicU64]>,
}

/// One worker.
#[derive(Debug)]
pub struct Worker {
    /// What it shares with the others.
    pub shared: Arc<Shared>,
    /// Where its requests go.
    pub router: Router,
    /// Its way to endpoints.
    pub dialer: Dialer,
    /// The connections to wake when weir drains: waiting for that costs each of them nothing meanwhile.
    pub connections: Wakers,
}

impl Shared {
    /// What so many workers share.
    pub fn new(
        workers: usize,
        routing: Arc<Routing>,
        connecting: Arc<Connecting>,
        sockets: Sockets,
        original_dsts: Option<OriginalDsts>,
        drain: Drain,
    ) -> Arc<Self> {
        Arc::new(Self {
            routing,
            connecting,
            sockets,
            original_dsts,
            drain,
            faults: Default::default(),
            diagnoses: Counter::default(),
            tunnels: tcp::Stats::default(),
            beats: (0..workers).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    /// Counts a request that weir answered itself, or a connection that it could not carry.
    pub fn count(&self, fault: &Fault) {
        self.faults[fault.kind.slot()].inc();
    }

    /// Worker `id` is alive at `now`.
    pub fn beat(&self, id: usize, now: Instant) {
        let alive = millis(now.saturating_duration_since(self.routing.epoch));
        self.beats[id].store(alive, Ordering::Relaxed);
    }

    /// How long ago the worker that has been silent longest showed that it is alive.
    pub fn oldest_beat(&self) -> Duration {
        let now = millis(self.routing.epoch.elapsed());
        let oldest = self.beats.iter().map(|beat| beat.load(Ordering::Relaxed)).min().unwrap_or(now);
        Duration::from_millis(now.saturating_sub(oldest))
    }
}

impl Worker {
    /// Worker `id`.
    pub fn new(id: usize, shared: Arc<Shared>) -> Self {
        Self {
            router: Router::new(shared.routing.clone()),
            dialer: Dialer::new(id, shared.connecting.clone()),
            connections: Wakers::default(),
            shared,
        }
    }

    /// Runs `task` on this worker; weir does not stop before it has ended, or its time is over.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(self.shared.drain.tasks().track_future(task));
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
