//! The control plane's tasks. Each has a name. When one ends, it is restarted with exponential backoff; until then weir
//! is not ready.

use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use tokio::sync::watch;
use tokio::time::sleep;

use super::cluster::Told;
use super::services::{Folder, Services};
use super::{adopt, cluster, enrol, identity, objects, owners, reconciler, sweep, watchdog};
use crate::admin::{self, Retired, Server};
use crate::control::State;
use crate::intercept::Enrol;
use crate::proxy::listener::Listener;
use crate::proxy::routing::snapshot::RoutingConfig;

/// The first pause before a task is started again, and the longest.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// A task that ran for this long resets the backoff.
const WELL: Duration = Duration::from_mins(1);

/// Starts all control plane tasks.
pub(super) fn start(
    control: &Arc<State>,
    server: &Arc<Server>,
    services: &Services,
    config: &watch::Sender<RoutingConfig>,
) {
    let Told { catalogs, node_pods } = discover(control, services);
    if let Some(cluster) = services.cluster.clone() {
        let (followed, telling, config) = (cluster.clone(), control.clone(), config.clone());
        supervise(control.clone(), "objects", move || {
            objects::keep(telling.clone(), followed.clone(), config.clone())
        });
        let followed = cluster.clone();
        supervise(control.clone(), "discovery.ingresses", move || followed.follow_ingresses());
        supervise(control.clone(), "discovery.dtabs", move || cluster.follow_dtabs());
    }
    let (reconciler, wanted) = (control.clone(), config.subscribe());
    supervise(control.clone(), "snapshot", move || {
        reconciler::keep(reconciler.clone(), catalogs.subscribe(), wanted.clone())
    });
    let (telling, pods) = (control.clone(), node_pods.clone());
    supervise(control.clone(), "clients", move || cluster::clients(telling.clone(), pods.subscribe()));
    if control.programs.enrols() == Some(Enrol::Pods) {
        let enrolling = control.clone();
        supervise(control.clone(), "enrol", move || enrol::enrol(enrolling.clone(), node_pods.subscribe()));
    }
    let (checked, config) = (control.clone(), config.clone());
    supervise(control.clone(), "watchdog", move || watchdog::watch(checked.clone(), config.clone()));
    if control.programs.lock().is_ok() {
        adopt::start(control);
    }
    if let Some(original_dsts) = control.shared.original_dsts.clone() {
        let (doubting, owners) = (control.clone(), original_dsts.owners().clone());
        supervise(control.clone(), "owners", move || owners::forget(doubting.clone(), owners.clone()));
        supervise(control.clone(), "sweep", move || sweep::sweep(original_dsts.clone()));
    }
    let identified = control.clone();
    supervise(control.clone(), "identity", move || identity::follow(identified.clone()));
    let secured = server.clone();
    supervise(control.clone(), "certificate", move || admin::follow_certificate(secured.clone()));
}

/// Serves one of the control plane's listeners until it is `retired`.
///
/// # Errors
///
/// The socket cannot be used.
pub(super) fn serve(
    server: &Arc<Server>,
    listener: &Arc<Listener>,
    socket: TcpListener,
    retired: Retired,
) -> anyhow::Result<()> {
    admin::listen(server, listener, socket, retired)
}

/// Starts service and pod discovery; returns the receivers.
fn discover(control: &Arc<State>, services: &Services) -> Told {
    let at_start = services.catalog();
    let files = services.folder.told.clone();
    pass_on(control, &services.folder);
    let Some(found) = services.cluster.clone() else { return files };
    let told = Told { catalogs: watch::Sender::new(at_start), ..Told::default() };
    let (merged, catalogs, node_pods) = (told.clone(), found.catalog(), found.node_pods());
    supervise(control.clone(), "discovery.merge", move || {
        cluster::merge(files.clone(), catalogs.clone(), node_pods.clone(), merged.clone())
    });
    let (health, telling) = (found.health(), control.clone());
    supervise(control.clone(), "discovery.health", move || cluster::tell(telling.clone(), health.clone()));
    supervise(control.clone(), "discovery.kubernetes", move || found.follow());
    told
}

/// Starts to forward the files' services, once a folder is configured.
pub(super) fn pass_on(control: &Arc<State>, folder: &Arc<Folder>) {
    if folder.is_to_be_passed_on() {
        let (forward, folder) = (control.clone(), folder.clone());
        supervise(control.clone(), "discovery.files", move || folder.clone().pass_on(forward.clone()));
    }
}

/// Runs the future from `make`, again and again.
pub(super) fn supervise<F>(
    control: Arc<State>,
    name: &'static str,
    mut make: impl FnMut() -> F + Send + 'static,
) where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    tokio::spawn(async move {
        let mut pause = Duration::ZERO;
        loop {
            control.ready.set(name, Ok(()));
            let begun = Instant::now();
            // A panic in `make` is handled like a later panic.
            let ended = match catch_unwind(AssertUnwindSafe(&mut make)) {
                Ok(task) => tokio::spawn(task).await,
                Err(_) => Ok(Err(anyhow!("it panicked as it began"))),
            };
            if control.shared.drain.is_closing() {
                return;
            }
            let why = match ended {
                Ok(Ok(())) => "it ended".to_owned(),
                Ok(Err(error)) => format!("{error:#}"),
                Err(panicked) => panicked.to_string(),
            };
            tracing::error!(task = name, %why, "a control task is down; it is started again");
            control.ready.set(name, Err(why));
            pause = pause_after(begun.elapsed(), pause);
            sleep(pause).await;
        }
    });
}

/// The pause after a task that ran for `life`, when the previous pause was `last`.
fn pause_after(life: Duration, last: Duration) -> Duration {
    if life >= WELL { MIN_PAUSE } else { (last * 2).clamp(MIN_PAUSE, MAX_PAUSE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_begin_anew_after_a_minute_of_life() {
        let mut pause = Duration::ZERO;
        for expected in [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000] {
            pause = pause_after(Duration::from_secs(59), pause);
            assert_eq!(pause, Duration::from_millis(expected));
        }
        assert_eq!(pause_after(Duration::from_secs(60), pause), MIN_PAUSE);
    }
}
