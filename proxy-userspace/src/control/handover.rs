//! What is known of the weir before this one, and of the next.

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Instant;

use arc_swap::ArcSwapOption;

use crate::telemetry::Counter;

/// Hand-overs of listeners between weirs of this node.
#[derive(Debug, Default)]
pub struct Handover {
    /// The weir before this one while it drains, with those before it.
    pub before: ArcSwapOption<Before>,
    /// When the next weir took over.
    handed_over: OnceLock<Instant>,
    counts: [Counter; HandoverResult::LABELS.len()],
}

/// Weirs that have handed over, and drain.
#[derive(Clone, Debug)]
pub struct Before {
    /// Since when the first of them has been draining.
    pub since: Instant,
    /// Connections still open there.
    pub open: usize,
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
    /// Somebody asked who is not known as a weir of this node.
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

    /// When the next weir took over; `None` while this one serves.
    pub fn handed_over(&self) -> Option<Instant> {
        self.handed_over.get().copied()
    }

    /// The weirs that drain after handing over, this one not included.
    pub fn draining(&self) -> Option<Arc<Before>> {
        self.before.load_full()
    }
}
