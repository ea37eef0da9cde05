//! What is normal in a cluster: one value for all of its endpoints, so that none has to ask the others.
//!
//! What is known of a cluster stands in a few atomics, which every answer moves a little. An endpoint that has not
//! answered yet is taken to be normal, so a new one costs nothing and needs no guess that would have to be made again.
//! None of the means can be moved far by one request: an answer of a minute does not make everything after it look fast.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::latency::cost;

/// The part of a level that one observation makes, once there were as many as its inverse; before, each counts the same.
const WEIGHT: f64 = 1.0 / 32.0;

/// Of so many requests the part that is refused is taken.
const RECENT: u32 = 256;

/// At first it is as if so many had been served: few are no norm.
const BEFORE: u32 = 32;

/// Where so many of all requests are turned away, that says nothing of an endpoint.
const MANY: f64 = 0.25;

/// The most that one request counts for in the time they occupy endpoints, in means.
const LONGEST: f64 = 4.0;

/// What a cluster in which nothing has ended yet is taken to need for a request: 1 s, as in linkerd 2.
const UNKNOWN: Duration = Duration::from_secs(1);

/// The norms of one cluster.
#[derive(Debug, Default)]
pub struct Norms {
    /// Picks so far.
    picks: AtomicU64,
    /// From a request to the head of its answer: the logarithm to base 2, in nanoseconds above the floor.
    answer: Level,
    /// From a request to the end of all that belongs to it, or a tunnel's life, in nanoseconds.
    hold: Level,
    /// The part of requests that is turned away.
    refused: AtomicU64,
    /// Whether one was ever served.
    served: AtomicBool,
}

/// A moving mean. Workers may lose each other's observation, which a mean does not mind.
#[derive(Debug, Default)]
struct Level {
    /// The mean, as bits.
    mean: AtomicU64,
    /// Observations so far, up to the inverse of [`WEIGHT`].
    seen: AtomicU32,
}

impl Norms {
    /// Counts one pick; returns which it is.
    pub(super) fn pick(&self) -> u64 {
        self.picks.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Picks so far.
    pub(super) fn picks(&self) -> u64 {
        self.picks.load(Ordering::Relaxed)
    }

    /// What an answer takes, in nanoseconds with the floor of [`latency`](super::latency).
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

    /// The part of requests that is turned away, from 0 to 1.
    pub(super) fn refused(&self) -> f64 {
        f64::from_bits(self.refused.load(Ordering::Relaxed))
    }

    /// A request begins: it will be served, as far as is known.
    pub(super) fn begin(&self) {
        let refused = self.refused();
        if refused > 0.0 {
            let refused = refused * (1.0 - self.weight());
            self.refused.store(if refused < 1e-3 { 0 } else { refused.to_bits() }, Ordering::Relaxed);
        }
    }

    /// It was turned away.
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

    /// Whether to turn a request away is what an endpoint here does when something is wrong with it: others do serve, and
    /// not many are turned away.
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
