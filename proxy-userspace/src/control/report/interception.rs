//! The state of interception.

use serde::{Deserialize, Serialize};

use super::{Counts, Word};
use crate::control::{Programs, Reading};

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
    /// Reads the current state of `programs`.
    pub(super) fn read(programs: &Programs) -> Self {
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
        };
        Self { on: true, why: None, programs: Some(programs) }
    }
}
