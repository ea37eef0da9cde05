//! Everything the admin can look at, and the few things it can do.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::pages::Pages;
use super::readers::Readers;
use super::ready::Readiness;
use super::refusal::Refusal;
use super::tls::Tls;
use super::{enrolment, kubernetes};
use crate::config::{Settings, Transparent};
use crate::discovery::files::FileProblem;
use crate::discovery::kubernetes::{Health, Reviews};
use crate::domain::catalog::{Catalog, Changes};
use crate::domain::enrol::Enrolment;
use crate::intercept::{Counters, Enrol, Interception, Status};
use crate::proxy::listener::{Door, Way};
use crate::proxy::metrics::Metrics;
use crate::proxy::worker::Shared;
use crate::telemetry::{Count, Histogram, Page, Scrape, log, render};

/// A running weir, as its control plane sees it.
pub struct Desk {
    /// What the workers share.
    pub shared: Arc<Shared>,
    /// All that can be a listener.
    doors: Vec<Arc<Door>>,
    /// The settings in force.
    pub settings: ArcSwap<Settings>,
    /// The catalog in force.
    pub catalog: ArcSwap<Catalog>,
    /// The programs; or why there are none.
    pub interception: Mutex<Result<Interception, String>>,
    /// How the last change of what is diverted went.
    pub diverted: Mutex<Diverted>,
    /// Who of this node's pods is diverted; nothing where enrolment is not by pod, or no pod was told of yet.
    pub enrolment: ArcSwapOption<Enrolment>,
    /// Files of `discovery.files` that could not be read.
    pub problems: watch::Sender<Arc<Vec<FileProblem>>>,
    /// How discovery by an API server is doing, where there is one.
    pub kubernetes: Option<Arc<Health>>,
    /// Files of `discovery.files` that are left out because of its bounds.
    pub left_out: watch::Sender<usize>,
    /// Whether weir is ready.
    pub ready: Readiness,
    /// Asks weir to stop.
    pub stop: Notify,
    /// Whether weir disarmed for good, because it stops.
    stopping: AtomicBool,
    /// TLS at the probes' listener, where it is spoken.
    pub(super) tls: ArcSwapOption<Tls>,
    /// Whoever may read the metrics at the probes' listener.
    pub(super) readers: Readers,
    /// Requests that were refused, by reason.
    pub(super) refused: [Count; Refusal::LABELS.len()],
    /// The metrics page and the state, written by one thread at a time.
    pub(super) pages: Pages,
    reload: Mutex<Reload>,
    reloads: Count,
    reload_failures: Count,
    taken_over: TakenOver,
}

/// What was taken over from catalogs.
#[derive(Debug, Default)]
struct TakenOver {
    /// Services added, removed and changed.
    services: [Count; 3],
    /// From having a catalog to its being what requests are decided by, and the programs divert by.
    duration: Histogram,
}

/// How the last change of what is diverted went.
#[derive(Clone, Debug, Default)]
pub struct Diverted {
    /// Destinations that are not diverted for want of room (`limits.destinations`).
    pub left_out: usize,
    /// Why the programs could not be told; to be tried again.
    pub failed: Option<String>,
}

/// How the last reload went.
#[derive(Clone, Debug, Default)]
pub(super) struct Reload {
    /// The mistakes that kept a newer configuration out.
    pub(super) mistakes: Option<String>,
    /// The settings that are not as they are written, and why where that is not because they wait for the next start.
    pub(super) waiting: Vec<String>,
}

/// The programs at one moment.
pub(super) struct Programs {
    pub(super) status: Status,
    pub(super) counters: Counters,
}

impl Desk {
    /// The desk of a weir that is about to run.
    pub fn new(
        shared: Arc<Shared>,
        doors: Vec<Arc<Door>>,
        settings: Settings,
        interception: Result<Interception, String>,
        kubernetes: Option<Arc<Health>>,
        reviews: Option<Reviews>,
    ) -> Arc<Self> {
        let ready = Readiness::default();
        if let Some(transparent) = &settings.transparent {
            let missing = interception.as_ref().err().filter(|_| transparent.is_due());
            ready.set("interception", missing.map_or(Ok(()), |why| Err(why.clone())));
        }
        let catalog = shared.routing.world.load().catalog.clone();
        Arc::new(Self {
            shared,
            doors,
            settings: ArcSwap::from_pointee(settings),
            catalog: ArcSwap::new(catalog),
            interception: Mutex::new(interception),
            diverted: Mutex::default(),
            enrolment: ArcSwapOption::empty(),
            problems: watch::channel(Arc::default()).0,
            kubernetes,
            left_out: watch::channel(0).0,
            ready,
            stop: Notify::new(),
            stopping: AtomicBool::new(false),
            tls: ArcSwapOption::empty(),
            readers: Readers::new(reviews),
            refused: Default::default(),
            pages: Pages::default(),
            reload: Mutex::default(),
            reloads: Count::default(),
            reload_failures: Count::default(),
            taken_over: TakenOver::default(),
        })
    }

