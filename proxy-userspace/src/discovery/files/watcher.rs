//! When to look at the folder: inotify's events, debounced, and every second in any case.
//!
//! The folder is watched and not the files, because editors and ConfigMaps replace files. The regular look finds
//! what inotify does not tell: network file systems, changes behind symbolic links, a folder put in the other's place.

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

/// How long it has to be quiet after an event, so that a change of many files is taken up as one.
const QUIET: Duration = Duration::from_millis(50);
/// How long a folder that is never quiet waits at most.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often the folder is looked at without an event.
const LOOK: Duration = Duration::from_secs(1);

/// Tells when the folder has to be read again.
pub(super) struct Watcher {
    folder: PathBuf,
    shared: Arc<Shared>,
    inotify: Option<INotifyWatcher>,
    /// Device and inode of the folder that inotify watches.
    watched: Option<(u64, u64)>,
    /// The folders below it that inotify watches.
    below: BTreeSet<String>,
}

struct Shared {
    folder: PathBuf,
    pending: Mutex<Pending>,
    event: Notify,
}

impl Watcher {
    /// Starts watching. Without inotify (too many watches, say) only the regular looks remain.
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

    /// Watches the folder that is at the path now, if it is another than before.
    fn follow(&mut self) {
        let Some(inotify) = &mut self.inotify else { return };
        let identity = std::fs::metadata(&self.folder).map(|metadata| (metadata.dev(), metadata.ino())).ok();
        if identity == self.watched {
            return;
        }
        // The old watch may have ended by itself with its folder.
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

    /// Watches these folders below the folder, and no others. One that cannot be watched is looked at once a second.
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
                    // What came into it before it was watched told nobody.
                    self.shared.pending.lock().look_at_everything();
                }
                Err(error) => tracing::debug!(%error, folder = name, "not watched by inotify"),
            }
        }
    }

    /// Waits for the next reason to look, and says what to read. May be dropped while it waits: what is pending
    /// stays so.
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

    /// Waits until no event has come for a while.
    async fn settle(&self) {
        let settled = async { while time::timeout(QUIET, self.shared.event.notified()).await.is_ok() {} };
        // A folder that is never quiet is read as it is.
        let _ = time::timeout(PATIENCE, settled).await;
    }
}

/// Whether there is room for a thread: notify takes no notice where it gets none, and panics when it is used.
fn has_thread() -> notify::Result<()> {
    let thread = thread::Builder::new().name("weir-inotify".to_owned()).spawn(|| ());
    thread.map(drop).map_err(notify::Error::io)
}

/// The rhythm of looks without an event.
pub(super) fn look() -> Interval {
    let mut look = time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    look
}

impl Shared {
    /// Takes an event down; runs on inotify's thread.
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

/// Notes an event; whether it is a reason to look. Opening a file to read it, as we do, is none.
fn note(pending: &mut Pending, folder: &Path, event: Event) -> bool {
    let names =
        event.paths.iter().filter_map(|path| path.strip_prefix(folder).ok()?.to_str()).map(str::to_owned);
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Create(_)
        | EventKind::Remove(_)
        | EventKind::Modify(ModifyKind::Name(_) | ModifyKind::Metadata(_)) => {
            for name in names {
                // The link that a ConfigMap's files lead through: with it, all of them are others.
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

/// The folder, absolute, so that a later change of the working directory does not matter.
pub(super) fn absolute(path: &Path) -> io::Result<PathBuf> {
    std::path::absolute(path)
}
