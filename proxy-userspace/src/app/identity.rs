//! The task `identity`: reads the files of `identity` again when they change.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{MissedTickBehavior, interval};

use crate::control::State;

/// How often the files are looked at. A mounted Secret changes by renaming a link, so a watch on the file does not help.
const LOOK: Duration = Duration::from_secs(1);

/// Looks at the files that the settings in force name, as long as weir runs.
pub(super) async fn follow(control: Arc<State>) -> anyhow::Result<()> {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let settings = control.settings();
        if settings.identity.is_none() && control.identities.in_force().is_none() {
            continue;
        }
        // A folder on a remote machine that does not answer must not block anything else.
        let control = control.clone();
        tokio::task::spawn_blocking(move || {
            control.identities.look(settings.identity.as_ref(), SystemTime::now());
        })
        .await?;
    }
}
