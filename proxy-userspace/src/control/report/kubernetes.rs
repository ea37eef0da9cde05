//! How discovery by an API server is doing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Counts, Word};
use crate::discovery::kubernetes::{Failure, Health, Resource};

/// How discovery by an API server is doing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubernetesReport {
    /// What weir is not ready without.
    pub waits_for: Option<String>,
    /// What is off because weir may not read what it needs.
    pub off: Option<String>,
    /// Each kind of object, by its name in the API.
    pub resources: BTreeMap<Word, ResourceReport>,
    /// Objects that are ignored, and why; up to 100.
    pub problems: Vec<String>,
}

/// How one kind of object is followed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceReport {
    /// `waiting`, `listing`, `watching` or `pausing`.
    pub state: Word,
    /// Whether a list was read once.
    pub known: bool,
    /// Since the API server last said anything.
    pub contact_age_seconds: Option<f64>,
    /// The last failure, unless all is well since.
    pub failure: Option<String>,
    /// Lists begun.
    pub lists: u64,
    /// Watches begun.
    pub watches: u64,
    /// Events of watches.
    pub events: u64,
    /// Objects that made no sense.
    pub ignored: u64,
    /// Failures, by kind; those that happened.
    pub failures: Counts,
}

impl KubernetesReport {
    /// How it is now.
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
