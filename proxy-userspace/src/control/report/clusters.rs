//! Services, their clusters and endpoints.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Counts, Word};
use crate::domain::catalog::{Condition, Endpoint, Service};
use crate::domain::health::breaker::{Policy, State};
use crate::domain::outcome::Outcome;
use crate::proxy::upstream::cluster::{Cluster, ClusterPolicy, LazyCluster, Member};

/// A service of the catalog.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceReport {
    /// Its name: `/#/io.l5d.k8s/NAMESPACE/NAME` or `/#/io.l5d.fs/NAME`.
    pub service: String,
    /// Its own addresses.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// The name that it stands for, if that is all it is.
    #[serde(default)]
    pub external_name: Option<String>,
    /// How long a client stays with its endpoint.
    #[serde(default)]
    pub affinity_seconds: Option<u64>,
    /// Its ports on every node.
    #[serde(default)]
    pub node_ports: Vec<u16>,
    /// One for each port.
    #[serde(default)]
    pub clusters: Vec<ClusterReport>,
}

/// A destination at run time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterReport {
    /// Its bound name.
    pub name: String,
    /// How attempts ended, by outcome; absent where nobody has asked for it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Counts>,
    /// Attempts after a first; absent as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u64>,
    /// What holds for its requests.
    #[serde(default)]
    pub policy: PolicyReport,
    /// Its endpoints.
    #[serde(default)]
    pub endpoints: Vec<EndpointReport>,
}

/// What holds for a cluster's requests; null is as `limits` have it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyReport {
    /// How long an answer may take.
    pub response_seconds: Option<f64>,
    /// Attempts for one request at most.
    pub attempts: Option<u64>,
    /// When an endpoint is left out.
    pub breaker: BreakerReport,
}

/// When an endpoint is left out, and for how long.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BreakerReport {
    /// Failures in a row.
    pub failures: u32,
    /// The shortest and the longest wait.
    pub backoff_seconds: BackoffReport,
}

/// The shortest and the longest wait, in seconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BackoffReport {
    /// The shortest.
    pub min: f64,
    /// The longest.
    pub max: f64,
}

/// An endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "FlatEndpoint")]
pub struct EndpointReport {
    /// Its address and port.
    pub address: String,
    /// What the catalog says of it: `ready`, `notReady` or `terminating`.
    pub condition: Word,
    /// How it is doing; absent where nobody has asked for its cluster yet.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageReport>,
}

/// How an endpoint is doing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UsageReport {
    /// `closed`, `open`, `due` or `probing`. Empty for none.
    pub breaker: Word,
    /// Its share beside the others'.
    pub weight: f64,
    /// Until the breaker lets a request through.
    pub retry_in_seconds: Option<f64>,
    /// Until it is asked again after it said that it has too much to do.
    pub left_alone_seconds: Option<f64>,
    /// Requests and tunnels now.
    pub in_flight: usize,
    /// The estimate of its latency.
    pub latency_seconds: Option<f64>,
    /// What it was asked.
    pub requests: u64,
    /// Failures that its breaker counted.
    pub failures: u64,
    /// Answers by which it refused.
    pub refusals: u64,
    /// Requests that were to show whether it is well again.
    pub trials: u64,
    /// Connections made.
    pub connects: u64,
    /// How often its breaker opened.
    pub ejections: u64,
    /// Connections kept for the next request.
    pub idle_connections: usize,
}

/// An endpoint as it is read: `breaker` tells whether it was used. (An `Option` that is flattened would take a mistake for
/// nothing.)
#[derive(Deserialize)]
struct FlatEndpoint {
    address: String,
    #[serde(default)]
    condition: Word,
    #[serde(flatten)]
    usage: UsageReport,
}

impl From<FlatEndpoint> for EndpointReport {
    fn from(FlatEndpoint { address, condition, usage }: FlatEndpoint) -> Self {
        Self { address, condition, usage: (!usage.breaker.is_empty()).then_some(usage) }
    }
}

