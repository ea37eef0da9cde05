//! weir's own log: sentences at edges (start, change, refusal), never one per request.
//!
//! Whoever logs never waits for whoever reads: a full disk or a log collector that has stopped would halt every pod's traffic
//! by way of one line about an endpoint. Lines go through a bounded queue to a thread of their own; what does not fit is
//! dropped and counted, and so is nothing else.

use std::fmt::Display;
use std::io::{IsTerminal, Write, stderr};
use std::sync::OnceLock;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Lines that found the queue full.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// For people.
    Text,
    /// One JSON object each, for machines.
    Json,
}

/// Writes what is still in the queue when it is dropped, for at most a second.
#[derive(Debug)]
#[must_use = "a log that is dropped ends"]
pub struct Log(#[expect(dead_code, reason = "it acts when it is dropped")] WorkerGuard);

/// Starts logging to standard error, `queue` lines ahead of whoever reads it. `RUST_LOG` (`weir=debug,hyper=info`) goes
/// before `level`. A second call in the same process changes nothing.
pub fn start(lines: Lines, level: &str, queue: usize) -> Log {
    // What fails on the way to an API server weir says itself, once, and what it means.
    let quiet = |level: &str| EnvFilter::new(format!("{level},kube_client=off"));
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| quiet(level));
    let queue = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(queue).thread_name("weir-log");
    let (writer, guard) = queue.finish(stderr());
    let dropped = writer.error_counter();
    let log = tracing_subscriber::fmt().with_writer(writer).with_env_filter(filter).with_target(false);
    let started = match lines {
        Lines::Text => log.with_ansi(stderr().is_terminal()).try_init(),
        Lines::Json => log.json().flatten_event(true).try_init(),
    };
    match started {
        Ok(()) => drop(DROPPED.set(dropped)),
        Err(_) => tracing::debug!("logging was already started"),
    }
    Log(guard)
}

/// How many lines were dropped since the start.
pub fn dropped() -> u64 {
    DROPPED.get().map_or(0, |counter| u64::try_from(counter.dropped_lines()).unwrap_or(u64::MAX))
}

/// Says on standard error why weir ends. Unlike `eprintln!` it does not panic where that cannot be written.
pub fn say(why: impl Display) {
    // There is nobody left to tell.
    let _ = writeln!(stderr(), "{why}");
}
