//! `discovery`: where services come from.

use std::path::PathBuf;

/// The sources of the catalog. None, the default, leaves only DNS and diverted addresses as they are dialled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// `files`: a folder of service files.
    pub files: Option<Files>,
}

/// A watched folder that stands in for an API server, linkerd's `io.l5d.fs` included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// `path`: the folder. A relative path is relative to the folder of the configuration file.
    pub path: PathBuf,
}
