//! Service sources: the folder of `discovery.files`, watched from before the first connection is accepted, and the
//! cluster of `discovery.kubernetes`, which is followed from then on.
//!
//! The read at start and the later watch share the same state, so a file that breaks during start keeps its last good
//! state too. A new folder replaces the previous one once it has been read completely.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::cluster::{Told, together};
use crate::config::{Files, Settings};
use crate::control::State;
use crate::discovery::files::{self, Watched};
use crate::discovery::kubernetes::Cluster;
use crate::domain::catalog::Catalog;

/// Maximum time to read a new folder.
const READ: Duration = Duration::from_secs(30);

/// The service sources.
#[derive(Clone)]
pub(super) struct Services {
    pub(super) folder: Arc<Folder>,
    /// Absent without `discovery.kubernetes`.
    pub(super) cluster: Option<Arc<Cluster>>,
}

/// A watch, and the task that runs it.
type Watching = (Watched, Pin<Box<dyn Future<Output = ()> + Send>>);

/// The folder of service files, if any.
pub(super) struct Folder {
    /// Receivers for the folder's contents.
    pub(super) told: Told,
    files: Mutex<Option<Files>>,
    /// A started watch; taken by the task that forwards its updates.
    begun: Mutex<Option<Watching>>,
    changed: Notify,
    /// Whether such a task runs.
    passed_on: AtomicBool,
    shutdown: CancellationToken,
}

impl Services {
    /// Opens the sources that `settings` name.
    ///
    /// # Errors
    ///
    /// The folder cannot be listed.
    pub(super) fn open(settings: &Settings, shutdown: CancellationToken) -> anyhow::Result<Self> {
        let cluster = settings.discovery.kubernetes.clone();
        let cluster = cluster.map(|settings| Arc::new(Cluster::new(settings, shutdown.clone())));
        let files = settings.discovery.files.clone();
        let begun = files.clone().map(|files| watch(files, shutdown.clone())).transpose()?;
        let told = Told::default();
        if let Some((watched, _)) = &begun {
            told.catalogs.send_replace(watched.catalog.borrow().clone());
        }
        let folder = Folder {
            told,
            files: Mutex::new(files),
            begun: Mutex::new(begun),
            changed: Notify::new(),
            passed_on: AtomicBool::new(false),
            shutdown,
        };
        Ok(Self { folder: Arc::new(folder), cluster })
    }

    /// All services known at start.
    pub(super) fn catalog(&self) -> Arc<Catalog> {
        let written = self.folder.told.catalogs.borrow().clone();
        match &self.cluster {
            Some(cluster) => together(&written, &cluster.catalog().borrow()),
            None => written,
        }
    }
}

fn watch(files: Files, shutdown: CancellationToken) -> anyhow::Result<Watching> {
    let (watched, task) = files::watch_files(files, shutdown)?;
    Ok((watched, Box::pin(task)))
}

impl Folder {
    /// Whether there is a folder whose updates nobody forwards yet. The caller must then start to forward them.
    pub(super) fn is_to_be_passed_on(&self) -> bool {
        self.files.lock().is_some() && !self.passed_on.swap(true, Ordering::Relaxed)
    }

    /// Watches another folder, or none; switches once it has been read.
    ///
    /// # Errors
    ///
    /// The folder cannot be listed, or reading takes too long; the previous one stays in use.
    pub(super) async fn change(&self, files: Option<Files>) -> anyhow::Result<()> {
        let begun = match files.clone() {
            None => None,
            Some(files) => {
                let shutdown = self.shutdown.clone();
                // A folder on a remote machine that does not answer must not block anything else.
                let reading = tokio::task::spawn_blocking(move || watch(files, shutdown));
                let read = timeout(READ, reading).await.context("its folder is not read in time")?;
                Some(read.context("its folder could not be read")??)
            }
        };
        *self.files.lock() = files;
        *self.begun.lock() = begun;
        self.changed.notify_one();
        Ok(())
    }

    /// Forwards updates of the current folder until a watch ends. The next call starts a new watch.
    pub(super) async fn pass_on(self: Arc<Self>, control: Arc<State>) -> anyhow::Result<()> {
        loop {
            let (begun, files) = (self.begun.lock().take(), self.files.lock().clone());
            let begun = match (begun, files) {
                (None, Some(files)) => Some(watch(files, self.shutdown.clone())?),
                (begun, _) => begun,
            };
            match begun {
                Some((watched, task)) => tokio::select! {
                    () = self.changed.notified() => {}
                    () = task => return Ok(()),
                    lost = self.forward(&control, watched) => return lost,
                },
                None => {
                    self.told.catalogs.send_replace(Arc::default());
                    self.told.node_pods.send_replace(Arc::default());
                    control.files.left_out.send_replace(0);
                    control.files.problems.send_replace(Arc::default());
                    self.changed.notified().await;
                }
            }
        }
    }

    async fn forward(&self, control: &State, mut watched: Watched) -> anyhow::Result<()> {
        loop {
            self.told.catalogs.send_replace(watched.catalog.borrow_and_update().clone());
            control.files.left_out.send_replace(*watched.left_out.borrow_and_update());
            self.told.node_pods.send_replace(watched.node_pods.borrow_and_update().clone());
            control.files.problems.send_replace(watched.problems.borrow_and_update().clone());
            tokio::select! {
                changed = watched.catalog.changed() => changed?,
                changed = watched.node_pods.changed() => changed?,
                changed = watched.problems.changed() => changed?,
                changed = watched.left_out.changed() => changed?,
            }
        }
    }
}
