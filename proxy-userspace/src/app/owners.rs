//! Forgets learnt address owners when an address may have passed to another pod, for example after a container restart.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::control::State;
use crate::intercept::{Owners, living, monotonic_ns};

/// How soon after an entry was rejected this runs, and its minimum interval.
const LOOK: Duration = Duration::from_millis(250);

/// Runs as long as weir runs, and lists the cgroups only when there is a doubt.
pub(super) async fn forget(control: Arc<State>, owners: Owners) -> anyhow::Result<()> {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if !owners.take_doubt() {
            continue;
        }
        let root = control.programs.lock().as_ref().ok().map(|it| it.cgroup().to_owned());
        if let Some(root) = root {
            owners.forget(&living(&root), monotonic_ns());
        }
    }
}
