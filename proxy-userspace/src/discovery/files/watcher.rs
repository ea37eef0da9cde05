//! When to check the folder: on inotify's events, debounced, and every second in any case.
//!
//! The folder is watched, not the files, because editors and ConfigMaps replace files. The regular check finds changes
//! that inotify does not report: network file systems, changes behind symbolic links, a replaced folder.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, INotifyWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{self, Interval, MissedTickBehavior};

use super::pending::{Dirty, Pending};

/// Debounce time after an event, so that a change of many files is read once.
const QUIET: Duration = Duration::from_millis(50);
/// Maximum debounce time of a folder with constant events.
const PATIENCE: Duration = Duration::from_millis(500);
/// Interval between checks without an event.
const LOOK: Duration = Duration::from_secs(1);

/// Reports when the folder must be read again.
pub(super) struct Watcher {
    folder: PathBuf,
    shared: Arc<Shared>,
    inotify: Option<INotifyWatcher>,
    /// Device and inode of the folder that inotify watches.
    watched: Option<(u64, u64)>,
    /// The subfolders that inotify watches.
    below: BTreeSet<String>,
}

struct Shared {
    folder: PathBuf,
    pending: Mutex<Pending>,
    event: Notify,
}

impl Watcher {
    /// Starts watching. Without inotify (too many watches, for example) only the regular checks remain.
    pub(super) fn new(folder: &Path) -> Self {
        let (pending, event) = Default::default();
        let shared = Arc::new(Shared { folder: folder.to_owned(), pending, event });
        let handler = Arc::clone(&shared);
        let inotify = has_thread().and_then(|()| {
            INotifyWatcher::new(move |event| handler.handle(event), notify::Config::default())
        });
        let inotify = inotify
            .inspect_err(
                |error| tracing::warn!(%error, "no inotify: service files are looked at once a second"),
            )
            .ok();
        let mut watcher =
            Self { folder: folder.to_owned(), shared, inotify, watched: None, below: BTreeSet::new() };
        watcher.follow();
        watcher
    }

    /// Watches the folder that is at the path now, if it was replaced.
    fn follow(&mut self) {
        let Some(inotify) = &mut self.inotify else { return };
        let identity = std::fs::metadata(&self.folder).map(|metadata| (metadata.dev(), metadata.ino())).ok();
        if identity == self.watched {
            return;
        }
        // The old watch may have ended with its folder.
        let _ = inotify.unwatch(&self.folder);
        self.watched = None;
        for name in std::mem::take(&mut self.below) {
            let _ = inotify.unwatch(&self.folder.join(name));
        }
        if identity.is_some() {
            match inotify.watch(&self.folder, RecursiveMode::NonRecursive) {
                Ok(()) => self.watched = identity,
                Err(error) => {
                    tracing::debug!(%error, folder = %self.folder.display(), "not watched by inotify")
                }
            }
            self.shared.pending.lock().look_at_everything();
        }
    }

    /// Watches exactly these subfolders. One that cannot be watched is checked once a second.
    pub(super) fn follow_below(&mut self, folders: &BTreeSet<String>) {
        let Some(inotify) = &mut self.inotify else { return };
        for gone in self.below.difference(folders) {
            let _ = inotify.unwatch(&self.folder.join(gone));
        }
        self.below.retain(|name| folders.contains(name));
        for name in folders {
            if self.below.contains(name) {
                continue;
            }
            match inotify.watch(&self.folder.join(name), RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.below.insert(name.clone());
                    // Files created before the watch caused no event.
                    self.shared.pending.lock().look_at_everything();
                }
                Err(error) => tracing::debug!(%error, folder = name, "not watched by inotify"),
            }
        }
    }

    /// Waits for the next reason to check, and returns what to read. Cancel-safe: pending changes stay pending.
    pub(super) async fn next(&mut self, look: &mut Interval) -> Dirty {
        if !self.has_pending() {
            tokio::select! {
                () = self.shared.event.notified() => {}
                _ = look.tick() => self.follow(),
            }
        }
        if self.has_pending() {
            self.settle().await;
        }
        self.shared.pending.lock().take(Instant::now())
    }

    fn has_pending(&self) -> bool {
        self.shared.pending.lock().is_waiting()
    }

    /// Waits until no event has come for the debounce time.
    async fn settle(&self) {
        let settled = async { while time::timeout(QUIET, self.shared.event.notified()).await.is_ok() {} };
        // A folder with constant events is read as it is.
        let _ = time::timeout(PATIENCE, settled).await;
    }
}

/// Checks that a thread can be started: notify does not report a failed start, and panics later.
fn has_thread() -> notify::Result<()> {
    let thread = thread::Builder::new().name("weir-inotify".to_owned()).spawn(|| ());
    thread.map(drop).map_err(notify::Error::io)
}

/// The timer for checks without an event.
pub(super) fn look() -> Interval {
    let mut look = time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    look
}

impl Shared {
    /// Records an event; runs on inotify's thread.
    fn handle(&self, event: notify::Result<Event>) {
        let mut pending = self.pending.lock();
        match event {
            Ok(event) if event.need_rescan() => pending.look_at_everything(),
            Ok(event) => {
                if !note(&mut pending, &self.folder, event) {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "inotify");
                pending.look_at_everything();
            }
        }
        drop(pending);
        self.event.notify_one();
    }
}

/// Records an event; returns whether it requires a check. Opening a file for reading, as weir does, does not.
fn note(pending: &mut Pending, folder: &Path, event: Event) -> bool {
    let names =
        event.paths.iter().filter_map(|path| path.strip_prefix(folder).ok()?.to_str()).map(str::to_owned);
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Create(_)
        | EventKind::Remove(_)
        | EventKind::Modify(ModifyKind::Name(_) | ModifyKind::Metadata(_)) => {
            for name in names {
                // The link through which a ConfigMap's files are reached: when it changes, all of them change.
                if name == "..data" {
                    pending.look_at_everything();
                }
                pending.changed(name);
            }
            true
        }
        EventKind::Modify(_) => {
            let now = Instant::now();
            names.for_each(|name| pending.written(name, now));
            false
        }
        _ => false,
    }
}

/// The folder's absolute path, so that a later change of the working directory does not matter.
pub(super) fn absolute(path: &Path) -> io::Result<PathBuf> {
    std::path::absolute(path)
}
