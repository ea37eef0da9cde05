//! The programs' own log lines, where the object was built with them (`cargo xtask build-ebpf --debug`).
//!
//! They are read on a separate thread: they are for debugging, and must not depend on the runtime that may be at fault.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::thread::JoinHandle;

use aya::Ebpf;
use aya_log::{EbpfLogger, Error};
use log::{Level, Log, Metadata, Record};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::InterceptError;

/// The thread that reads the lines, if there are any to read. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Forwarder {
    thread: Option<(JoinHandle<()>, PipeWriter)>,
}

impl Forwarder {
    /// Without log lines.
    pub(super) fn none() -> Self {
        Self { thread: None }
    }

    /// Starts the thread, if the object was built with log lines.
    pub(super) fn start(ebpf: &mut Ebpf) -> Result<Self, InterceptError> {
        let logger = match EbpfLogger::init_with_logger(ebpf, ToTracing) {
            Ok(logger) => logger,
            Err(Error::MapNotFound) => return Ok(Self::none()),
            Err(error) => return Err(InterceptError::Object { path: None, cause: error.to_string() }),
        };
        let (end, held) = std::io::pipe().map_err(InterceptError::kernel("pipe"))?;
        let thread = std::thread::Builder::new()
            .name("weir-ebpf-log".to_owned())
            .spawn(move || forward(logger, &end))
            .map_err(InterceptError::kernel("clone"))?;
        Ok(Self { thread: Some((thread, held)) })
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        if let Some((thread, held)) = self.thread.take() {
            drop(held);
            // The thread returns nothing, and a panic was reported already.
            let _ = thread.join();
        }
    }
}

/// Reads lines until the other end of the pipe is closed.
fn forward(mut logger: EbpfLogger<ToTracing>, end: &PipeReader) {
    loop {
        let mut fds =
            [PollFd::new(logger.as_fd(), PollFlags::POLLIN), PollFd::new(end.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, PollTimeout::NONE);
        let ended = ready.is_ok_and(|ready| ready > 0) && fds[1].any() == Some(true);
        logger.flush();
        if ended {
            return;
        }
    }
}

/// Forwards aya-log's records, which come through the `log` crate, to tracing.
struct ToTracing;

impl Log for ToTracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = record.args();
        match record.level() {
            Level::Error => tracing::error!(target: "weir::ebpf", "{line}"),
            Level::Warn => tracing::warn!(target: "weir::ebpf", "{line}"),
            Level::Info => tracing::info!(target: "weir::ebpf", "{line}"),
            Level::Debug | Level::Trace => tracing::debug!(target: "weir::ebpf", "{line}"),
        }
    }

    fn flush(&self) {}
}
