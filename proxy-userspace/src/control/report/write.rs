//! Writing `/api/state.json`.

use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde::ser::{Serialize, Serializer};

use super::{
    AboveReport, ClusterReport, Counts, EnrolmentReport, HandoverReport, IdentityReport, InterceptionReport,
    KubernetesReport, ListenerReport, MemoryReport, ReloadReport, RouterReport, ServiceReport, ShareReport,
    StateReport, TunnelsReport, Word,
};
use crate::control::State;
use crate::discovery::kubernetes::node_name;
use crate::domain::catalog::{Catalog, Service};
use crate::proxy::fault::Kind;
use crate::proxy::listener::{CloseReason, Listener, Share};
use crate::proxy::memory::{Above, Memory, Refused, Shed};
use crate::proxy::routing::snapshot::Snapshot;
use crate::telemetry::Counter;

/// How many of those above their share of memory are listed.
const MOST_ABOVE: usize = 10;

/// Writes the whole state as JSON to `out`. In a large cluster this takes time: each endpoint is written before the next is
/// read.
///
/// # Errors
///
/// Those of `out`.
pub fn write(state: &State, mut out: impl io::Write) -> io::Result<()> {
    let snapshot = state.shared.routing.snapshot.load_full();
    let services = Services { snapshot: &snapshot, catalog: state.catalogs.in_force() };
    serde_json::to_writer_pretty(&mut out, &read(state, &snapshot, services))?;
    out.write_all(b"\n")
}

/// The services of a catalog; each report is created when it is written.
struct Services<'a> {
    snapshot: &'a Snapshot,
    catalog: Arc<Catalog>,
}

impl Serialize for Services<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let now = Instant::now();
        let clusters = |it: &Service| -> Vec<_> {
            self.snapshot.clusters_of(&it.key).map(|port| ClusterReport::of_port(port, now)).collect()
        };
        let services = self.catalog.services.values();
        serializer.collect_seq(services.map(|it| ServiceReport::new(it, clusters(it))))
    }
}

fn read<S>(state: &State, snapshot: &Snapshot, services: S) -> StateReport<S> {
    let (now, shared) = (Instant::now(), &state.shared);
    let (ready, readiness) = state.ready.report();
    let reload = state.configuration.last_reload();
    let clusters = |all: Vec<Arc<_>>| all.iter().map(|it| ClusterReport::read(it, now)).collect();
    let faults = Kind::LABELS.iter().zip(&shared.faults);
    let faults = faults.map(|(kind, count)| (Word::from(*kind), count.value()));
    StateReport {
        version: env!("CARGO_PKG_VERSION").into(),
        node: node_name(&state.settings().discovery.kubernetes.clone().unwrap_or_default()),
        uptime_seconds: shared.routing.epoch.elapsed().as_secs_f64(),
        ready,
        readiness: readiness.lines().map(str::to_owned).collect(),
        draining: shared.drain.is_closing(),
        handover: HandoverReport::read(&state.handover),
        listening: snapshot.config.node.listeners.iter().map(ToString::to_string).collect(),
        routers: std::iter::once(snapshot)
            .chain(snapshot.others().iter().map(|it| &**it))
            .map(|it| RouterReport::read(&it.config))
            .collect(),
        listeners: state.listeners().iter().map(|it| listener(it)).collect(),
        transformed: clusters(snapshot.views()),
        outside: clusters(shared.routing.external.clusters()),
        interception: InterceptionReport::read(state),
        enrolment: EnrolmentReport::read(state),
        identity: state
            .identities
            .in_force()
            .map(|it| IdentityReport::read(&it, &shared.connecting, SystemTime::now())),
        faults: faults.filter(|(_, count)| *count > 0).collect(),
        tunnels: TunnelsReport { open: shared.tunnels.open.value() },
        memory: memory(&shared.memory),
        file_problems: state.files.problems.borrow().iter().map(ToString::to_string).collect(),
        kubernetes: state.kubernetes.as_deref().map(KubernetesReport::read),
        reload: ReloadReport { mistakes: reload.mistakes, wait_for_restart: reload.waiting },
        services,
    }
}

fn memory(memory: &Memory) -> Option<MemoryReport> {
    let (used_bytes, budget) = memory.used();
    let counts = |labels: &[&'static str], counts: &[Counter]| -> Counts {
        let counts = labels.iter().zip(counts).filter(|(_, count)| count.value() > 0);
        counts.map(|(label, count)| (Word::from(*label), count.value())).collect()
    };
    Some(MemoryReport {
        level: memory.level().name().into(),
        used_bytes,
        budget_bytes: budget?,
        source: memory.source().name().into(),
        above: memory.above(MOST_ABOVE).into_iter().map(above).collect(),
        shed: counts(&Shed::LABELS, &memory.shed),
        refused: counts(&Refused::LABELS, &memory.refused),
    })
}

fn above(it: Above) -> AboveReport {
    AboveReport { client: it.holder.name.to_string(), bytes: it.bytes, share: it.share }
}

fn listener(it: &Listener) -> ListenerReport {
    let closed = CloseReason::LABELS.iter().zip(&it.closed);
    ListenerReport {
        listener: it.kind.label().into(),
        router: it.router().map(|it| it.to_string()),
        addresses: it.addresses().iter().map(ToString::to_string).collect(),
        open: it.open.value(),
        connections: it.connections.value(),
        requests: it.requests.value(),
        closed: closed.map(|(why, count)| (Word::from(*why), count.value())).collect(),
        waiting: it.waiting(),
        shares: it.shares(SHARES).into_iter().map(share).collect(),
    }
}

/// Clients that are listed of each listener.
const SHARES: usize = 10;

fn share(Share { holder, open, waiting, share }: Share) -> ShareReport {
    ShareReport { client: holder.into(), open, waiting, share }
}
