//! A watched folder of service files: a replacement for an API server, and linkerd's `io.l5d.fs`.
//!
//! ```text
//! watcher (inotify, and a check every second) -> folder (per file: the last good state, its problems)
//!     -> build (one catalog of all files; unchanged services keep their Arc) -> watch<Arc<Catalog>>
//! lookup (host names in files, every 30 s) ----^
//! ```
//!
//! Pure functions parse the files: [`parse_fs`] and [`parse_documents`].
//!
//! Guarantees: a file that cannot be read or parsed keeps its last good state; a file that is being written is not
//! read; a mounted Kubernetes ConfigMap changes all at once. A file in a subfolder is a service whose name has several
//! labels (`/#/io.l5d.fs/http/hello`), as in linkerd. One with a dot in its name and no known suffix is a service if it
//! parses as one and has no suffix of notes or backups. Deliberately absent: Kubernetes objects in subfolders.

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

/// A problem with a service file.
pub type FileProblem = Problem;

/// Receivers for the folder's contents.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The services in all files.
    pub catalog: watch::Receiver<Arc<Catalog>>,
    /// The pods of this node in all files, and the namespaces' annotations.
    pub node_pods: watch::Receiver<Arc<NodePods>>,
    /// The current problems of the files.
    pub problems: watch::Receiver<Arc<Vec<FileProblem>>>,
    /// Number of files left out because of the limits of `discovery.files`.
    pub left_out: watch::Receiver<usize>,
}

/// Reads the folder of `files` and watches it. The first catalog is ready when this returns; the future, which must be
/// spawned on a tokio runtime, updates it until `shutdown`.
///
/// # Errors
/// The path is not a folder that can be listed. Invalid files in it are no error: see [`Watched::problems`].
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