impl ServiceReport {
    /// What `service` and its `clusters` are now.
    pub(super) fn new(service: &Service, clusters: Vec<ClusterReport>) -> Self {
        Self {
            service: service.key.to_string(),
            addresses: service.addresses.iter().map(ToString::to_string).collect(),
            external_name: service.external_name.as_deref().map(str::to_owned),
            affinity_seconds: service.affinity.map(|it| it.as_secs()),
            node_ports: service.ports.iter().filter_map(|it| Some(it.node_port?.number)).collect(),
            clusters,
        }
    }
}

impl ClusterReport {
    /// What `cluster` is doing now.
    pub fn read(cluster: &Cluster, now: Instant) -> Self {
        let policy = cluster.policy();
        let outcomes = Outcome::LABELS.iter().zip(&cluster.stats.outcomes);
        let counted = outcomes.map(|(label, count)| (Word::from(*label), count.value()));
        let members = cluster.members();
        Self {
            name: cluster.name.to_string(),
            attempts: Some(counted.filter(|(_, count)| *count > 0).collect()),
            retries: Some(cluster.stats.retries.value()),
            policy: PolicyReport::new(&policy),
            endpoints: members.all.iter().map(|it| EndpointReport::read(it, &policy.breaker, now)).collect(),
        }
    }

    /// A service port's cluster; of one that nobody has asked for yet, only what the catalog says.
    pub(super) fn of_port(port: &LazyCluster, now: Instant) -> Self {
        if let Some(made) = port.made() {
            return Self::read(made, now);
        }
        Self {
            name: port.name.to_string(),
            attempts: None,
            retries: None,
            policy: PolicyReport::new(&port.policy()),
            endpoints: port.endpoints().iter().map(EndpointReport::unused).collect(),
        }
    }
}

impl PolicyReport {
    fn new(policy: &ClusterPolicy) -> Self {
        let backoff = policy.breaker.backoff;
        Self {
            response_seconds: policy.requests.response().map(|it| it.as_secs_f64()),
            attempts: policy.requests.attempts.map(|it| it.get().into()),
            breaker: BreakerReport {
                failures: policy.breaker.failures,
                backoff_seconds: BackoffReport {
                    min: backoff.min.as_secs_f64(),
                    max: backoff.max.as_secs_f64(),
                },
            },
        }
    }
}

impl EndpointReport {
    fn unused(endpoint: &Endpoint) -> Self {
        Self {
            address: endpoint.address.to_string(),
            condition: condition(endpoint.condition).into(),
            usage: None,
        }
    }

    fn read(member: &Member, policy: &Policy, now: Instant) -> Self {
        let backend = &member.backend;
        let (breaker, retry_in) = match backend.breaker(now, policy) {
            State::Closed => ("closed", None),
            State::Open { until } => ("open", Some(until.saturating_duration_since(now).as_secs_f64())),
            State::Due => ("due", None),
            State::Probing => ("probing", None),
        };
        let usage = UsageReport {
            breaker: breaker.into(),
            weight: member.weight,
            retry_in_seconds: retry_in,
            left_alone_seconds: backend.left_alone(now).map(|left| left.as_secs_f64()),
            in_flight: backend.in_flight(),
            latency_seconds: backend.latency().map(|ns| ns / 1e9),
            requests: backend.stats.requests.value(),
            failures: backend.stats.failures.value(),
            refusals: backend.stats.refusals.value(),
            trials: backend.stats.trials.value(),
            connects: backend.stats.connects.value(),
            ejections: backend.stats.ejections.value(),
            idle_connections: backend.pools().iter().map(|pool| pool.len()).sum(),
        };
        let condition = condition(member.condition).into();
        Self { address: backend.address.to_string(), condition, usage: Some(usage) }
    }
}

fn condition(condition: Condition) -> &'static str {
    match condition {
        Condition::Ready => "ready",
        Condition::Terminating => "terminating",
        Condition::NotReady => "notReady",
    }
}
