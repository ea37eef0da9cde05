//! Stopping without losing anyone.
//!
//! Four stages, each seen by every connection:
//!
//! 1. running;
//! 2. closing: requests are answered with `Connection: close`. The transparent listeners close once nobody waits in their
//!    queues, since nothing is diverted any more. The explicit proxy goes on: until weir has ended, its clients have nobody
//!    else to go to;
//! 3. last call, when nothing is open any more or the time is almost over: the explicit proxy's listener closes likewise;
//! 4. over: what is still open is cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The stage weir is in; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    closing: CancellationToken,
    last_call: CancellationToken,
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

    /// Takes no more explicit clients either.
    pub fn call_last(&self) {
        self.last_call.cancel();
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

    /// Returns once no more explicit clients are taken.
    pub async fn last_call(&self) {
        self.last_call.cancelled().await;
    }

    /// Returns once everything is to end.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    /// A token that closing cancels, for whoever stops then.
    pub fn token(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Connections and tunnels that must end before weir may, and the loops that accept diverted ones.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }
}
