//! Graceful shutdown.
//!
//! Four stages, each seen by every connection:
//!
//! 1. running;
//! 2. closing: requests are answered with `Connection: close`. The transparent listeners close as soon as their accept
//!    queues are empty, since connections are no longer diverted. The explicit proxy continues to accept, since its
//!    clients have no other proxy until weir has ended;
//! 3. last call, when nothing is open any more or the time is almost over: the explicit proxy's listener closes, too;
//! 4. over: everything still open is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The current stage; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    closing: CancellationToken,
    last_call: CancellationToken,
    over: CancellationToken,
    /// The same as `closing`, readable with one atomic load per request.
    is_closing: Arc<AtomicBool>,
    tasks: TaskTracker,
    accepts: TaskTracker,
}

impl Drain {
    /// Starts closing.
    pub fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
        self.closing.cancel();
        self.tasks.close();
        self.accepts.close();
    }

    /// Stops accepting explicit clients, too.
    pub fn call_last(&self) {
        self.last_call.cancel();
    }

    /// Closes everything that is still open.
    pub fn end(&self) {
        self.over.cancel();
    }

    /// Whether closing has begun.
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Returns when closing has begun.
    pub async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Returns when explicit clients are no longer accepted.
    pub async fn last_call(&self) {
        self.last_call.cancelled().await;
    }

    /// Returns when everything must end.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    /// A token that is cancelled when closing begins.
    pub fn token(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Connections and tunnels that weir waits for before it ends, and the accept loops for diverted ones.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Of those, the accept loops for diverted connections: when they have ended, all accept queues are empty.
    pub fn accepts(&self) -> &TaskTracker {
        &self.accepts
    }
}
