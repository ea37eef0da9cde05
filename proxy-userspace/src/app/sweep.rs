//! Removes entries of diverted connections that were never accepted.

use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};

use crate::intercept::{OriginalDsts, TOO_OLD};

/// Interval between sweeps.
const LOOK: Duration = Duration::from_secs(10);

/// Sweeps as long as weir runs. Yields to other tasks between two batches.
pub(super) async fn sweep(original_dsts: OriginalDsts) -> anyhow::Result<()> {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut walk = original_dsts.sweep(TOO_OLD);
        loop {
            match walk.step() {
                Ok(true) => yield_now().await,
                Ok(false) => break,
                Err(cause) => {
                    tracing::warn!(%cause, "leftovers of diverted connections cannot be looked for now");
                    break;
                }
            }
        }
    }
}
