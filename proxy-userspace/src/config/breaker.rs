//! `breaker`: when an endpoint is ejected, and for how long.

use std::time::Duration;

use super::fields::Section;
use super::problem::Mistake;
use super::values;

/// The consecutive-failures breaker (linkerd's `io.l5d.consecutiveFailures`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// `failures`: consecutive failures after which an endpoint is ejected: 1 to 1,000,000. Default 5.
    pub failures: u32,
    /// `backoff`: how long it stays ejected before the next probe.
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

pub(super) fn read(section: Section<'_, '_>) -> Breaker {
    let (failures, backoff) = read_some(section);
    let default = Breaker::default();
    Breaker { failures: failures.unwrap_or(default.failures), backoff: backoff.unwrap_or(default.backoff) }
}

/// The configured settings of a breaker. A backoff is one setting: its absent keys have their defaults.
pub(super) fn read_some(mut section: Section<'_, '_>) -> (Option<u32>, Option<Backoff>) {
    let mut failures = None;
    section.set("failures", &mut failures, |node| values::count(1..=1_000_000)(node).map(Some));
    let backoff = section.section("backoff").map(read_backoff);
    section.finish();
    (failures, backoff)
}

fn read_backoff(mut section: Section<'_, '_>) -> Backoff {
    const SHORTEST: Duration = Duration::from_millis(1);
    let mut backoff = Backoff::default();
    section.set("min", &mut backoff.min, values::duration(SHORTEST..=Duration::from_hours(1)));
    section.set("max", &mut backoff.max, values::duration(SHORTEST..=Duration::from_hours(24)));
    if backoff.min > backoff.max {
        let (min, max) = (backoff.min, backoff.max);
        let written = if section.has("max") { "max" } else { "min" };
        let mistake = Mistake::new(format!("the longest wait, {max:?}, is shorter than the first, {min:?}"))
            .hint("set both `min` and `max`");
        section.mistake(written, mistake);
    }
    section.finish();
    backoff
}
