//! Reading the configuration again: on SIGHUP, or when the file has changed.
//!
//! A file with mistakes changes nothing: the settings in force stay, and log, metric and admin say why. Sockets,
//! workers and where services come from are made at start; a change of those is reported and waits for the next one.
//! Unasked, a change is read when it looks the same on two looks: an editor may be in the middle of it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::keeper;
use crate::admin::Desk;
use crate::config::{self, Limits, Names, Outgoing, Settings, Transparent};
use crate::proxy::world::Terms;

/// How often the file is looked at. A mounted ConfigMap changes by renaming a link, which is not worth a watch.
const LOOK: Duration = Duration::from_secs(1);

/// The configuration file, and the version of it that was read.
pub(super) struct File {
    path: PathBuf,
    seen: Option<Stamp>,
    /// Another version that was seen once, and may still be being written.
    unsettled: Option<Stamp>,
}

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl File {
    /// To be made before the file is read, so that a change between the two is seen.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { seen: Stamp::of(&path), path, unsettled: None }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is to be read: at once when `asked` to, else when two looks in a row show the same new version.
    /// One that is missing is between two versions.
    fn is_due(&mut self, asked: Asked) -> bool {
        let now = Stamp::of(&self.path);
        let due = match asked {
            Asked::Yes => true,
            Asked::No => now.is_some() && now != self.seen && now == self.unsettled,
        };
        self.unsettled = now;
        if due {
            self.seen = now;
        }
        due
    }
}

/// Whether somebody asked for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Yes,
    No,
}

impl Stamp {
    /// Nothing for what is no regular file: a pipe from which the configuration came at start has no other versions.
    fn of(file: &Path) -> Option<Self> {
        let facts = std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file)?;
        Some(Self {
            inode: facts.ino(),
            size: facts.size(),
            modified: (facts.mtime(), facts.mtime_nsec()),
            changed: (facts.ctime(), facts.ctime_nsec()),
        })
    }
}

/// Reloads until weir stops.
pub(super) fn start(
    mut file: Option<File>,
    desk: Arc<Desk>,
    terms: watch::Sender<Terms>,
    mut hangup: Signal,
) {
    let started = desk.settings.load_full();
    tokio::spawn(async move {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                _ = ticks.tick() => Asked::No,
                _ = hangup.recv() => Asked::Yes,
            };
            let Some(file) = &mut file else {
                if asked == Asked::Yes {
                    tracing::warn!("SIGHUP: there is no configuration file to read again");
                }
                continue;
            };
            if file.is_due(asked) {
                reload(&file.path, &started, &desk, &terms);
            }
        }
    });
}

fn reload(file: &Path, started: &Settings, desk: &Desk, terms: &watch::Sender<Terms>) {
    match config::load_again(file) {
        Ok(written) => {
            let settings = in_force(started, &written);
            let waiting = waiting(&settings, &written);
            if waiting.is_empty() {
                tracing::info!("configuration reloaded");
            } else {
                tracing::warn!(?waiting, "configuration reloaded; these sections change at the next start");
            }
            let node = terms.borrow().node.clone();
            let new = keeper::terms(&settings, node);
            desk.reloaded(settings, waiting);
            terms.send_replace(new);
        }
        Err(error) => {
            tracing::error!("the configuration has mistakes; the one in force stays:\n{error}");
            desk.reload_failed(error.to_string());
        }
    }
}

/// What is in force when the file says `written` and weir was `started` with something else: what can only be had at
/// start stays as it was then, whole, so that nothing is half applied.
fn in_force(started: &Settings, written: &Settings) -> Settings {
    let transparent = match (&started.transparent, &written.transparent) {
        // The two keys of the section that are read anew.
        (Some(started), Some(written)) => Some(Transparent {
            divert: written.divert.clone(),
            exclude_namespaces: written.exclude_namespaces.clone(),
            ..started.clone()
        }),
        (started, _) => started.clone(),
    };
    let Outgoing { overrides, diagnostics, prefix, identifiers, .. } = written.outgoing.clone();
    Settings {
        outgoing: Outgoing { overrides, diagnostics, prefix, identifiers, ..started.outgoing.clone() },
        transparent,
        dtab: written.dtab.clone(),
        namers: written.namers.clone(),
        names: Names { dns: started.names.dns.clone(), ..written.names.clone() },
        limits: Limits {
            connections: started.limits.connections,
            outside: started.limits.outside,
            tuples: started.limits.tuples,
            destinations: started.limits.destinations,
            unacknowledged: started.limits.unacknowledged,
            keep_alive: started.limits.keep_alive,
            ..written.limits.clone()
        },
        breaker: written.breaker.clone(),
        policies: written.policies.clone(),
        ..started.clone()
    }
}

