//! weir's own log: one line per event (start, change, refusal), never one per request.
//!
//! Logging never blocks: otherwise a full disk or a stopped log collector would halt the traffic of all pods for one
//! line about an endpoint. Lines go through a bounded queue to a thread of their own; lines that do not fit or cannot
//! be written are dropped and counted.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write, stderr};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// How long weir waits at its end for the log to be written.
const LAST: Duration = Duration::from_secs(1);

/// The queue, once logging has started.
static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// Which lines are written.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// For people.
    Text,
    /// One JSON object each, for machines.
    Json,
}

/// Lines waiting to be written.
#[derive(Debug)]
struct Queue {
    most: usize,
    lines: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    /// Whether a line is being written.
    writes: bool,
    /// Whether the thread must end after the last line.
    ends: bool,
    dropped: u64,
}

/// When dropped, waits until the queue is written, for at most a second.
#[derive(Debug)]
#[must_use = "a log that is dropped ends"]
pub struct Log(Arc<Queue>);

impl Queue {
    fn new(most: usize) -> Self {
        Self { most, lines: Mutex::default(), changed: Condvar::new() }
    }

    /// Writes lines to `out` until the queue ends.
    fn write_to(&self, mut out: impl Write) {
        let mut waiting = self.lines.lock();
        loop {
            self.changed.wait_while(&mut waiting, |it| it.lines.is_empty() && !it.ends);
            let Some(line) = waiting.lines.pop_front() else { return };
            waiting.writes = true;
            drop(waiting);
            let wrote = out.write_all(&line);
            waiting = self.lines.lock();
            waiting.writes = false;
            waiting.dropped += u64::from(wrote.is_err());
            self.changed.notify_all();
        }
    }
}

impl Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.lines.lock();
        if waiting.lines.len() < self.most {
            waiting.lines.push_back(line.to_vec());
            self.changed.notify_all();
        } else {
            waiting.dropped += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let mut waiting = self.0.lines.lock();
        waiting.ends = true;
        self.0.changed.notify_all();
        self.0.changed.wait_while_for(&mut waiting, |it| it.writes || !it.lines.is_empty(), LAST);
    }
}

/// Starts logging to standard error, with up to `queue` waiting lines. `RUST_LOG` (`weir=debug,hyper=info`) takes
/// precedence over `level`. A second call in the same process has no effect.
pub fn start(lines: Lines, level: &str, queue: usize) -> Log {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| quiet(level));
    let (filter, changed) = reload::Layer::new(filter);
    let queue = Arc::new(Queue::new(queue));
    let from = queue.clone();
    let writer = thread::Builder::new().name("weir-log".to_owned()).spawn(move || from.write_to(stderr()));
    if let Err(cause) = writer {
        say(format_args!("weir: there will be no log, for want of a thread: {cause}"));
    }
    let log = fmt::layer().with_writer(queue.clone()).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    let started = match lines {
        Lines::Text => registry.with(log.with_ansi(stderr().is_terminal())).try_init(),
        Lines::Json => registry.with(log.json().flatten_event(true)).try_init(),
    };
    match started {
        Ok(()) => {
            drop(QUEUE.set(queue.clone()));
            drop(FILTER.set(changed));
        }
        Err(_) => tracing::debug!("logging was already started"),
    }
    Log(queue)
}

/// Sets the lowest level that is logged, unless `RUST_LOG` does.
pub fn set_level(level: &str) {
    if std::env::var_os(EnvFilter::DEFAULT_ENV).is_some() {
        return;
    }
    if let Some(filter) = FILTER.get() {
        // It fails only if the whole log is gone.
        let _ = filter.reload(quiet(level));
    }
}

/// Turns off kube-client's log: weir reports failures of the API server itself, once, with their meaning. And h2's,
/// which has lines for each frame.
fn quiet(level: &str) -> EnvFilter {
    EnvFilter::new(format!("{level},kube_client=off,h2=off"))
}

/// The number of lines dropped since the start.
pub fn dropped() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.lines.lock().dropped)
}

/// Writes to standard error why weir ends. Unlike `eprintln!`, it does not panic if that fails.
pub fn say(why: impl Display) {
    // An error here cannot be reported.
    let _ = writeln!(stderr(), "{why}");
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read, pipe};
    use std::thread::JoinHandle;

    use super::*;

    /// A log with room for two lines, its thread, and its reader.
    fn log() -> (Log, JoinHandle<()>, PipeReader) {
        let (reader, writer) = pipe().unwrap();
        let log = Log(Arc::new(Queue::new(2)));
        let queue = log.0.clone();
        (log, thread::spawn(move || queue.write_to(writer)), reader)
    }

    #[test]
    fn a_log_that_ends_has_written_what_it_was_given() {
        let (log, thread, mut reader) = log();
        (&*log.0).write_all(b"one\n").unwrap();
        (&*log.0).write_all(b"two\n").unwrap();
        drop(log);
        thread.join().unwrap();
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "one\ntwo\n");
    }

    #[test]
    fn lines_that_cannot_be_kept_or_written_are_counted() {
        let queue = Queue::new(2);
        for _ in 0..3 {
            (&queue).write_all(b"line\n").unwrap();
        }
        assert_eq!(queue.lines.lock().dropped, 1);
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        queue.lines.lock().ends = true;
        queue.write_to(writer);
        assert_eq!(queue.lines.lock().dropped, 3);
    }

    #[test]
    fn a_log_that_nobody_reads_ends_all_the_same() {
        let (log, thread, reader) = log();
        (&*log.0).write_all(&vec![b'.'; 1 << 20]).unwrap();
        drop(log);
        drop(reader);
        thread.join().unwrap();
    }
}
