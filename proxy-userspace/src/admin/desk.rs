//! Everything the admin can look at, and the few things it can do.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::ready::Readiness;
use crate::config::Settings;
use crate::discovery::files::FileProblem;
use crate::domain::catalog::Catalog;
use crate::intercept::Interception;
use crate::proxy::metrics::Metrics;
use crate::proxy::session::Door;
use crate::proxy::worker::Shared;
use crate::telemetry::{Count, Page, Scrape, render};

/// A running weir, as its control plane sees it.
pub struct Desk {
    /// What the workers share.
    pub shared: Arc<Shared>,
    /// The data plane's listeners.
    pub doors: Vec<Arc<Door>>,
    /// The settings in force.
    pub settings: ArcSwap<Settings>,
    /// The catalog in force.
    pub catalog: ArcSwap<Catalog>,
    /// The programs; or why there are none.
    pub interception: Mutex<Result<Interception, String>>,
    /// Files of `discovery.files` that could not be read.
    pub problems: watch::Sender<Arc<Vec<FileProblem>>>,
    /// Whether weir is ready.
    pub ready: Readiness,
    /// Asks weir to stop.
    pub stop: Notify,
    reload: Mutex<Reload>,
    reloads: Count,
    reload_failures: Count,
}

/// How the last reload went.
#[derive(Clone, Debug, Default)]
pub(super) struct Reload {
    /// The mistakes that kept a newer configuration out.
    pub(super) mistakes: Option<String>,
    /// The sections that wait for the next start.
    pub(super) waiting: Vec<&'static str>,
}

impl Desk {
    /// The desk of a weir that is about to run.
    pub fn new(
        shared: Arc<Shared>,
        doors: Vec<Arc<Door>>,
        settings: Settings,
        interception: Result<Interception, String>,
    ) -> Arc<Self> {
        let ready = Readiness::default();
        if let Some(transparent) = &settings.transparent {
            let missing = interception.as_ref().err().filter(|_| transparent.required);
            ready.set("interception", missing.map_or(Ok(()), |why| Err(why.clone())));
        }
        let catalog = shared.world.load().catalog.clone();
        Arc::new(Self {
            shared,
            doors,
            settings: ArcSwap::from_pointee(settings),
            catalog: ArcSwap::new(catalog),
            interception: Mutex::new(interception),
            problems: watch::channel(Arc::default()).0,
            ready,
            stop: Notify::new(),
            reload: Mutex::default(),
            reloads: Count::default(),
            reload_failures: Count::default(),
        })
    }

    /// Stops diverting: from the next connect() on, connections go where they were dialled.
    pub fn disarm(&self) {
        if let Ok(interception) = &mut *self.interception.lock() {
            interception.disarm();
        }
    }

    /// Client connections open now.
    pub fn open(&self) -> usize {
        self.doors.iter().map(|door| door.open.value()).sum()
    }

    /// Newer settings are in force, except for the sections `waiting` for the next start.
    pub fn reloaded(&self, settings: Settings, waiting: Vec<&'static str>) {
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

    /// Every metric, as OpenMetrics text.
    pub(super) fn metrics(self: &Arc<Self>) -> String {
        let data = Metrics { shared: self.shared.clone(), doors: self.doors.clone() };
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
        page.counters(
            "weir_config_reloads",
            "Configurations taken over while running",
            [(none, desk.reloads.value())],
        )?;
        let failures = desk.reload_failures.value();
        page.counters("weir_config_reload_failures", "Configurations with mistakes", [(none, failures)])?;
        let services = desk.catalog.load().services.len();
        page.gauges("weir_catalog_services", "Services known", [(none, services as f64)])?;
        let problems = desk.problems.borrow().len();
        page.gauges("weir_file_problems", "Problems in discovery.files now", [(none, problems as f64)])?;
        if let Ok(interception) = &*desk.interception.lock() {
            let counters = interception.counters();
            let rows = counters.iter().map(|(decision, count)| ([("decision", decision)], count));
            page.counters("weir_interception_decisions", "What the eBPF programs decided", rows)?;
        }
        Ok(())
    }
}
