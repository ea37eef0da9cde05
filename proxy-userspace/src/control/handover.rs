//! What is known of the weir before this one, and of the next.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use crate::telemetry::Counter;

/// Hand-overs of listeners between weirs of this node.
#[derive(Debug, Default)]
pub struct Handover {
    /// The weir before this one while it drains, with those before it.
    pub before: ArcSwapOption<Before>,
    /// Where this weir stands between the one before it and the next.
    pub stage: watch::Sender<Stage>,
    /// Whether the weir that took over has ended, so far as this one can tell.
    pub next_ended: watch::Sender<bool>,
    /// Whether the next weir can take over: whether this one listens for it.
    pub is_offered: AtomicBool,
    /// Whether the next weir's programs divert, so far as it has said, while it is not ready.
    pub next_diverts: AtomicBool,
    /// This weir serves because the one before it has ended, and has never been ready.
    pub is_stopgap: AtomicBool,
    /// When the next weir took over.
    handed_over: OnceLock<Instant>,
    counts: [Counter; HandoverResult::LABELS.len()],
}

/// Where a weir stands between the one before it and the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// It serves, alone.
    #[default]
    Serves,
    /// The weir before it serves, until this one is ready.
    Waits,
    /// It serves, and the next one has its sockets and is not ready yet.
    Gives,
    /// It was told to stop, and nobody takes over.
    Stops,
    /// The next one serves. What that one has no use for is closed here: these addresses.
    Given(Arc<[SocketAddr]>),
    /// The weir before this one serves on and has ended the hand-over: this one must end. Why.
    Dismissed(Arc<str>),
}

/// Weirs that have handed over, and drain.
#[derive(Clone, Debug)]
pub struct Before {
    /// Since when the first of them has been draining.
    pub since: Instant,
    /// Connections still open there.
    pub open: usize,
    /// How many weirs.
    pub weirs: usize,
}

/// How a hand-over ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoverResult {
    /// This weir has taken over.
    Taken = 0,
    /// The next weir has taken over.
    Given = 1,
    /// The next weir ended, hung or was not understood: this one goes on.
    Lost = 2,
    /// Somebody of another user asked, or answered.
    Stranger = 3,
}

impl HandoverResult {
    /// The labels in metrics, in order.
    pub const LABELS: [&'static str; 4] = ["taken", "given", "lost", "stranger"];
}

impl Handover {
    /// Counts one.
    pub fn count(&self, result: HandoverResult) {
        self.counts[result as usize].inc();
    }

    /// The counts by label.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        HandoverResult::LABELS.into_iter().zip(self.counts.iter().map(Counter::value))
    }

    /// The next weir has taken over.
    pub fn hand_over(&self) {
        let _ = self.handed_over.set(Instant::now());
    }

    /// Waits for the stage that `wanted` says; returns it.
    pub async fn until(&self, wanted: impl FnMut(&Stage) -> bool) -> Stage {
        let mut stage = self.stage.subscribe();
        let found = stage.wait_for(wanted).await.ok().map(|stage| stage.clone());
        match found {
            Some(stage) => stage,
            // Its sender is in `self`.
            None => std::future::pending().await,
        }
    }

    /// When the next weir took over; `None` while this one serves.
    pub fn handed_over(&self) -> Option<Instant> {
        self.handed_over.get().copied()
    }

    /// The weirs that drain after handing over, this one not included.
    pub fn draining(&self) -> Option<Arc<Before>> {
        self.before.load_full()
    }
}
