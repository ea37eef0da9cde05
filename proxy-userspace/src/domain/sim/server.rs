//! The behaviour of a simulated endpoint.

use crate::domain::outcome::Outcome;
use std::time::Duration;

/// The behaviour of an endpoint until it is changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    /// The mean time of an answer without overload: half fixed, half exponential.
    mean: Duration,
    /// How many requests it processes at a time; with more, all take proportionally longer.
    capacity: usize,
    /// The usual outcome of a request.
    usual: Outcome,
    /// For this many requests of a thousand: another outcome, and its time.
    odd: (u32, Outcome, Duration),
}

/// The time of a refused connection or an immediate error.
const AT_ONCE: Duration = Duration::from_micros(50);

/// How long the proxy waits for an answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

const OK: Outcome = Outcome::Answered(200);

/// Answers.
pub(super) fn up(millis: u64) -> Server {
    micros(millis * 1000)
}

/// As [`up`], in microseconds.
pub(super) fn micros(mean: u64) -> Server {
    Server { mean: Duration::from_micros(mean), capacity: 16, usual: OK, odd: (0, OK, AT_ONCE) }
}

/// Carries tunnels with this mean lifetime.
pub(super) fn carrying(millis: u64) -> Server {
    Server { usual: Outcome::Carried, capacity: usize::MAX, ..up(millis) }
}

/// Refuses connections at once: the machine runs, the process does not.
pub(super) fn refusing() -> Server {
    up(1).with(1000, Outcome::ConnectFailed)
}

/// Does not answer: the machine is gone.
pub(super) fn hanging() -> Server {
    Server { odd: (1000, Outcome::Timeout, TIMEOUT), ..up(1) }
}

impl Server {
    /// This many requests of a thousand end with `outcome`, at once.
    pub(super) fn with(self, permille: u32, outcome: Outcome) -> Self {
        Self { odd: (permille, outcome, AT_ONCE), ..self }
    }

    /// This many answers of a thousand take this long.
    pub(super) fn stalling(self, permille: u32, stall: Duration) -> Self {
        Self { odd: (permille, self.usual, stall), ..self }
    }

    /// Processes this many requests at a time.
    pub(super) fn capacity(self, capacity: usize) -> Self {
        Self { capacity, ..self }
    }

    /// The outcome and the time of a request that starts with `in_flight` others.
    pub(super) fn serve(self, in_flight: usize, rng: &mut fastrand::Rng) -> (Outcome, Duration) {
        let (permille, outcome, time) = self.odd;
        if rng.u32(..1000) < permille {
            return (outcome, time);
        }
        let exponential = -(1.0 - rng.f64()).ln();
        let crowd = (in_flight as f64 / self.capacity as f64).max(1.0);
        let time = self.mean.mul_f64((0.5 + 0.5 * exponential) * crowd);
        if time < TIMEOUT || self.usual == Outcome::Carried {
            (self.usual, time)
        } else {
            (Outcome::Timeout, TIMEOUT)
        }
    }
}
