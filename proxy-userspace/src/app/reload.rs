//! Reading the configuration again: on SIGHUP, or when the file has changed.
//!
//! A file with mistakes changes nothing: the settings in force stay, and log, metric and admin say why. Sockets,
//! workers and where services come from are made at start; a change of those is reported and waits for the next one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::keeper;
use crate::admin::Desk;
use crate::config::{self, Settings};
use crate::proxy::world::Terms;

/// How often the file is looked at. A mounted ConfigMap changes by renaming a link, which is not worth a watch.
const LOOK: Duration = Duration::from_secs(1);

/// The configuration file, and the version of it that was read.
pub(super) struct File {
    path: PathBuf,
    seen: Option<(SystemTime, u64)>,
}

impl File {
    /// To be made before the file is read, so that a change between the two is seen.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { seen: stamp(&path), path }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Reloads until weir stops.
pub(super) fn start(
    mut file: Option<File>,
    desk: Arc<Desk>,
    terms: watch::Sender<Terms>,
    mut hangup: Signal,
) {
    tokio::spawn(async move {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                _ = ticks.tick() => false,
                _ = hangup.recv() => true,
            };
            let Some(file) = &mut file else {
                if asked {
                    tracing::warn!("SIGHUP: there is no configuration file to read again");
                }
                continue;
            };
            let now = stamp(&file.path);
            if asked || now != file.seen {
                file.seen = now;
                reload(&file.path, &desk, &terms);
            }
        }
    });
}

/// What tells one version of a file from another.
fn stamp(file: &Path) -> Option<(SystemTime, u64)> {
    let facts = std::fs::metadata(file).ok()?;
    Some((facts.modified().ok()?, facts.len()))
}

fn reload(file: &Path, desk: &Desk, terms: &watch::Sender<Terms>) {
    match config::load(Some(file)) {
        Ok(settings) => {
            let waiting = needs_restart(&desk.settings.load(), &settings);
            if waiting.is_empty() {
                tracing::info!("configuration reloaded");
            } else {
                tracing::warn!(?waiting, "configuration reloaded; these sections change at the next start");
            }
            let listeners = terms.borrow().node.listeners.clone();
            let mut new = keeper::terms(&settings, listeners);
            new.plan.workers = terms.borrow().plan.workers;
            desk.reloaded(settings, waiting);
            terms.send_replace(new);
        }
        Err(error) => {
            tracing::error!("the configuration has mistakes; the one in force stays:\n{error}");
            desk.reload_failed(error.to_string());
        }
    }
}

/// The sections that differ and take effect only when weir starts.
fn needs_restart(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let transparent = |it: &Settings| {
        let mut it = it.transparent.clone();
        if let Some(it) = &mut it {
            it.divert = None; // The one key of the section that is read anew.
        }
        it
    };
    [
        ("outgoing", old.outgoing != new.outgoing),
        ("transparent", transparent(old) != transparent(new)),
        ("admin", old.admin != new.admin),
        ("probes", old.probes != new.probes),
        ("workers", old.workers != new.workers),
        ("discovery", old.discovery != new.discovery),
        ("drain", old.drain != new.drain),
        ("names.dns", old.names.dns != new.names.dns),
        ("limits.connections", old.limits.connections != new.limits.connections),
        ("limits.outside", old.limits.outside != new.limits.outside),
        ("log", old.log != new.log),
    ]
    .into_iter()
    .filter_map(|(section, differs)| differs.then_some(section))
    .collect()
}
