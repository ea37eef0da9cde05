//! The endpoints of a cluster at one moment.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::{Backend, Plan, mean_latency};
use crate::domain::balance::PeakEwma;
use crate::domain::catalog::{Condition, Endpoint};

/// A snapshot of a cluster's endpoints.
#[derive(Debug, Default)]
pub struct Members {
    /// Every endpoint, those in use first.
    pub all: Vec<Member>,
    /// How many of them are in use: the ready ones, or when there is none the terminating ones.
    active: usize,
    /// What the snapshot was made from, to tell at a glance that nothing changed.
    pub(super) source: Arc<[Endpoint]>,
}

/// One endpoint of a cluster.
#[derive(Debug)]
pub struct Member {
    /// Its run-time state.
    pub backend: Arc<Backend>,
    /// Its share.
    pub weight: f64,
    /// What its source says of it.
    pub condition: Condition,
}

impl Members {
    /// The endpoints in use.
    pub fn active(&self) -> &[Member] {
        &self.all[..self.active]
    }

    /// Whether `backend` is one of them.
    pub(super) fn holds(&self, backend: &Arc<Backend>) -> bool {
        self.all.iter().any(|member| Arc::ptr_eq(&member.backend, backend))
    }

    /// The snapshot for `endpoints`, with the state of those that were here before.
    pub(super) fn successor(&self, endpoints: &Arc<[Endpoint]>, plan: &Plan, now: Instant) -> Self {
        let known: HashMap<SocketAddr, &Arc<Backend>> =
            self.all.iter().map(|member| (member.backend.address, &member.backend)).collect();
        let guess = mean_latency(self, now).unwrap_or(PeakEwma::INITIAL);
        let mut all: Vec<Member> = endpoints
            .iter()
            .map(|endpoint| Member {
                backend: known.get(&endpoint.address).map_or_else(
                    || Arc::new(Backend::new(endpoint.address, plan, guess, now)),
                    |known| Arc::clone(known),
                ),
                weight: endpoint.weight,
                condition: endpoint.condition,
            })
            .collect();
        all.sort_by_key(|member| member.condition);
        let used = match all.first().map(|member| member.condition) {
            Some(Condition::Ready) => Condition::Ready,
            _ => Condition::Terminating,
        };
        let active = all.iter().filter(|member| member.condition == used).count();
        Self { all, active, source: endpoints.clone() }
    }
}
