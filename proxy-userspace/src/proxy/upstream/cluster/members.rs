//! The endpoints of a cluster at one moment.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::Backend;
use super::backend::Common;
use crate::domain::balance::{Balancer, Weights, identity};
use crate::domain::catalog::{Condition, Endpoint};
use crate::domain::health::{Health, Tier};
use crate::domain::ssrf::Exempt;

/// A snapshot of a cluster's endpoints.
#[derive(Debug)]
pub struct Members {
    /// Every endpoint; those in use come first.
    pub all: Vec<Member>,
    /// How many are in use: the ready ones, or if there are none the terminating ones.
    active: usize,
    /// The weights of those in use.
    weights: Weights,
    /// The health of those that were not used yet; never changed.
    unused: Health,
    /// The endpoints it was made from, to detect cheaply that nothing changed.
    pub(super) source: Arc<[Endpoint]>,
}

/// One endpoint of a cluster.
#[derive(Debug)]
pub struct Member {
    /// Its run-time state.
    pub backend: Arc<Backend>,
    /// Its identity where clients are mapped to endpoints; see [`identity`].
    pub identity: SocketAddr,
    /// Its weight.
    pub weight: f64,
    /// The condition its source reports.
    pub condition: Condition,
}

/// No endpoints at all.
impl Default for Members {
    fn default() -> Self {
        let unused = Health::new(fastrand::Rng::with_seed(0));
        Self { all: Vec::new(), active: 0, weights: Weights::equal(0), unused, source: Arc::new([]) }
    }
}

impl Members {
    /// The endpoints in use.
    pub fn active(&self) -> &[Member] {
        &self.all[..self.active]
    }

    /// The snapshot for `endpoints`, with the state of those that were present before and are `exempt` as before. The
    /// balancer decides what identifies them.
    pub(super) fn successor(
        &self,
        endpoints: &Arc<[Endpoint]>,
        balancer: Balancer,
        (exempt, common): (impl Fn(&Endpoint) -> Exempt, &Arc<Common>),
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
                    .filter(|known| known.exempt == exempt(endpoint))
                    .map_or_else(
                        || Arc::new(Backend::new(endpoint.address, exempt(endpoint), common.clone())),
                        |known| Arc::clone(known),
                    ),
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
        let unused = Health::new(fastrand::Rng::with_seed(0));
        Self { all, active, weights, unused, source: endpoints.clone() }
    }
}

/// The IP addresses that several of `endpoints` share.
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
        self.all[at].backend.known_health().unwrap_or(&self.unused)
    }

    fn used(&self, at: usize) -> &Health {
        self.all[at].backend.health()
    }
}
