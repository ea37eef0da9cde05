//! The right to use one endpoint once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backend::News;
use super::{Backend, Cluster};
use crate::domain::breaker::{Permit, Transition, Verdict};
use crate::domain::outcome::Outcome;

/// One attempt at one endpoint. It counts as in flight until it is dropped, and its outcome reaches load, breaker
/// and metrics exactly once: a lease dropped without [`Lease::finish`] is one whose client left.
#[derive(Debug)]
pub struct Lease {
    cluster: Arc<Cluster>,
    backend: Arc<Backend>,
    /// Until the breaker has been told.
    permit: Option<Permit>,
    started: Instant,
    /// Once the answer's head is here.
    answered: Option<Outcome>,
    finished: bool,
}

impl Lease {
    pub(super) fn new(cluster: Arc<Cluster>, backend: Arc<Backend>, permit: Permit, now: Instant) -> Self {
        backend.stats.requests.up();
        Self { cluster, backend, permit: Some(permit), started: now, answered: None, finished: false }
    }

    /// The endpoint.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// When it was given.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The cluster it was chosen from.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The head of the answer is here. Latency is measured to this point: how long a body takes is the body's.
    /// A failure, and the result of a probe, reach the breaker now, since a body may stream for hours; anything
    /// else when the body is whole, because an answer cut short is a failure whatever its status said.
    pub fn answered(&mut self, now: Instant, outcome: Outcome) {
        self.answered = Some(outcome);
        self.observe(now, outcome);
        let is_probe = matches!(self.permit, Some(Permit::Probe(..) | Permit::Forced(_)));
        if is_probe || outcome.verdict() == Verdict::Failure {
            self.judge(now, outcome);
        }
    }

    /// The attempt is over: its answer is whole, or there will be none.
    pub fn finish(mut self, now: Instant, outcome: Outcome) {
        self.close(now, outcome);
    }

    /// The attempt is over after its head and body.
    pub fn complete(self, now: Instant) {
        let outcome = self.answered.unwrap_or(Outcome::Abandoned);
        self.finish(now, outcome);
    }

    fn close(&mut self, now: Instant, outcome: Outcome) {
        self.finished = true;
        // A failure that the breaker has heard of stays one when its client leaves before the body's end.
        let failed = self.answered.filter(|it| it.verdict() == Verdict::Failure);
        let outcome = if outcome == Outcome::Abandoned { failed.unwrap_or(outcome) } else { outcome };
        let took = now.saturating_duration_since(self.started);
        if self.answered.is_none() {
            self.observe(now, outcome);
        }
        self.judge(now, outcome);
        self.cluster.stats.outcomes[outcome.slot()].up();
        self.cluster.stats.duration.observe(took);
        if outcome.verdict() == Verdict::Failure {
            self.backend.stats.failures.up();
        }
    }

    /// How long a connect took says nothing of what will be carried, and its noise would starve endpoints: tunnels are
    /// balanced by their number alone.
    fn observe(&self, now: Instant, outcome: Outcome) {
        if outcome == Outcome::Carried {
            return;
        }
        let took = now.saturating_duration_since(self.started);
        if self.backend.observe(now, outcome, took) == News::First {
            self.cluster.guess_anew(now);
        }
    }

    fn judge(&mut self, now: Instant, outcome: Outcome) {
        let Some(permit) = self.permit.take() else { return };
        let peers = || self.cluster.peers(&self.backend, now);
        match self.backend.judge(now, permit, outcome, peers) {
            None => {}
            Some(Transition::Ejected { retry_in }) => {
                self.backend.stats.ejections.up();
                self.log_ejected(outcome, retry_in);
            }
            Some(Transition::Restored) => {
                self.backend.guess(now, &self.cluster.members().observed(now));
                tracing::info!(name = %self.cluster.name, endpoint = %self.backend.address, "endpoint is back");
            }
        }
    }

    fn log_ejected(&self, outcome: Outcome, retry_in: Duration) {
        tracing::warn!(
            name = %self.cluster.name,
            endpoint = %self.backend.address,
            last = outcome.label(),
            retry_in_ms = u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX),
            "endpoint ejected"
        );
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.finished {
            self.close(Instant::now(), Outcome::Abandoned);
        }
        self.backend.release();
    }
}
