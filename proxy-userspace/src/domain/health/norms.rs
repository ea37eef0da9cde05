//! The norms of a cluster: one value for all endpoints, so that none has to look at the others.
//!
//! The norms are stored in a few atomics, and every answer moves them a little. An endpoint that has not answered yet
//! is taken to be normal, so a new one costs nothing and needs no estimate to be recomputed. One request cannot move a
//! mean far: an answer of a minute does not make everything after it look fast.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::latency::cost;

/// The weight of one observation in a mean; the first 1 / `WEIGHT` observations are averaged equally.
const WEIGHT: f64 = 1.0 / 32.0;

/// The share of refused requests is taken over about this many.
const RECENT: u32 = 256;

/// At the start, this many requests count as served, since a few are no norm.
const BEFORE: u32 = 32;

/// From this share of refused requests on, a refusal means nothing for an endpoint.
const MANY: f64 = 0.25;

/// The most that one request's time on its endpoint counts for, as a multiple of the mean.
const LONGEST: f64 = 4.0;

/// The time of a request in a cluster in which none has ended yet: 1 s, as in linkerd 2.
const UNKNOWN: Duration = Duration::from_secs(1);

/// The norms of one cluster.
#[derive(Debug, Default)]
pub struct Norms {
    /// Picks so far.
    picks: AtomicU64,
    /// From a request to the head of its answer: base-2 logarithm of nanoseconds, the floor added.
    answer: Level,
    /// From a request to its end, body included, or the life of a tunnel, in nanoseconds.
    hold: Level,
    /// The share of requests that are refused.
    refused: AtomicU64,
    /// Whether any request was served.
    served: AtomicBool,
}

/// A moving mean. Concurrent workers may overwrite each other's observation, which hardly changes a mean.
#[derive(Debug, Default)]
struct Level {
    /// The mean, as the bits of an `f64`.
    mean: AtomicU64,
    /// Observations so far, up to the inverse of [`WEIGHT`].
    seen: AtomicU32,
}

impl Norms {
    /// Counts one pick; returns its number.
    pub(super) fn pick(&self) -> u64 {
        self.picks.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Picks so far.
    pub(super) fn picks(&self) -> u64 {
        self.picks.load(Ordering::Relaxed)
    }

    /// The time to an answer, in nanoseconds with the floor of [`latency`](super::latency).
    pub(super) fn answer(&self) -> Option<f64> {
        self.answer.value().map(f64::exp2)
    }

    pub(super) fn observe_answer(&self, time: Duration) {
        self.answer.observe(cost(time).log2());
    }

    /// How long a request occupies its endpoint.
    pub(super) fn hold(&self) -> Duration {
        self.hold.value().map_or(UNKNOWN, |nanoseconds| Duration::from_nanos(nanoseconds as u64))
    }

    pub(super) fn observe_hold(&self, time: Duration) {
        let time = time.as_secs_f64() * 1e9;
        self.hold.observe(self.hold.value().map_or(time, |mean| time.min(mean * LONGEST)));
    }

    /// The share of requests that are refused, from 0 to 1.
    pub(super) fn refused(&self) -> f64 {
        f64::from_bits(self.refused.load(Ordering::Relaxed))
    }

    /// A request begins: it counts as served until it is refused.
    pub(super) fn begin(&self) {
        let refused = self.refused();
        if refused > 0.0 {
            let refused = refused * (1.0 - self.weight());
            self.refused.store(if refused < 1e-3 { 0 } else { refused.to_bits() }, Ordering::Relaxed);
        }
    }

    /// A request was refused.
    pub(super) fn refuse(&self) {
        self.refused.store((self.refused() + self.weight()).min(1.0).to_bits(), Ordering::Relaxed);
    }

    fn weight(&self) -> f64 {
        1.0 / self.picks().saturating_add(BEFORE.into()).min(RECENT.into()) as f64
    }

    /// A request was served.
    pub(super) fn serve(&self) {
        if !self.served.load(Ordering::Relaxed) {
            self.served.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a refusal in this cluster means that something is wrong with the endpoint: requests are served here, and
    /// few are refused.
    pub(super) fn refusals_are_odd(&self) -> bool {
        self.served.load(Ordering::Relaxed) && self.refused() < MANY
    }
}

impl Level {
    fn observe(&self, value: f64) {
        let seen = self.seen.load(Ordering::Relaxed);
        let weight = (1.0 / (f64::from(seen) + 1.0)).max(WEIGHT);
        let mean = f64::from_bits(self.mean.load(Ordering::Relaxed));
        self.mean.store((mean + (value - mean) * weight).to_bits(), Ordering::Relaxed);
        if f64::from(seen) * WEIGHT < 1.0 {
            self.seen.store(seen + 1, Ordering::Release);
        }
    }

    fn value(&self) -> Option<f64> {
        (self.seen.load(Ordering::Acquire) > 0).then(|| f64::from_bits(self.mean.load(Ordering::Relaxed)))
    }
}
