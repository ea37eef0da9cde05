//! The control plane's tasks. Each has a name, is started again with a growing pause when it ends, and keeps
//! readiness off meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::listeners::Listeners;
use super::{intercept, keeper};
use crate::admin::{self, Desk};
use crate::discovery::files;
use crate::domain::catalog::Catalog;
use crate::proxy::session::Way;
use crate::proxy::world::Terms;

/// The longest pause before a task is started again.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Starts everything the control plane does.
pub(super) fn start(
    desk: &Arc<Desk>,
    catalog: Arc<Catalog>,
    terms: &watch::Sender<Terms>,
    listeners: &Listeners,
) -> anyhow::Result<()> {
    let catalogs = watch::Sender::new(catalog);
    if let Some(files) = desk.settings.load().discovery.files.clone() {
        let (desk, catalogs) = (desk.clone(), catalogs.clone());
        supervise(desk.clone(), "discovery.files", move || {
            watch_files(desk.clone(), files.path.clone(), catalogs.clone())
        });
    }
    let (keeper, terms) = (desk.clone(), terms.subscribe());
    supervise(desk.clone(), "world", move || {
        keeper::keep(keeper.clone(), catalogs.subscribe(), terms.clone())
    });
    let heart = desk.clone();
    supervise(desk.clone(), "heart", move || intercept::beat(heart.clone()));
    for door in &desk.doors {
        match (door.way, &listeners.probes) {
            (Way::Admin, _) => admin::listen(desk, door, listeners.admin.try_clone()?)?,
            (Way::Probes, Some(listener)) => admin::listen(desk, door, listener.try_clone()?)?,
            (Way::Outgoing | Way::Transparent | Way::Probes, _) => {}
        }
    }
    Ok(())
}

/// Passes on what the folder says, until the watch ends.
async fn watch_files(
    desk: Arc<Desk>,
    path: std::path::PathBuf,
    catalogs: watch::Sender<Arc<Catalog>>,
) -> anyhow::Result<()> {
    let (mut watched, task) = files::watch_files(path, desk.shared.drain.token())?;
    let forward = async {
        loop {
            catalogs.send_replace(watched.catalog.borrow_and_update().clone());
            desk.problems.send_replace(watched.problems.borrow_and_update().clone());
            tokio::select! {
                changed = watched.catalog.changed() => changed?,
                changed = watched.problems.changed() => changed?,
            }
        }
    };
    tokio::select! {
        ended = task => { let _: () = ended; Ok(()) }
        lost = forward => lost,
    }
}

/// Runs what `make` makes, again and again.
fn supervise<F>(desk: Arc<Desk>, name: &'static str, make: impl Fn() -> F + Send + 'static)
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    tokio::spawn(async move {
        let mut pause = Duration::from_millis(100);
        loop {
            desk.ready.set(name, Ok(()));
            let ended = tokio::spawn(make()).await;
            if desk.shared.drain.is_closing() {
                return;
            }
            let why = match ended {
                Ok(Ok(())) => "it ended".to_owned(),
                Ok(Err(error)) => format!("{error:#}"),
                Err(panicked) => panicked.to_string(),
            };
            tracing::error!(task = name, %why, "a control task is down; it is started again");
            desk.ready.set(name, Err(why));
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    });
}
