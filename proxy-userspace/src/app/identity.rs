//! The task `identity`: reads the files of `identity` again when they change.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::control::State;
use crate::proxy::worker::Shared;

/// How often the files are looked at. A mounted Secret changes by renaming a link, so a watch on the file does not help.
const LOOK: Duration = Duration::from_secs(1);

/// How long weir waits at its start for the first look.
const FIRST: Duration = Duration::from_secs(5);

/// Looks for the first time, before any connection of a pod is made: it would not be encrypted.
pub(super) async fn begin(control: &Arc<State>) {
    if control.settings().identity.is_some() && timeout(FIRST, look(control.clone())).await.is_err() {
        tracing::warn!(
            "the files of identities have not been read within {FIRST:?}: weir starts without them"
        );
    }
}

/// Looks at the files that the settings in force name, as long as weir runs.
pub(super) async fn follow(control: Arc<State>) -> anyhow::Result<()> {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if control.settings().identity.is_some() || control.identities.in_force().is_some() {
            look(control.clone()).await?;
        }
    }
}

/// A folder on a remote machine that does not answer must not block anything else.
async fn look(control: Arc<State>) -> anyhow::Result<()> {
    let look = move || {
        if control.identities.look(control.settings().identity.as_ref(), SystemTime::now()) {
            renew(&control.shared);
        }
    };
    Ok(tokio::task::spawn_blocking(look).await?)
}

/// Pods' connections are made in another way from now on: those that are kept would be used in the way of before.
fn renew(shared: &Shared) {
    let Some(pods) = &shared.pods else { return };
    pods.all().iter().for_each(|pod| pod.renew());
    forget(shared);
}

/// Closes the unused connections of all pods.
pub(super) fn forget(shared: &Shared) {
    for cluster in shared.routing.clusters() {
        for member in &cluster.members().all {
            member.backend.pools().iter().for_each(|pool| pool.forget_pods());
        }
    }
}
