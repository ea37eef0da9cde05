//! What is wrong with the folder of `discovery.files` now.

use std::sync::Arc;

use tokio::sync::watch;

use crate::discovery::files::FileProblem;

/// What of the folder could not be used.
#[derive(Default)]
pub struct FileDiscovery {
    /// Files that could not be read.
    pub problems: watch::Sender<Arc<Vec<FileProblem>>>,
    /// Files that are left out because of the folder's bounds.
    pub left_out: watch::Sender<usize>,
}
