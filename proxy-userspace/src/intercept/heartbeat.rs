//! The heartbeat: if weir hangs, the node's connections must no longer be diverted to it.
//!
//! A dead process is detected by its closed listener; a stopped or deadlocked one only by a missing heartbeat.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::error::InterceptError;
use super::sys;

/// Writes the heartbeat. Cheap to clone. Takes no lock: readers cannot block it.
#[derive(Clone)]
pub struct Heartbeat {
    map: Arc<OwnedFd>,
}

impl Heartbeat {
    pub(super) fn new(map: OwnedFd) -> Self {
        Self { map: Arc::new(map) }
    }

    /// Records that weir is alive now.
    ///
    /// # Errors
    ///
    /// The kernel refused the write.
    pub fn beat(&self) -> Result<(), InterceptError> {
        self.beat_at(monotonic_ns())
    }

    /// Records that weir was alive at `at` ([`monotonic_ns`]): the oldest of several workers' own beats.
    ///
    /// # Errors
    ///
    /// The kernel refused the write.
    pub fn beat_at(&self, at: u64) -> Result<(), InterceptError> {
        sys::set_heart(self.map.as_fd(), at).map_err(InterceptError::kernel("bpf (map HEART)"))
    }

    /// The time since the last beat.
    pub(super) fn age(&self) -> Option<Duration> {
        let beat = sys::heart(self.map.as_fd()).ok()?;
        Some(Duration::from_nanos(monotonic_ns().saturating_sub(beat)))
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds: the clock that the programs read. std's `Instant` does not expose this number.
pub fn monotonic_ns() -> u64 {
    // The clock exists on every Linux, so the call cannot fail.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
