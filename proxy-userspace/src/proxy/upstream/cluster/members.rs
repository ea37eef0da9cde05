//! The endpoints of a cluster at one moment.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::Backend;
use crate::domain::balance::{Balancer, Weights, identity};
use crate::domain::catalog::{Condition, Endpoint};
use crate::domain::health::{Health, Tier};

/// A snapshot of a cluster's endpoints.
#[derive(Debug)]
pub struct Members {
    /// Every endpoint, those in use first.
    pub all: Vec<Member>,
    /// How many of them are in use: the ready ones, or when there is none the terminating ones.
    active: usize,
    /// How often each of those is drawn.
    weights: Weights,
    /// What the snapshot was made from, to tell at a glance that nothing changed.
    pub(super) source: Arc<[Endpoint]>,
}

/// One endpoint of a cluster.
#[derive(Debug)]
pub struct Member {
    /// Its run-time state.
    pub backend: Arc<Backend>,
    /// What it is known by where clients keep their endpoint; see [`identity`].
    pub identity: SocketAddr,
    /// Its share.
    pub weight: f64,
    /// What its source says of it.
    pub condition: Condition,
}

/// No endpoints at all.
impl Default for Members {
    fn default() -> Self {
        Self { all: Vec::new(), active: 0, weights: Weights::equal(0), source: Arc::new([]) }
    }
}

impl Members {
    /// The endpoints in use.
    pub fn active(&self) -> &[Member] {
        &self.all[..self.active]
    }

    /// The snapshot for `endpoints`, with the state of those that were here before; that of the others is `new`. How one is
    /// chosen decides what they are known by.
    pub(super) fn successor(
        &self,
        endpoints: &Arc<[Endpoint]>,
        balancer: Balancer,
        new: impl Fn(SocketAddr) -> Backend,
    ) -> Self {
        let known: HashMap<SocketAddr, &Arc<Backend>> =
            self.all.iter().map(|member| (member.backend.address, &member.backend)).collect();
        let shared = match balancer {
            Balancer::ClientIp => shared_addresses(endpoints),
            _ => HashSet::new(),
        };
        let mut all: Vec<Member> = endpoints
            .iter()
            .map(|endpoint| Member {
                backend: known
                    .get(&endpoint.address)
                    .map_or_else(|| Arc::new(new(endpoint.address)), |known| Arc::clone(known)),
                identity: identity(endpoint.address, shared.contains(&endpoint.address.ip())),
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
        let weights = Weights::new(all[..active].iter().map(|member| member.weight));
        Self { all, active, weights, source: endpoints.clone() }
    }
}

/// The IP addresses that several of `endpoints` have.
fn shared_addresses(endpoints: &[Endpoint]) -> HashSet<IpAddr> {
    let mut seen = HashSet::new();
    endpoints.iter().map(|endpoint| endpoint.address.ip()).filter(|ip| !seen.insert(*ip)).collect()
}

/// The endpoints in use.
impl Tier for Members {
    fn weights(&self) -> &Weights {
        &self.weights
    }

    fn health(&self, at: usize) -> &Health {
        &self.all[at].backend.health
    }
}
