//! The control plane's own metrics.

mod dtabs;
mod enrolment;
mod handover;
mod identity;
mod ingresses;
mod interception;
mod kubernetes;

use std::fmt;

use super::{Catalogs, State};
use crate::proxy::upstream::cluster::ClusterRegistry;
use crate::telemetry::{Page, Scrape, left_out, log};

/// The labels of a metric without labels.
const NONE: [(&str, &str); 0] = [];

impl Scrape for State {
    fn scrape(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauges(
            "weir_build_info",
            "The version that runs",
            [([("version", env!("CARGO_PKG_VERSION"))], 1.0)],
        )?;
        let ready = f64::from(u8::from(self.ready.report().0));
        page.gauges("weir_ready", "1 while /ready says so", [(NONE, ready)])?;
        configuration(page, self)?;
        handover::write(page, &self.handover)?;
        identity::write(page, &self.identities)?;
        catalogs(page, self)?;
        let problems = self.files.problems.borrow().len() as f64;
        page.gauges("weir_file_problems", "Problems in discovery.files now", [(NONE, problems)])?;
        let left_out = *self.files.left_out.borrow() as f64;
        page.gauges("weir_files_left_out", "Files beyond the bounds of discovery.files", [(NONE, left_out)])?;
        if let Some(health) = &self.kubernetes {
            kubernetes::write(page, health)?;
        }
        if let Some(keeper) = &self.dtabs {
            dtabs::write(page, keeper)?;
        }
        if let Some(keeper) = &self.ingresses {
            ingresses::write(page, keeper)?;
        }
        if let Some(enrolment) = &*self.enrolment.load() {
            enrolment::write(page, enrolment)?;
        }
        interception::write(page, self)
    }
}

/// Metrics of the configuration and the log.
fn configuration(page: &mut Page<'_>, state: &State) -> fmt::Result {
    let configuration = &state.configuration;
    let reloads = configuration.reloads.value();
    page.counters("weir_config_reloads", "Configurations taken over while running", [(NONE, reloads)])?;
    page.counters(
        "weir_log_lines_dropped",
        "Log lines that nobody took in time, or that could not be written",
        [(NONE, log::dropped())],
    )?;
    page.counters(
        "weir_log_lines_left_out",
        "Log lines that a client provoked more than once in a second",
        [(NONE, left_out())],
    )?;
    let waiting = configuration.last_reload().waiting.len() as f64;
    page.gauges("weir_config_waiting", "Settings that are not in force as written", [(NONE, waiting)])?;
    let failures = configuration.failures.value();
    page.counters("weir_config_reload_failures", "Configurations with mistakes", [(NONE, failures)])
}

/// Metrics of the catalog.
fn catalogs(page: &mut Page<'_>, state: &State) -> fmt::Result {
    let catalog = state.catalogs.in_force();
    let services = catalog.services.len() as f64;
    page.gauges("weir_catalog_services", "Services known", [(NONE, services)])?;
    page.gauges(
        "weir_catalog_node_addresses",
        "Addresses of the cluster's nodes that are known, besides this node's own",
        [(NONE, catalog.nodes.len() as f64)],
    )?;
    let snapshot = state.shared.routing.snapshot.load();
    let registry = snapshot.registry();
    page.gauges("weir_catalog_clusters", "Service ports in use", [(NONE, registry.len() as f64)])?;
    let forgotten = ClusterRegistry::REASONS.into_iter().zip(&registry.forgotten);
    let forgotten = forgotten.map(|(reason, count)| ([("reason", reason)], count.value()));
    page.counters("weir_catalog_clusters_forgotten", "Service ports that nobody used any more", forgotten)?;
    let changes = Catalogs::CHANGES.into_iter().zip(&state.catalogs.changes);
    let changes = changes.map(|(change, count)| ([("change", change)], count.value()));
    page.counters("weir_catalog_changes", "Services that changed", changes)?;
    page.histograms(
        "weir_catalog_apply_seconds",
        "From having a catalog to its being in force",
        [(NONE, &state.catalogs.duration)],
    )
}
