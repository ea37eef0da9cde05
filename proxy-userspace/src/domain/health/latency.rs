//! Latency of an endpoint: a moving average by count, which no single answer can move far.
//!
//! An answer has the weight [`WEIGHT`], however long ago the last one came, and counts for at most [`PEAK`] times the
//! estimate, however long it took. So one slow answer makes the estimate at most 1.6 times what it was, and two in a
//! row 2.6 times, which is below [`ALIKE`](super::ALIKE) and so has no effect; three in a row make it four times as
//! much. See [`health`](super) for the differences from Finagle's `PeakEwma`, and the reasons.
//!
//! [`FLOOR`] is added to each answer's time. Differences below it come from the scheduler and the network of a healthy
//! node: of two endpoints that take 0.1 ms and 0.3 ms, neither is better.
//!
//! Do not use the estimate for a deadline: it is a mean, and most answers take much less or much more.

#[cfg(test)]
#[path = "latency_tests.rs"]
mod tests;

use std::time::Duration;

/// The weight of one answer in the estimate: the last ten make up 90 % of it.
const WEIGHT: f64 = 0.2;

/// The most that one answer counts for, as a multiple of the estimate.
const PEAK: f64 = 4.0;

/// What is added to each answer's time, in nanoseconds: 0.5 ms.
pub(super) const FLOOR: f64 = 500_000.0;

/// The latency estimate of one endpoint.
#[derive(Clone, Debug, Default)]
pub(super) struct Latency {
    /// In nanoseconds, [`FLOOR`] included; none before the first answer.
    estimate: Option<f64>,
}

impl Latency {
    /// Adds the time of an answer. The first one is averaged with the `norm` of the cluster, if known, so that a cold
    /// start does not dominate.
    pub(super) fn observe(&mut self, time: Duration, norm: Option<f64>) {
        let time = cost(time);
        let before = self.estimate.or(norm).unwrap_or(time);
        self.estimate = Some(before + (time.min(before * PEAK) - before) * WEIGHT);
    }

    /// Adds the time of an answer that did not serve the request: it can only raise the estimate.
    pub(super) fn observe_at_least(&mut self, time: Duration, norm: Option<f64>) {
        if self.estimate.or(norm).is_some_and(|estimate| cost(time) > estimate) {
            self.observe(time, norm);
        }
    }

    /// Resets the estimate.
    pub(super) fn forget(&mut self) {
        self.estimate = None;
    }

    /// The estimate in nanoseconds, [`FLOOR`] included; none before the first answer.
    pub(super) fn cost(&self) -> Option<f64> {
        self.estimate
    }

    /// The estimate; none before the first answer.
    pub(super) fn estimate(&self) -> Option<Duration> {
        self.estimate.map(|cost| Duration::from_nanos((cost - FLOOR).max(0.0) as u64))
    }
}

/// A time in the unit of the estimate: nanoseconds, the floor added.
pub(super) fn cost(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9 + FLOOR
}
