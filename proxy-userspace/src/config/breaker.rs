//! `breaker`: when an endpoint is taken out of balancing, and for how long.

use std::time::Duration;

/// The consecutive-failures breaker (linkerd's `io.l5d.consecutiveFailures`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// `failures`: consecutive failures after which an endpoint is out: 1 to 1,000,000. Default 5.
    pub failures: u32,
    /// `backoff`: how long it stays out before the next probe.
    pub backoff: Backoff,
}

/// Equal-jittered exponential backoff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// `min`: the first wait, 1 ms to 1 h. Default 5 s.
    pub min: Duration,
    /// `max`: the longest wait, from `min` to 24 h. Default 5 m.
    pub max: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 5, backoff: Backoff::default() }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { min: Duration::from_secs(5), max: Duration::from_secs(300) }
    }
}
