//! The contents of `/api/state.json` as types: the admin serializes them, `weir status` deserializes them.
//!
//! The field names are a public interface. The reader may be older or newer than the weir that wrote: an unknown field
//! is ignored, and a missing one gets its default, except for the fields that identify weir's state or an item of a
//! list. Words such as `open` are strings for the same reason: a newer weir may add values.

mod clusters;
mod enrolment;
mod handover;
mod identity;
mod interception;
mod kubernetes;
mod routers;
#[cfg(test)]
mod tests;
mod write;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use clusters::{
    BackoffReport, BreakerReport, ClusterReport, EndpointReport, PolicyReport, ServiceReport, UsageReport,
};
pub use enrolment::{EnrolmentReport, PodReport, WithoutReport};
pub use handover::{DrainingReport, HandoverReport};
pub(in crate::control) use identity::until;
pub use identity::{CertificateReport, IdentityReport, WireCounts, WireReport};
pub use interception::{DirectPod, DirectReport, InterceptionReport, NetnsReport, ProgramsReport};
pub use kubernetes::{KubernetesReport, ResourceReport};
pub use routers::RouterReport;
pub use write::write;

/// A word from a fixed set: a state, a reason, a label.
pub type Word = Cow<'static, str>;

/// Counts by label.
pub type Counts = BTreeMap<Word, u64>;

/// The whole state at one moment. `S` is the list of services: complete when read, item by item when written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateReport<S = Vec<ServiceReport>> {
    /// weir's version.
    pub version: Word,
    /// The node's name; empty if not configured.
    #[serde(default)]
    pub node: String,
    /// Seconds since weir started.
    #[serde(default)]
    pub uptime_seconds: f64,
    /// Whether `/ready` reports ready.
    pub ready: bool,
    /// The conditions of readiness, one per line.
    #[serde(default)]
    pub readiness: Vec<String>,
    /// Whether weir is stopping.
    #[serde(default)]
    pub draining: bool,
    /// The weirs of this node before and after this one.
    #[serde(default)]
    pub handover: HandoverReport,
    /// The addresses weir listens on.
    #[serde(default)]
    pub listening: Vec<String>,
    /// The routers of explicit requests.
    #[serde(default)]
    pub routers: Vec<RouterReport>,
    /// Its listeners and their connections.
    #[serde(default)]
    pub listeners: Vec<ListenerReport>,
    /// Clusters created by transformers.
    #[serde(default)]
    pub transformed: Vec<ClusterReport>,
    /// Destinations outside the catalog.
    #[serde(default)]
    pub outside: Vec<ClusterReport>,
    /// The state of interception.
    #[serde(default)]
    pub interception: InterceptionReport,
    /// Which of this node's pods are diverted.
    #[serde(default)]
    pub enrolment: EnrolmentReport,
    /// Who this node's pods are to other weirs; absent if no identities are configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityReport>,
    /// Responses that weir generated itself, by fault; only those that occurred.
    #[serde(default)]
    pub faults: Counts,
    /// Byte tunnels.
    #[serde(default)]
    pub tunnels: TunnelsReport,
    /// The memory budget; absent until it was measured first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryReport>,
    /// Problems of `discovery.files`.
    #[serde(default)]
    pub file_problems: Vec<String>,
    /// The state of discovery by an API server, if configured.
    #[serde(default)]
    pub kubernetes: Option<KubernetesReport>,
    /// The result of the last reload.
    #[serde(default)]
    pub reload: ReloadReport,
    /// The services of the catalog.
    #[serde(default)]
    pub services: S,
}

/// One listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListenerReport {
    /// Its name.
    pub listener: Word,
    /// The label of its router, where that has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<String>,
    /// Where it listens, of a router's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Connections open now.
    #[serde(default)]
    pub open: usize,
    /// Connections accepted.
    #[serde(default)]
    pub connections: u64,
    /// Requests received on them.
    #[serde(default)]
    pub requests: u64,
    /// Connections closed by weir, by reason.
    #[serde(default)]
    pub closed: Counts,
    /// Connections that wait for room.
    #[serde(default)]
    pub waiting: usize,
    /// Who has the most connections.
    #[serde(default)]
    pub shares: Vec<ShareReport>,
}

/// What a pod, or an address, has of a listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShareReport {
    /// `namespace/name` of a pod; otherwise an address, or a network namespace.
    pub client: String,
    /// Its open connections.
    #[serde(default)]
    pub open: usize,
    /// Those that wait for room.
    #[serde(default)]
    pub waiting: usize,
    /// How many it could have now.
    #[serde(default)]
    pub share: usize,
}

/// Byte tunnels.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TunnelsReport {
    /// Open now.
    pub open: usize,
}

/// The memory budget.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemoryReport {
    /// How scarce memory is: `normal`, `shed`, `refuse` or `full`.
    pub level: Word,
    /// Bytes in use.
    pub used_bytes: u64,
    /// Bytes that may be.
    pub budget_bytes: u64,
    /// Where that comes from: `the cgroup's limit`, `limits.memory` or `a quarter of the machine's memory`.
    pub source: Word,
    /// Who holds most beyond a fair share, once much is in use.
    pub above: Vec<AboveReport>,
    /// What was closed or dropped for lack of it, by kind.
    pub shed: Counts,
    /// What was refused for lack of it, by kind.
    pub refused: Counts,
}

/// What a pod, or an address, holds of memory that has more than its fair share.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AboveReport {
    /// `namespace/name` of a pod; otherwise an address, or a network namespace.
    pub client: String,
    /// Bytes that its connections hold, by estimate.
    pub bytes: u64,
    /// Its share.
    pub share: u64,
}

/// The result of the last reload.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReloadReport {
    /// The mistakes that keep a newer configuration from taking effect.
    pub mistakes: Option<String>,
    /// The settings that are not in force as written.
    pub wait_for_restart: Vec<String>,
}
