//! A watched folder of service files: what stands in for an API server, and linkerd's `io.l5d.fs`.
//!
//! ```text
//! watcher (inotify, and a look every second) -> folder (per file: the last good state, its problems)
//!     -> build (one catalog of all files; unchanged services keep their Arc) -> watch<Arc<Catalog>>
//! lookup (host names in files, every 30 s) ----^
//! ```
//!
//! What a file means is decided by pure functions: [`parse_fs`] and [`parse_documents`].
//!
//! Promises: a file that cannot be read or parsed leaves its last good state in place; a file in the middle of
//! being written is not read; a Kubernetes ConfigMap mounted here changes all at once.
//! A file in a folder below is a service whose name has several labels (`/#/io.l5d.fs/http/hello`), as in linkerd. One with a
//! dot in its name and none of the known endings is a service if it reads as one and has no ending of notes or
//! backups. Deliberately absent: Kubernetes objects in folders below.

mod build;
mod documents;
mod folder;
mod fs;
mod listing;
mod lookup;
mod pending;
mod run;
#[cfg(test)]
mod tests;
mod watcher;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{Files, Problem};
use crate::domain::catalog::Catalog;
use crate::domain::pods::NodePods;

pub use documents::{Documents, Kind, Object, ObjectId, Placed, Syntax, parse_documents};
pub use fs::{Host, Line, LineMistake, parse_fs};

/// Something wrong with a service file.
pub type FileProblem = Problem;

/// What a folder holds, as it changes.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The services in all files.
    pub catalog: watch::Receiver<Arc<Catalog>>,
    /// The pods of this node in all files, and the namespaces' annotations.
    pub node_pods: watch::Receiver<Arc<NodePods>>,
    /// What is wrong with the files at present.
    pub problems: watch::Receiver<Arc<Vec<FileProblem>>>,
    /// How many files are left out because of the bounds of `discovery.files`.
    pub left_out: watch::Receiver<usize>,
}

/// Reads the folder of `files` and watches it. The first catalog is there when this returns; the future, which is
/// to be spawned on a tokio runtime, keeps it up to date until `shutdown`.
///
/// # Errors
/// It is not a folder that can be listed. Bad files in it are no error: see [`Watched::problems`].
pub fn watch_files(
    files: Files,
    shutdown: CancellationToken,
) -> anyhow::Result<(Watched, impl Future<Output = ()> + Send + 'static)> {
    run::start(files, lookup::system, shutdown)
}

/// Reads the folder of `files` once, without looking host names up: what `weir check` does.
///
/// # Errors
/// As for [`watch_files`].
pub fn read_files(files: &Files) -> anyhow::Result<(Catalog, Vec<FileProblem>)> {
    let folder = folder::Folder::open(files.clone()).with_context(|| unlistable(&files.path))?;
    let built = build::build(&folder, None, &lookup::Known::default(), &Catalog::default());
    Ok((built.catalog, built.problems))
}

fn unlistable(path: &Path) -> String {
    format!("the folder of service files, {}, cannot be listed", path.display())
}
