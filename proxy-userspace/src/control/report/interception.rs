//! The state of interception.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Counts, Word};
use crate::config::Settings;
use crate::control::{Direct, Reading, SeenNetns, State};

/// Whether the programs are loaded, and their state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "FlatInterception", rename_all = "camelCase")]
pub struct InterceptionReport {
    /// Whether the programs are loaded.
    pub on: bool,
    /// Why they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Where weir's sockets are: `pod`, `node`, or `fallback`, on the node because weir may not have them in the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sockets: Option<Word>,
    /// Why they are on the node, where the configuration left that open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sockets_why: Option<String>,
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
    /// Connections that were opened while nothing diverted them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direct: Option<DirectReport>,
    /// The pods' network namespaces, with weir's sockets in the pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub netns: Vec<NetnsReport>,
}

/// Connections of enrolled pods that were opened while nothing diverted them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DirectReport {
    /// `transparent.adopt`.
    pub adopt: Word,
    /// How many there are.
    pub connections: usize,
    /// How many were ended because they were idle.
    pub closed: u64,
    /// The pods that have some.
    pub pods: Vec<DirectPod>,
    /// Network namespaces that were looked into.
    pub looked: usize,
    /// Those that were not, or not wholly.
    pub unseen: usize,
    /// Why, in words; also why nothing could be looked into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The direct connections of one pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DirectPod {
    /// NAMESPACE/NAME; its UID, or the file of its network namespace, if nothing tells its name.
    pub pod: String,
    /// How many it has.
    #[serde(default)]
    pub connections: usize,
}

impl DirectReport {
    fn of(direct: &Direct, settings: &Settings) -> Option<Self> {
        let adopt = settings.transparent.as_ref()?.adopt;
        let seen = direct.seen.load();
        let pods = seen.by_pod.iter();
        Some(Self {
            adopt: adopt.name().into(),
            connections: seen.connections(),
            closed: direct.closed.value(),
            pods: pods.map(|(pod, &connections)| DirectPod { pod: pod.to_string(), connections }).collect(),
            looked: seen.looked,
            unseen: seen.unseen,
            why: seen.why.as_deref().map(str::to_owned),
        })
    }
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
    /// The explicit proxy at the loopback addresses there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub loopback: Vec<LoopbackReport>,
}

/// One port of the explicit proxy at a pod's loopback addresses.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoopbackReport {
    /// The port.
    pub port: u16,
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
            loopback: seen.loopback.iter().map(LoopbackReport::of).collect(),
        }
    }
}

impl LoopbackReport {
    fn of((port, why): &(u16, Option<Arc<str>>)) -> Self {
        Self { port: *port, why: why.as_deref().map(str::to_owned) }
    }
}

/// The report as deserialized: `on` tells whether the rest is present.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FlatInterception {
    #[serde(default)]
    on: bool,
    #[serde(default)]
    why: Option<String>,
    #[serde(default)]
    sockets: Option<Word>,
    #[serde(default)]
    sockets_why: Option<String>,
    #[serde(flatten)]
    programs: ProgramsReport,
}

impl From<FlatInterception> for InterceptionReport {
    fn from(it: FlatInterception) -> Self {
        let FlatInterception { on, why, sockets, sockets_why, programs } = it;
        Self { on, why, sockets, sockets_why, programs: on.then_some(programs) }
    }
}

impl InterceptionReport {
    /// Reads the current state.
    pub(super) fn read(state: &State) -> Self {
        let place = state.netns.place.get();
        let sockets = |is_on| place.filter(|it| is_on || !it.in_pods).map(|it| it.name().into());
        let sockets_why = place.and_then(|it| it.why.as_deref().map(str::to_owned));
        let Reading { status, counters } = match state.programs.read() {
            Ok(reading) => reading,
            Err(why) => {
                let sockets = sockets(false);
                return Self { on: false, why: Some(why), sockets, sockets_why, programs: None };
            }
        };
        let programs = ProgramsReport {
            attached: status.attached,
            armed: status.is_armed(),
            heart_age_seconds: status.heart_age.map(|age| age.as_secs_f64()),
            destinations: status.destinations,
            waiting: status.waiting,
            decisions: counters.iter().map(|(label, count)| (Word::from(label), count)).collect(),
            direct: DirectReport::of(&state.direct, &state.settings()),
            netns: state.netns.seen.load().iter().map(NetnsReport::of).collect(),
        };
        Self { on: true, why: None, sockets: sockets(true), sockets_why, programs: Some(programs) }
    }
}
