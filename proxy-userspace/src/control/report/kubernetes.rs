//! The state of discovery by an API server.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Counts, Word};
use crate::discovery::kubernetes::{Failure, Health, Resource};

/// The state of discovery by an API server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubernetesReport {
    /// What weir still needs to become ready.
    pub waits_for: Option<String>,
    /// What is disabled because weir lacks permission to read what it needs.
    pub off: Option<String>,
    /// Each resource, by its name in the API.
    pub resources: BTreeMap<Word, ResourceReport>,
    /// Ignored objects with the reason; at most 100.
    pub problems: Vec<String>,
}

/// How one resource is followed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceReport {
    /// `waiting`, `listing`, `watching` or `pausing`.
    pub state: Word,
    /// Whether a list was ever completed.
    pub known: bool,
    /// Seconds since the API server last responded.
    pub contact_age_seconds: Option<f64>,
    /// The last failure; absent after a success.
    pub failure: Option<String>,
    /// Lists started.
    pub lists: u64,
    /// Watches started.
    pub watches: u64,
    /// Watch events.
    pub events: u64,
    /// Invalid objects.
    pub ignored: u64,
    /// Failures by kind; only those that occurred.
    pub failures: Counts,
}

impl KubernetesReport {
    /// Reads the current state.
    pub(super) fn read(health: &Health) -> Self {
        let resources = Resource::ALL.into_iter();
        Self {
            waits_for: health.waits_for(),
            off: health.off(),
            resources: resources.map(|it| (it.name().into(), ResourceReport::read(health, it))).collect(),
            problems: health.problems(),
        }
    }
}

impl ResourceReport {
    fn read(health: &Health, resource: Resource) -> Self {
        let (status, counts) = (health.status(resource), &health.counts[resource.index()]);
        let failures = Failure::KINDS.iter().zip(&counts.failures);
        let failures = failures.map(|(kind, count)| (Word::from(*kind), count.value()));
        Self {
            state: status.state.name().into(),
            known: status.known,
            contact_age_seconds: status.contact.map(|at| at.elapsed().as_secs_f64()),
            failure: status.failure.map(|failure| failure.to_string()),
            lists: counts.lists.value(),
            watches: counts.watches.value(),
            events: counts.events.value(),
            ignored: counts.ignored.value(),
            failures: failures.filter(|(_, count)| *count > 0).collect(),
        }
    }
}
