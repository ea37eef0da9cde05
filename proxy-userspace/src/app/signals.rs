//! Signals that stop weir or make it reload.

use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::control::State;

/// The signals weir handles.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
        let of = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self {
            terminate: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
            hangup: Some(of(SignalKind::hangup())?),
        })
    }

    /// The signal that requests a reload; can be taken once.
    pub(super) fn hangup(&mut self) -> anyhow::Result<Signal> {
        self.hangup.take().context("SIGHUP is taken")
    }

    /// Waits until weir should stop, and returns the reason.
    pub(super) async fn stop(&mut self, control: &Arc<State>) -> &'static str {
        tokio::select! {
            why = self.told() => why,
            () = control.stop.notified() => "asked by the admin API",
        }
    }

    /// The same while nothing but a signal can stop it.
    pub(super) async fn told(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
