//! The current problems of the folder of `discovery.files`.

use std::sync::Arc;

use tokio::sync::watch;

use crate::discovery::files::FileProblem;

/// What weir could not use from the folder.
#[derive(Default)]
pub struct FileDiscovery {
    /// Files that could not be read.
    pub problems: watch::Sender<Arc<Vec<FileProblem>>>,
    /// The number of files left out because of the folder's limits.
    pub left_out: watch::Sender<usize>,
}
