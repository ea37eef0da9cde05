//! weir's own log: sentences at edges (start, change, refusal), never one per request.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// For people.
    Text,
    /// One JSON object each, for machines.
    Json,
}

/// Starts logging to standard error. `RUST_LOG` (`weir=debug,hyper=info`) goes before `level`. A second call in the
/// same process changes nothing.
pub fn start(lines: Lines, level: &str) {
    // What fails on the way to an API server weir says itself, once, and what it means.
    let quiet = |level: &str| EnvFilter::new(format!("{level},kube_client=off"));
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| quiet(level));
    let log = tracing_subscriber::fmt().with_writer(stderr).with_env_filter(filter).with_target(false);
    let started = match lines {
        Lines::Text => log.with_ansi(stderr().is_terminal()).try_init(),
        Lines::Json => log.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was already started");
    }
}
