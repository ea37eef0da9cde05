//! The state of interception, for the admin interface and the self-test.

use std::time::Duration;

/// The state of an [`super::Interception`] at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether all programs are in effect on the pods' cgroup, and that cgroup still exists.
    pub attached: bool,
    /// The cookie of the socket in the listener's slot; `None` when it is empty.
    pub slot: Option<u64>,
    /// The cookie of the listener that should be there.
    pub listener: Option<u64>,
    /// The time since the last heartbeat.
    pub heart_age: Option<Duration>,
    /// How many entries the table of destinations has, exclusions included.
    pub destinations: usize,
    /// How many addresses and ports of services are refused because there is no endpoint.
    pub refused: usize,
    /// Diverted connections that were not yet accepted at the last sweep, including those of clients that gave up.
    pub waiting: usize,
}

impl Status {
    /// Whether a connection to a known destination would be diverted to a running weir.
    pub fn is_armed(&self) -> bool {
        let stale = Duration::from_nanos(proxy_ebpf::STALE_AFTER_NS);
        self.attached
            && self.slot.is_some()
            && self.slot == self.listener
            && self.heart_age.is_some_and(|age| age <= stale)
    }
}
