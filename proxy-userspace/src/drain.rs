//! Stopping without losing anyone.
//!
//! Three stages, each seen by every connection: running; closing, when what is open is answered with
//! `Connection: close` and the listeners close once nobody waits in their queues; and over, when what is still
//! open is cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The stage weir is in; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    closing: CancellationToken,
    over: CancellationToken,
    /// The same as `closing`, readable for the price of one load on every request.
    is_closing: Arc<AtomicBool>,
    tasks: TaskTracker,
}

impl Drain {
    /// Starts closing.
    pub fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
        self.closing.cancel();
        self.tasks.close();
    }

    /// Ends what is still open.
    pub fn end(&self) {
        self.over.cancel();
    }

    /// Whether closing has begun.
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Returns once closing has begun.
    pub async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Returns once everything is to end.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    /// A token that closing cancels, for whoever stops then.
    pub fn token(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Connections and tunnels that must end before weir may.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }
}
