//! Services, their clusters and endpoints.

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize, Serializer};

use super::{Counts, Word};
use crate::domain::catalog::{Condition, Endpoint, Service};
use crate::domain::health::breaker::{Policy, State};
use crate::domain::outcome::Outcome;
use crate::proxy::upstream::cluster::{BackendStats, Cluster, ClusterPolicy, LazyCluster, Member, Members};
use crate::telemetry::Counter;

/// A service of the catalog, with its clusters as a list; they may be read when they are written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceReport<C = Vec<ClusterReport>> {
    /// Its name: `/#/io.l5d.k8s/NAMESPACE/NAME` or `/#/io.l5d.fs/NAME`.
    pub service: String,
    /// Its own addresses.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// The DNS name, if the service is only an alias (`ExternalName`).
    #[serde(default)]
    pub external_name: Option<String>,
    /// How long a client keeps its endpoint.
    #[serde(default)]
    pub affinity_seconds: Option<u64>,
    /// Its ports on every node.
    #[serde(default)]
    pub node_ports: Vec<u16>,
    /// One cluster per port.
    #[serde(default)]
    pub clusters: C,
}

/// A cluster's state at run time, with its endpoints as a list; they may be read when they are written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterReport<E = Vec<EndpointReport>> {
    /// Its bound name.
    pub name: String,
    /// Number of attempts by outcome; absent until the cluster is first used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Counts>,
    /// Number of retries; absent as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u64>,
    /// The policy of its requests.
    #[serde(default)]
    pub policy: PolicyReport,
    /// Its endpoints.
    #[serde(default)]
    pub endpoints: E,
}

/// Endpoints, each of which is read when it is written: one service may have very many.
#[derive(Debug)]
pub(super) enum Endpoints {
    /// Of a cluster that is used: with the policy of its breakers, at this time.
    Used(Arc<Members>, Policy, Instant),
    /// As the catalog has them.
    Unused(Arc<[Endpoint]>),
}

impl Serialize for Endpoints {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Used(members, policy, now) => {
                serializer.collect_seq(members.all.iter().map(|it| EndpointReport::read(it, policy, *now)))
            }
            Self::Unused(all) => serializer.collect_seq(all.iter().map(EndpointReport::unused)),
        }
    }
}

/// The policy of a cluster's requests; null means the value from `limits`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyReport {
    /// Maximum time for a response.
    pub response_seconds: Option<f64>,
    /// Maximum number of attempts per request.
    pub attempts: Option<u64>,
    /// The version of HTTP in which its endpoints are asked (`auto`, `http1`, `http2`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Word>,
    /// When an endpoint is ejected.
    pub breaker: BreakerReport,
}

/// When an endpoint is ejected, and for how long.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BreakerReport {
    /// Consecutive failures.
    pub failures: u32,
    /// The minimum and maximum backoff.
    pub backoff_seconds: BackoffReport,
}

/// The minimum and maximum backoff, in seconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BackoffReport {
    /// The minimum.
    pub min: f64,
    /// The maximum.
    pub max: f64,
}

/// An endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "FlatEndpoint")]
pub struct EndpointReport {
    /// Its address and port.
    pub address: String,
    /// Its condition in the catalog: `ready`, `notReady` or `terminating`.
    pub condition: Word,
    /// Its usage; absent until its cluster is first used.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageReport>,
}

/// An endpoint's usage.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UsageReport {
    /// `closed`, `open`, `due` or `probing`, for those clients for which it is worst. Empty without a breaker.
    pub breaker: Word,
    /// Its weight relative to the others.
    pub weight: f64,
    /// Time until the breaker admits a request.
    pub retry_in_seconds: Option<f64>,
    /// For how many clients the breaker has ejected it.
    pub ejected_for: usize,
    /// Time until it is used again after it reported overload.
    pub left_alone_seconds: Option<f64>,
    /// Requests and tunnels in flight.
    pub in_flight: usize,
    /// The latency estimate.
    pub latency_seconds: Option<f64>,
    /// Requests sent to it.
    pub requests: u64,
    /// Failures counted by its breaker.
    pub failures: u64,
    /// Responses by which it refused a request.
    pub refusals: u64,
    /// Trial requests of its breaker.
    pub trials: u64,
    /// Connections opened.
    pub connects: u64,
    /// How often its breaker opened.
    pub ejections: u64,
    /// Idle pooled connections.
    pub idle_connections: usize,
}

/// An endpoint as deserialized: `breaker` tells whether it was used. (A flattened `Option` would read a mistake as
/// `None`.)
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

impl<C> ServiceReport<C> {
    /// The report for `service` and its `clusters`.
    pub(super) fn new(service: &Service, clusters: C) -> Self {
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
    /// The current state of `cluster`.
    pub fn read(cluster: &Cluster, now: Instant) -> Self {
        let ClusterReport { name, attempts, retries, policy, endpoints } = ClusterReport::lazy(cluster, now);
        let endpoints = match endpoints {
            Endpoints::Used(members, policy, now) => {
                members.all.iter().map(|it| EndpointReport::read(it, &policy, now)).collect()
            }
            Endpoints::Unused(all) => all.iter().map(EndpointReport::unused).collect(),
        };
        Self { name, attempts, retries, policy, endpoints }
    }
}

impl ClusterReport<Endpoints> {
    fn lazy(cluster: &Cluster, now: Instant) -> Self {
        let policy = cluster.policy();
        let outcomes = Outcome::LABELS.iter().zip(&cluster.stats.outcomes);
        let counted = outcomes.map(|(label, count)| (Word::from(*label), count.value()));
        Self {
            name: cluster.name.to_string(),
            attempts: Some(counted.filter(|(_, count)| *count > 0).collect()),
            retries: Some(cluster.stats.retries.value()),
            policy: PolicyReport::new(&policy),
            endpoints: Endpoints::Used(Arc::clone(&cluster.members()), policy.breaker, now),
        }
    }

    /// The cluster of a service port; if it is not used, only the data from the catalog.
    pub(super) fn of_port(port: &LazyCluster, now: Instant) -> Self {
        if let Some(made) = port.made() {
            return Self::lazy(&made, now);
        }
        Self {
            name: port.name.to_string(),
            attempts: None,
            retries: None,
            policy: PolicyReport::new(&port.policy()),
            endpoints: Endpoints::Unused(port.endpoints()),
        }
    }
}

impl PolicyReport {
    fn new(policy: &ClusterPolicy) -> Self {
        let backoff = policy.breaker.backoff;
        Self {
            response_seconds: policy.requests.response().map(|it| it.as_secs_f64()),
            attempts: policy.requests.attempts.map(|it| it.get().into()),
            protocol: policy.requests.protocol.map(|it| it.name().into()),
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
        let count = |of: fn(&BackendStats) -> &Counter| backend.counted().map_or(0, |it| of(it).value());
        let usage = UsageReport {
            breaker: breaker.into(),
            weight: member.weight,
            retry_in_seconds: retry_in,
            ejected_for: backend.ejected_for(),
            left_alone_seconds: backend.left_alone(now).map(|left| left.as_secs_f64()),
            in_flight: backend.in_flight(),
            latency_seconds: backend.latency().map(|ns| ns / 1e9),
            requests: count(|it| &it.requests),
            failures: count(|it| &it.failures),
            refusals: count(|it| &it.refusals),
            trials: count(|it| &it.trials),
            connects: count(|it| &it.connects),
            ejections: count(|it| &it.ejections),
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