    /// Stops diverting for good: from the next connect() on, connections go where they were dialled.
    pub fn disarm(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Ok(interception) = &mut *self.interception.lock() {
            interception.disarm();
        }
    }

    /// Whether weir disarmed for good, because it stops.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Diverts (again), unless weir stops. `interception` is the one at this desk, which its caller has locked.
    pub fn arm(&self, interception: &mut Interception) {
        if self.is_stopping() {
            return;
        }
        if let Err(error) = interception.arm() {
            tracing::error!("{error}");
        }
    }

    /// Whose connections are diverted; nothing when none are.
    pub fn enrol(&self) -> Option<Enrol> {
        self.interception.lock().as_ref().ok().map(Interception::enrols)
    }

    /// How the programs are doing; or why there are none. The lock is held for a fixed number of system calls, and for
    /// nothing that is written of them.
    pub(super) fn programs(&self) -> Result<Programs, String> {
        let interception = self.interception.lock();
        let interception = interception.as_ref().map_err(Clone::clone)?;
        Ok(Programs { status: interception.status(), counters: interception.counters() })
    }

    /// Whether weir is unready without interception.
    pub fn interception_is_due(&self) -> bool {
        self.settings.load().transparent.as_ref().is_some_and(Transparent::is_due)
    }

    /// The listeners that are there, or have connections open.
    pub fn doors(&self) -> impl Iterator<Item = &Arc<Door>> {
        self.doors.iter().filter(|door| door.is_used())
    }

    /// Client connections open now.
    pub fn open(&self) -> usize {
        let data = self.doors.iter().filter(|door| matches!(door.way, Way::Outgoing | Way::Transparent));
        data.map(|door| door.open.value()).sum()
    }

    /// A catalog was taken over, which took so long.
    pub fn took_over(&self, changes: &Changes, took: Duration) {
        let Changes { added, removed, changed, awaited: _, nodes: _ } = changes;
        for (count, keys) in self.taken_over.services.iter().zip([added, removed, changed]) {
            count.add(keys.len() as u64);
        }
        if !changes.is_empty() {
            self.taken_over.duration.observe(took);
        }
    }

    /// Newer settings are in force, except for those `waiting` for the next start.
    pub fn reloaded(&self, settings: Settings, waiting: Vec<String>) {
        self.settings.store(Arc::new(settings));
        self.reloads.up();
        *self.reload.lock() = Reload { mistakes: None, waiting };
    }

    /// A newer configuration has mistakes.
    pub fn reload_failed(&self, mistakes: String) {
        self.reload_failures.up();
        self.reload.lock().mistakes = Some(mistakes);
    }

    pub(super) fn reload(&self) -> Reload {
        self.reload.lock().clone()
    }

    /// Every metric, as OpenMetrics text. Takes a while in a large cluster: see [`Pages`].
    pub(super) fn write_metrics(self: &Arc<Self>) -> String {
        let data = Metrics { shared: self.shared.clone(), doors: self.doors().cloned().collect() };
        render(&[Arc::new(data), Arc::new(Control(self.clone()))])
    }
}

/// The control plane's own metrics.
struct Control(Arc<Desk>);

