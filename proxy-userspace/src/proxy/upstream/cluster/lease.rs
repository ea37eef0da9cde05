//! The right to use one endpoint once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Backend, Cluster};
use crate::domain::health::breaker::{self, Transition, Verdict};
use crate::domain::health::{Caller, Health, Norms, Scene, Setting, Ticket};
use crate::domain::outcome::{Outcome, Sign};

/// One attempt at one endpoint. It counts as in flight until it is dropped, and its outcome is reported to load,
/// breaker and metrics exactly once: a lease dropped without [`Lease::finish`] means that the client left.
#[derive(Debug)]
pub struct Lease {
    cluster: Arc<Cluster>,
    backend: Arc<Backend>,
    ticket: Ticket,
    finished: bool,
}

impl Lease {
    pub(super) fn new(cluster: Arc<Cluster>, backend: Arc<Backend>, ticket: Ticket) -> Self {
        backend.stats().requests.inc();
        if ticket.is_trial() {
            backend.stats().trials.inc();
        }
        Self { cluster, backend, ticket, finished: false }
    }

    /// The endpoint.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// When it was created.
    pub fn started(&self) -> Instant {
        self.ticket.started()
    }

    /// The cluster it was chosen from.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The head of the answer has arrived, see [`Ticket::answered`].
    pub fn answered(&mut self, now: Instant, outcome: Outcome) {
        let transition = self.tell(|ticket, scene| ticket.answered(now, outcome, scene));
        self.note(transition, outcome);
    }

    /// The endpoint asks not to be used for a while, see [`Ticket::leave_alone`].
    pub fn leave_alone(&mut self, now: Instant, wait: Duration, most: Duration) {
        self.tell(|ticket, scene| ticket.leave_alone(now, wait, most, scene));
    }

    /// The attempt is over: its answer is complete, or there is none.
    pub fn finish(mut self, now: Instant, outcome: Outcome) {
        self.close(now, outcome);
    }

    /// The attempt is over after a complete head and body.
    pub fn complete(self, now: Instant) {
        let outcome = self.ticket.outcome().unwrap_or(Outcome::Abandoned);
        self.finish(now, outcome);
    }

    fn close(&mut self, now: Instant, outcome: Outcome) {
        self.finished = true;
        let finished = self.tell(|ticket, scene| ticket.finish(now, outcome, scene));
        self.note(finished.transition, finished.outcome);
        if outcome == Outcome::Silent {
            self.backend.close_unused();
        }
        self.cluster.stats.outcomes[finished.outcome.slot()].inc();
        self.cluster.stats.duration.observe(finished.took);
        if let Outcome::Grpc(code) = finished.outcome {
            self.cluster.stats.grpc.count(code);
        }
        if finished.verdict == Verdict::Failure {
            self.backend.stats().failures.inc();
        }
        if finished.outcome.sign() == Sign::Refused {
            self.backend.stats().refusals.inc();
        }
    }

    /// Calls `report` with the ticket and the state it acts on.
    fn tell<T>(&mut self, report: impl FnOnce(&mut Ticket, &Present<'_>) -> T) -> T {
        report(&mut self.ticket, &Present { cluster: &self.cluster, health: self.backend.health() })
    }

    fn note(&self, transition: Option<Transition>, outcome: Outcome) {
        match transition {
            None => {}
            Some(Transition::Ejected { retry_in }) => {
                self.backend.stats().ejections.inc();
                self.log_ejected(outcome, retry_in);
            }
            Some(Transition::Restored) => {
                let (name, endpoint, clients) =
                    (&self.cluster.name, &self.backend.address, self.backend.ejected_for());
                match clients {
                    0 => tracing::info!(%name, %endpoint, "endpoint is back"),
                    _ => tracing::debug!(%name, %endpoint, clients, "endpoint is back for a client"),
                }
            }
        }
    }

    /// A warning for the first client; a node may have a hundred.
    fn log_ejected(&self, outcome: Outcome, retry_in: Duration) {
        let (name, endpoint) = (&self.cluster.name, &self.backend.address);
        let (last, clients) = (outcome.label(), self.backend.ejected_for());
        let retry_in_ms = u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX);
        match clients {
            0 | 1 => tracing::warn!(%name, %endpoint, last, clients, retry_in_ms, "endpoint ejected"),
            _ => {
                tracing::debug!(%name, %endpoint, last, clients, retry_in_ms, "endpoint ejected for a client")
            }
        }
    }
}

/// A cluster as it is when it is asked.
struct Present<'a> {
    cluster: &'a Cluster,
    /// The health of the endpoint in use.
    health: &'a Health,
}

impl Setting for Present<'_> {
    fn health(&self) -> &Health {
        self.health
    }

    fn norms(&self) -> &Norms {
        &self.cluster.norms
    }

    fn policy(&self) -> breaker::Policy {
        self.cluster.policy().breaker
    }

    fn has_another(&self, caller: Caller, rng: &mut fastrand::Rng) -> bool {
        let (members, policy) = (self.cluster.members(), self.policy());
        let scene = Scene { tier: &**members, health: self.health, norms: self.norms(), policy: &policy };
        scene.has_another(caller, rng)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.finished {
            self.close(Instant::now(), Outcome::Abandoned);
        }
        self.backend.health().release();
    }
}
