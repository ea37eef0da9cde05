//! The state of interception.

use serde::{Deserialize, Serialize};

use super::{Counts, Word};
use crate::control::{Netns, Programs, Reading, SeenNetns};

/// Whether the programs are loaded, and their state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "FlatInterception")]
pub struct InterceptionReport {
    /// Whether the programs are loaded.
    pub on: bool,
    /// Why they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Their state, if they are loaded.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub programs: Option<ProgramsReport>,
}

/// The programs' state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProgramsReport {
    /// Whether they are effective on the pods' cgroup.
    pub attached: bool,
    /// Whether a connection to a known destination is diverted.
    pub armed: bool,
    /// Seconds since the last heartbeat.
    pub heart_age_seconds: Option<f64>,
    /// Number of entries in the table of destinations.
    pub destinations: usize,
    /// Diverted connections that were not yet accepted at the last sweep.
    pub waiting: usize,
    /// Decisions since the programs were loaded.
    pub decisions: Counts,
    /// The pods' network namespaces, with weir's sockets in the pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub netns: Vec<NetnsReport>,
}

/// One network namespace, or a file that should be one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetnsReport {
    /// The name of its file.
    pub name: String,
    /// How its connections are treated: `listening`, or why weir does not listen there.
    pub state: Word,
    /// The kernel's cookie, if weir listens there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<u64>,
    /// Whether IPv6 is diverted too.
    pub v6: bool,
    /// Why weir does not listen there, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl NetnsReport {
    fn of(seen: &SeenNetns) -> Self {
        Self {
            name: seen.name.to_string(),
            state: seen.state.name().into(),
            cookie: seen.cookie,
            v6: seen.v6,
            why: seen.why.as_deref().map(str::to_owned),
        }
    }
}

/// The report as deserialized: `on` tells whether the rest is present.
#[derive(Deserialize)]
struct FlatInterception {
    #[serde(default)]
    on: bool,
    #[serde(default)]
    why: Option<String>,
    #[serde(flatten)]
    programs: ProgramsReport,
}

impl From<FlatInterception> for InterceptionReport {
    fn from(FlatInterception { on, why, programs }: FlatInterception) -> Self {
        Self { on, why, programs: on.then_some(programs) }
    }
}

impl InterceptionReport {
    /// Reads the current state of `programs`, and of the pods' network namespaces.
    pub(super) fn read(programs: &Programs, netns: &Netns) -> Self {
        let Reading { status, counters } = match programs.read() {
            Ok(reading) => reading,
            Err(why) => return Self { on: false, why: Some(why), programs: None },
        };
        let programs = ProgramsReport {
            attached: status.attached,
            armed: status.is_armed(),
            heart_age_seconds: status.heart_age.map(|age| age.as_secs_f64()),
            destinations: status.destinations,
            waiting: status.waiting,
            decisions: counters.iter().map(|(label, count)| (Word::from(label), count)).collect(),
            netns: netns.seen.load().iter().map(NetnsReport::of).collect(),
        };
        Self { on: true, why: None, programs: Some(programs) }
    }
}