impl Scrape for Control {
    fn scrape(&self, page: &mut Page<'_>) -> fmt::Result {
        let desk = &self.0;
        let none: [(&str, &str); 0] = [];
        page.gauges(
            "weir_build_info",
            "The version that runs",
            [([("version", env!("CARGO_PKG_VERSION"))], 1.0)],
        )?;
        page.gauges(
            "weir_ready",
            "1 while /ready says so",
            [(none, f64::from(u8::from(desk.ready.report().0)))],
        )?;
        settings(page, desk)?;
        let services = desk.catalog.load().services.len();
        page.gauges("weir_catalog_services", "Services known", [(none, services as f64)])?;
        page.gauges(
            "weir_catalog_node_addresses",
            "Addresses of the cluster's nodes that are known, besides this node's own",
            [(none, desk.catalog.load().nodes.len() as f64)],
        )?;
        let live = desk.shared.routing.world.load().clusters().len();
        page.gauges(
            "weir_catalog_clusters",
            "Service ports in use since they are there",
            [(none, live as f64)],
        )?;
        let changes = ["added", "removed", "changed"].into_iter().zip(&desk.taken_over.services);
        let changes = changes.map(|(change, count)| ([("change", change)], count.value()));
        page.counters("weir_catalog_changes", "Services that changed", changes)?;
        page.histograms(
            "weir_catalog_apply_seconds",
            "From having a catalog to its being in force",
            [(none, &desk.taken_over.duration)],
        )?;
        let problems = desk.problems.borrow().len();
        page.gauges("weir_file_problems", "Problems in discovery.files now", [(none, problems as f64)])?;
        if let Some(health) = &desk.kubernetes {
            kubernetes::metrics(page, health)?;
        }
        let files = *desk.left_out.borrow();
        page.gauges(
            "weir_files_left_out",
            "Files beyond the bounds of discovery.files",
            [(none, files as f64)],
        )?;
        if let Some(enrolment) = &*desk.enrolment.load() {
            enrolment::metrics(page, enrolment)?;
        }
        match desk.programs() {
            Ok(programs) => interception(page, desk, &programs),
            Err(_) if desk.settings.load().transparent.is_some() => armed(page, false),
            Err(_) => Ok(()),
        }
    }
}

/// What became of the configuration, and of the log.
fn settings(page: &mut Page<'_>, desk: &Desk) -> fmt::Result {
    let none: [(&str, &str); 0] = [];
    page.counters(
        "weir_config_reloads",
        "Configurations taken over while running",
        [(none, desk.reloads.value())],
    )?;
    page.counters(
        "weir_log_lines_dropped",
        "Log lines that nobody took in time, or that could not be written",
        [(none, log::dropped())],
    )?;
    let refused = Refusal::LABELS.iter().zip(&desk.refused);
    page.counters(
        "weir_admin_refused",
        "Requests to the admin's and the probes' listeners that were refused",
        refused.map(|(reason, count)| ([("reason", *reason)], count.value())),
    )?;
    let waiting = desk.reload.lock().waiting.len() as f64;
    page.gauges("weir_config_waiting", "Settings that are not in force as written", [(none, waiting)])?;
    let reviewed = Readers::RESULTS.iter().zip(&desk.readers.reviewed);
    page.counters(
        "weir_token_reviews",
        "Questions to the API server about who reads the metrics",
        reviewed.map(|(result, count)| ([("result", *result)], count.value())),
    )?;
    let failures = desk.reload_failures.value();
    page.counters("weir_config_reload_failures", "Configurations with mistakes", [(none, failures)])
}

/// How interception is doing, and what the programs decided.
fn interception(page: &mut Page<'_>, desk: &Desk, programs: &Programs) -> fmt::Result {
    let Programs { status, counters } = programs;
    let none: [(&str, &str); 0] = [];
    let age = status.heart_age.map_or(f64::INFINITY, |age| age.as_secs_f64());
    armed(page, status.is_armed())?;
    page.gauges(
        "weir_interception_heart_age_seconds",
        "Since a worker was last known to move",
        [(none, age)],
    )?;
    let destinations = status.destinations as f64;
    page.gauges(
        "weir_interception_destinations",
        "Entries of the table of destinations",
        [(none, destinations)],
    )?;
    let waiting = status.waiting as f64;
    page.gauges("weir_interception_waiting", "Diverted connections not accepted yet", [(none, waiting)])?;
    if let Some(originals) = &desk.shared.originals {
        let expired = originals.found().expired.value();
        page.counters(
            "weir_interception_expired",
            "Diverted connections never accepted, forgotten",
            [(none, expired)],
        )?;
        let (told, learnt) = originals.owners().known();
        let rows = [("told", told), ("learnt", learnt)].map(|(how, count)| ([("source", how)], count as f64));
        page.gauges("weir_interception_addresses", "Addresses of which it is known whose they are", rows)?;
    }
    let left_out = desk.diverted.lock().left_out as f64;
    page.gauges("weir_interception_left_out", "Destinations without room in the table", [(none, left_out)])?;
    let rows = counters.iter().map(|(decision, count)| ([("decision", decision)], count));
    page.counters("weir_interception_decisions", "What the eBPF programs decided", rows)
}

fn armed(page: &mut Page<'_>, armed: bool) -> fmt::Result {
    let none: [(&str, &str); 0] = [];
    let value = f64::from(u8::from(armed));
    page.gauges("weir_interception_armed", "1 while connections are diverted", [(none, value)])
}
