//! How interception is doing.

use serde::{Deserialize, Serialize};

use super::{Counts, Word};
use crate::control::{Programs, Reading};

/// Whether there are programs, and what they do.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "FlatInterception")]
pub struct InterceptionReport {
    /// Whether the programs are there.
    pub on: bool,
    /// Why they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What they do, where they are there.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub programs: Option<ProgramsReport>,
}

/// What the programs do.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProgramsReport {
    /// Whether they are in effect on the pods' cgroup.
    pub attached: bool,
    /// Whether a connection to a known destination is diverted.
    pub armed: bool,
    /// Since the last heartbeat.
    pub heart_age_seconds: Option<f64>,
    /// Entries of the table of destinations.
    pub destinations: usize,
    /// Diverted connections that were not accepted yet at the last sweep.
    pub waiting: usize,
    /// What they decided since they were loaded.
    pub decisions: Counts,
}

/// It as it is read: `on` tells whether the rest is there.
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
    /// How `programs` are doing now.
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
