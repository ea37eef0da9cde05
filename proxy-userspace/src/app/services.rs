//! Where services come from: the folder of `discovery.files`, watched from before weir takes its first connection, and the
//! cluster of `discovery.kubernetes`, which is asked from then on.
//!
//! What is read before the start and what is watched afterwards is one and the same, so that a file that breaks while
//! weir starts keeps its last good state as at any other time.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cluster::together;
use crate::admin::Desk;
use crate::config::{Files, Settings};
use crate::discovery::files::{self, Watched};
use crate::discovery::kubernetes::Cluster;
use crate::domain::catalog::Catalog;
use crate::domain::pods::Residents;

/// The services as they are at start, and what will tell of their changes.
pub(super) struct Services {
    /// The folder's; empty without one.
    pub(super) written: Arc<Catalog>,
    /// Absent without `discovery.files`.
    pub(super) folder: Option<Folder>,
    /// Absent without `discovery.kubernetes`.
    pub(super) cluster: Option<Cluster>,
}

/// A watch, and the task that keeps it going.
type Watching = (Watched, Pin<Box<dyn Future<Output = ()> + Send>>);

/// A folder of service files.
pub(super) struct Folder {
    files: Files,
    /// The watch that was begun at start; taken by the first who passes it on.
    watching: Option<Watching>,
    shutdown: CancellationToken,
}

impl Services {
    /// Reads what `settings` name.
    ///
    /// # Errors
    ///
    /// The folder cannot be listed.
    pub(super) fn open(settings: &Settings, shutdown: CancellationToken) -> anyhow::Result<Self> {
        let cluster = settings.discovery.kubernetes.clone();
        let cluster = cluster.map(|settings| Cluster::new(settings, shutdown.clone()));
        let Some(files) = &settings.discovery.files else {
            return Ok(Self { written: Arc::default(), folder: None, cluster });
        };
        let mut folder = Folder { files: files.clone(), watching: None, shutdown };
        folder.watch()?;
        let written = folder.watching.as_ref().map(|(watched, _)| watched.catalog.borrow().clone());
        Ok(Self { written: written.unwrap_or_default(), folder: Some(folder), cluster })
    }

    /// All that is known at start.
    pub(super) fn catalog(&self) -> Arc<Catalog> {
        match &self.cluster {
            Some(cluster) => together(&self.written, &cluster.catalog().borrow()),
            None => self.written.clone(),
        }
    }
}

impl Folder {
    fn watch(&mut self) -> anyhow::Result<()> {
        let (watched, task) = files::watch_files(self.files.clone(), self.shutdown.clone())?;
        self.watching = Some((watched, Box::pin(task)));
        Ok(())
    }

    /// Passes on what the folder says, until the watch ends. The next call watches anew.
    pub(super) fn pass_on(
        &mut self,
        desk: Arc<Desk>,
        catalogs: watch::Sender<Arc<Catalog>>,
        residents: watch::Sender<Arc<Residents>>,
    ) -> impl Future<Output = anyhow::Result<()>> + Send + use<> {
        let begun = if self.watching.is_none() { self.watch() } else { Ok(()) };
        let watching = self.watching.take();
        async move {
            begun?;
            let Some((mut watched, task)) = watching else { return Ok(()) };
            let forward = async {
                loop {
                    catalogs.send_replace(watched.catalog.borrow_and_update().clone());
                    desk.left_out.send_replace(*watched.left_out.borrow_and_update());
                    residents.send_replace(watched.residents.borrow_and_update().clone());
                    desk.problems.send_replace(watched.problems.borrow_and_update().clone());
                    tokio::select! {
                        changed = watched.catalog.changed() => changed?,
                        changed = watched.residents.changed() => changed?,
                        changed = watched.problems.changed() => changed?,
                        changed = watched.left_out.changed() => changed?,
                    }
                }
            };
            tokio::select! {
                () = task => Ok(()),
                lost = forward => lost,
            }
        }
    }
}
