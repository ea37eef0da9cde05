//! How long an endpoint takes to answer: a moving average by count that no single answer can move far.
//!
//! An answer counts for [`WEIGHT`] of the estimate, however long ago the last one came, and for at most
//! [`PEAK`] times the estimate however long it took. So one slow answer, of whatever length, makes the estimate
//! at most 1.6 times what it was, and two in a row 2.6 times, which is below [`ALIKE`](super::ALIKE) and so has no
//! consequence; three in a row make it four times as much. See [`health`](super) for what differs from Finagle's
//! `PeakEwma`, and why.
//!
//! To each answer's time [`FLOOR`] is added. Below it are the scheduler and the network of a healthy node: of two
//! endpoints that take 0.1 ms and 0.3 ms neither is better.
//!
//! The estimate must not be used for a deadline: it is a mean, of what is mostly far below or far above it.

#[cfg(test)]
#[path = "latency_tests.rs"]
mod tests;

use std::time::Duration;

/// The part of the estimate that one answer makes: the last ten make 90 % of it.
const WEIGHT: f64 = 0.2;

/// The most that one answer counts for, in estimates.
const PEAK: f64 = 4.0;

/// What is added to each answer's time, in nanoseconds: 0.5 ms.
pub(super) const FLOOR: f64 = 500_000.0;

/// The latency estimate of one endpoint.
#[derive(Clone, Debug, Default)]
pub(super) struct Latency {
    /// In nanoseconds, [`FLOOR`] included; nothing before the first answer.
    estimate: Option<f64>,
}

impl Latency {
    /// Takes in the time of an answer. The first one is averaged with what is the `norm` of the cluster, if that is known,
    /// so that a cold start does not stand for the endpoint.
    pub(super) fn observe(&mut self, time: Duration, norm: Option<f64>) {
        let time = cost(time);
        let before = self.estimate.or(norm).unwrap_or(time);
        self.estimate = Some(before + (time.min(before * PEAK) - before) * WEIGHT);
    }

    /// Takes in the time of what was no answer to what was asked: it can only make the endpoint look slower.
    pub(super) fn observe_at_least(&mut self, time: Duration, norm: Option<f64>) {
        if self.estimate.or(norm).is_some_and(|estimate| cost(time) > estimate) {
            self.observe(time, norm);
        }
    }

    /// Forgets everything.
    pub(super) fn forget(&mut self) {
        self.estimate = None;
    }

    /// The estimate in nanoseconds, [`FLOOR`] included; nothing before the first answer.
    pub(super) fn cost(&self) -> Option<f64> {
        self.estimate
    }

    /// The estimate; nothing before the first answer.
    pub(super) fn estimate(&self) -> Option<Duration> {
        self.estimate.map(|cost| Duration::from_nanos((cost - FLOOR).max(0.0) as u64))
    }
}

/// A time in the estimate's unit: nanoseconds above the floor.
pub(super) fn cost(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9 + FLOOR
}
