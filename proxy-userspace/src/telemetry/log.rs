//! weir's own log: sentences at edges (start, change, refusal), never one per request.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Starts logging to standard error. `RUST_LOG` (`weir=debug,hyper=info`) goes before the level of `settings`. A second
/// call in the same process changes nothing.
pub fn start(settings: &Log) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(settings.level.as_str()));
    let lines = tracing_subscriber::fmt().with_writer(stderr).with_env_filter(filter).with_target(false);
    let started = match settings.format {
        LogFormat::Text => lines.with_ansi(stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was already started");
    }
}
