//! What is counted and logged about an exchange (`log.level: debug`).

use std::net::SocketAddr;
use std::time::Instant;

use crate::proxy::fault::Fault;
use crate::proxy::upstream::cluster::Lease;

/// The record of one exchange.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// When it began.
    pub started: Instant,
    client: SocketAddr,
    attempts: u16,
}

impl Record {
    /// An exchange of `client` begins at `now`.
    pub fn begin(client: SocketAddr, now: Instant) -> Self {
        Self { started: now, client, attempts: 0 }
    }

    /// One more attempt.
    pub fn attempt(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
    }

    /// It has ended at the endpoint of `lease`, in this way.
    pub fn end(&self, now: Instant, lease: &Lease, how: &'static str) {
        tracing::debug!(
            client = %self.client,
            name = %lease.cluster().name,
            endpoint = %lease.backend().address,
            attempts = self.attempts,
            took_us = micros(now, self.started),
            end = how,
            "exchange ended"
        );
    }

    /// weir answers itself, or does not forward the connection.
    pub fn fault(&self, fault: &Fault) {
        tracing::debug!(
            client = %self.client,
            attempts = self.attempts,
            took_us = micros(Instant::now(), self.started),
            %fault,
            "exchange failed"
        );
    }
}

fn micros(now: Instant, since: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(since).as_micros()).unwrap_or(u64::MAX)
}