/// The sections in which what is `written` waits for the next start.
fn waiting(in_force: &Settings, written: &Settings) -> Vec<&'static str> {
    let (old, new) = (in_force, written);
    [
        ("outgoing", old.outgoing != new.outgoing),
        ("transparent", old.transparent != new.transparent),
        ("admin", old.admin != new.admin),
        ("probes", old.probes != new.probes),
        ("workers", old.workers != new.workers),
        ("discovery", old.discovery != new.discovery),
        ("drain", old.drain != new.drain),
        ("names.dns", old.names.dns != new.names.dns),
        ("limits.connections", old.limits.connections != new.limits.connections),
        ("limits.outside", old.limits.outside != new.limits.outside),
        ("limits.tuples", old.limits.tuples != new.limits.tuples),
        ("limits.destinations", old.limits.destinations != new.limits.destinations),
        ("limits.unacknowledged", old.limits.unacknowledged != new.limits.unacknowledged),
        ("limits.keepAlive", old.limits.keep_alive != new.limits.keep_alive),
        ("log", old.log != new.log),
    ]
    .into_iter()
    .filter_map(|(section, differs)| differs.then_some(section))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_when_it_looks_the_same_twice_or_when_somebody_asks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.yaml");
        std::fs::write(&path, "a").unwrap();
        let mut file = File::at(path.clone());
        assert!(!file.is_due(Asked::No), "nothing has changed");
        std::fs::write(&path, "ab").unwrap();
        assert!(!file.is_due(Asked::No), "it may be being written");
        std::fs::write(&path, "abc").unwrap();
        assert!(!file.is_due(Asked::No), "it was");
        assert!(file.is_due(Asked::No));
        assert!(!file.is_due(Asked::No), "it has been read");
        std::fs::remove_file(&path).unwrap();
        assert!(!file.is_due(Asked::No) && !file.is_due(Asked::No), "a version is yet to come");
        assert!(file.is_due(Asked::Yes));
    }

    #[test]
    fn what_needs_a_restart_stays_as_weir_was_started_however_often_the_file_changes() {
        let started = Settings { transparent: Some(Transparent::default()), ..Settings::default() };
        let mut written = started.clone();
        written.names.dns = None;
        written.names.namespace = "shop".into();
        written.workers = started.workers + 1;
        written.limits.outside = 7;
        written.limits.attempts = 5;
        let divert = Some(vec!["10.0.0.0/8".parse().unwrap()]);
        written.transparent =
            Some(Transparent { ports: 2, divert: divert.clone(), ..Transparent::default() });
        let now = in_force(&started, &written);
        assert_eq!((&now.names.dns, now.workers), (&started.names.dns, started.workers));
        assert_eq!((now.limits.outside, now.limits.attempts), (started.limits.outside, 5));
        assert_eq!((&*now.names.namespace, now.transparent.as_ref().unwrap().ports), ("shop", 8));
        assert_eq!(now.transparent.as_ref().unwrap().divert, divert);
        let held = ["transparent", "workers", "names.dns", "limits.outside"];
        assert_eq!(waiting(&now, &written), held);
        // The next reload compares with the start as well: what still waits is still said.
        assert_eq!(waiting(&in_force(&started, &written), &written), held);
        assert_eq!(waiting(&in_force(&started, &started), &started), [""; 0]);
        written.transparent = None;
        assert!(in_force(&started, &written).transparent.is_some());
    }
}
