//! What `/api/state.json` says, as types: the admin writes them, `weir status` reads them.
//!
//! The names of fields are interface. Whoever reads may be older or newer than the weir that wrote: a field that the reader
//! does not know is ignored, and one that is missing has its default, except for what says that this is weir's state at all
//! and for what tells one item of a list from another. Words such as `open` are text for the same reason: a newer weir may
//! have more of them.

mod clusters;
mod enrolment;
mod interception;
mod kubernetes;
#[cfg(test)]
mod tests;
mod write;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use clusters::{
    BackoffReport, BreakerReport, ClusterReport, EndpointReport, PolicyReport, ServiceReport, UsageReport,
};
pub use enrolment::{EnrolmentReport, PodReport};
pub use interception::{InterceptionReport, ProgramsReport};
pub use kubernetes::{KubernetesReport, ResourceReport};
pub use write::write;

/// A word of a fixed set: a state, a reason, a label.
pub type Word = Cow<'static, str>;

/// How often each thing happened, by its label.
pub type Counts = BTreeMap<Word, u64>;

/// All that weir knows, at one moment. `S` is the list of services: whole where it is read, and written item by item.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateReport<S = Vec<ServiceReport>> {
    /// weir's version.
    pub version: Word,
    /// The node's name; empty where weir was not told.
    #[serde(default)]
    pub node: String,
    /// Since weir started.
    #[serde(default)]
    pub uptime_seconds: f64,
    /// Whether `/ready` says so.
    pub ready: bool,
    /// The conditions of readiness, a line each.
    #[serde(default)]
    pub readiness: Vec<String>,
    /// Whether weir stops.
    #[serde(default)]
    pub draining: bool,
    /// The addresses weir listens on.
    #[serde(default)]
    pub listening: Vec<String>,
    /// Its listeners, and who came.
    #[serde(default)]
    pub listeners: Vec<ListenerReport>,
    /// Clusters that transformers made of others.
    #[serde(default)]
    pub transformed: Vec<ClusterReport>,
    /// Destinations that are no service's.
    #[serde(default)]
    pub outside: Vec<ClusterReport>,
    /// How interception is doing.
    #[serde(default)]
    pub interception: InterceptionReport,
    /// Which of this node's pods are diverted.
    #[serde(default)]
    pub enrolment: EnrolmentReport,
    /// Answers that weir gave itself, by fault; those that happened.
    #[serde(default)]
    pub faults: Counts,
    /// Byte tunnels.
    #[serde(default)]
    pub tunnels: TunnelsReport,
    /// What is wrong with `discovery.files`.
    #[serde(default)]
    pub file_problems: Vec<String>,
    /// How discovery by an API server is doing, where there is one.
    #[serde(default)]
    pub kubernetes: Option<KubernetesReport>,
    /// How the last reload went.
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
    /// Connections open now.
    #[serde(default)]
    pub open: usize,
    /// Connections accepted.
    #[serde(default)]
    pub connections: u64,
    /// Requests on them.
    #[serde(default)]
    pub requests: u64,
    /// Connections that weir closed, by reason.
    #[serde(default)]
    pub closed: Counts,
}

/// Byte tunnels.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TunnelsReport {
    /// Open now.
    pub open: usize,
}

/// How the last reload went.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReloadReport {
    /// The mistakes because of which a newer configuration is not in force.
    pub mistakes: Option<String>,
    /// The settings that are not in force as written.
    pub wait_for_restart: Vec<String>,
}
