//! What is counted and logged about an exchange (`log.level: debug`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tracing::Level;

use crate::proxy::fault::Fault;
use crate::proxy::listener::Listener;
use crate::proxy::upstream::cluster::Lease;

/// The record of one exchange.
#[derive(Clone, Debug)]
pub struct Record {
    /// When it began.
    pub started: Instant,
    client: SocketAddr,
    /// The label of its router, where that has one and the record is going to be logged.
    router: Option<Arc<str>>,
    attempts: u16,
}

impl Record {
    /// An exchange of `client`, who came to `listener`, begins at `now`.
    pub fn begin(client: SocketAddr, listener: &Listener, now: Instant) -> Self {
        let is_logged = tracing::enabled!(Level::DEBUG);
        let router = if is_logged { listener.router() } else { None };
        Self { started: now, client, router, attempts: 0 }
    }

    /// One more attempt.
    pub fn attempt(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
    }

    /// It has ended at the endpoint of `lease`, in this way.
    pub fn end(&self, now: Instant, lease: &Lease, how: &'static str) {
        tracing::debug!(
            client = %self.client,
            router = self.router.as_deref(),
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
            router = self.router.as_deref(),
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
