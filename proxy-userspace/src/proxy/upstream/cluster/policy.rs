//! The settings of a cluster. They are not part of its identity: when they change the cluster stays, with its
//! endpoints' health, connections and counters.

use crate::domain::balance::Balancer;
use crate::domain::health::breaker;
use crate::domain::policy::{Protocol, RequestPolicy};

/// How the endpoints of a cluster are chosen, ejected and tried.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClusterPolicy {
    /// The balancing algorithm.
    pub balancer: Balancer,
    /// When an endpoint is ejected, and for how long.
    pub breaker: breaker::Policy,
    /// The version of HTTP that its service port declares (`appProtocol`).
    pub declared: Option<Protocol>,
    /// The policy of requests that name the cluster, as far as configured.
    pub requests: RequestPolicy,
    /// The policy of requests that dialled it: policies for its own name count, too.
    pub dialled: RequestPolicy,
}
