//! The settings of a cluster. They are no part of what it is: when they change the cluster stays, with its endpoints'
//! health, connections and counts.

use crate::domain::balance::Balancer;
use crate::domain::health::breaker;
use crate::domain::policy::RequestPolicy;

/// How the endpoints of a cluster are chosen, ejected and tried.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClusterPolicy {
    /// How one is chosen.
    pub balancer: Balancer,
    /// When one is ejected, and for how long.
    pub breaker: breaker::Policy,
    /// How requests that name the cluster are tried, as far as policies say.
    pub requests: RequestPolicy,
    /// The same for requests that dialled it: policies for its own name count, too.
    pub dialled: RequestPolicy,
}
