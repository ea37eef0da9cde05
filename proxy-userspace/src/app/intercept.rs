//! Wires interception into the application: attaches at start and updates the destinations.

use std::os::fd::AsFd;

use anyhow::{Context, anyhow, bail};

use super::listeners::BoundListeners;
use super::{destinations, netns};
use crate::config::{self, Fail, Settings, Transparent};
use crate::control::{Diverted, State};
use crate::domain::catalog::{Catalog, Changes};
use crate::intercept::{self, Applied, Enrol, InterceptError, InterceptOptions, Interception, Refusal};
use crate::proxy::routing::snapshot::Snapshot;

/// Attaches the programs, if interception is configured.
///
/// # Errors
///
/// One sentence that says what is missing. weir still serves explicit clients then.
pub(super) fn attach(
    settings: &Settings,
    listeners: &BoundListeners,
    in_pods: Option<&anyhow::Result<netns::Prepared>>,
) -> Result<Interception, anyhow::Error> {
    let Some(transparent) = &settings.transparent else {
        return Err(anyhow!("not configured"));
    };
    if let Some(why) = &listeners.no_transparent {
        return Err(anyhow!("{why}"));
    }
    let attached = options(transparent, settings, listeners, in_pods).and_then(|options| {
        if options.pods.is_some() {
            return Ok(Interception::attach_in_pods(&options)?);
        }
        let first = listeners.transparent.first().context("no transparent listener")?;
        for socket in &listeners.transparent {
            intercept::save_syns(socket.tcp.as_fd()).context("TCP_SAVE_SYN")?;
        }
        Ok(Interception::attach(&options, first.tcp.as_fd())?)
    });
    if transparent.fail == Fail::Closed {
        tracing::warn!(
            "fail: closed holds while weir lives: it refuses connections that weir, hung or draining, cannot take; when \
             weir dies, the programs go with it and connections go direct"
        );
    }
    match &attached {
        Ok(interception) => {
            tracing::info!("interception is on");
            if interception.refusal() == Refusal::NotPermitted {
                tracing::warn!(
                    "this kernel is older than Linux 5.18: with fail: closed, connect() fails with EPERM (operation not \
                     permitted) and not with ECONNREFUSED"
                );
            }
        }
        Err(why) => tracing::warn!("interception is off: {why:#}; explicit clients are served all the same"),
    }
    attached
}

fn options(
    transparent: &Transparent,
    settings: &Settings,
    listeners: &BoundListeners,
    in_pods: Option<&anyhow::Result<netns::Prepared>>,
) -> anyhow::Result<InterceptOptions> {
    let pods = match in_pods {
        None => None,
        Some(Ok(prepared)) => Some(prepared.sockets()),
        Some(Err(why)) => bail!("{why:#}"),
    };
    let at = match pods {
        None => listeners.transparent.first().context("no transparent listener")?.tcp.local_addr()?,
        Some(_) => transparent.listen,
    };
    let addresses = match pods {
        None => intercept::reachable_addresses(at.ip(), &transparent.addresses)?,
        Some(_) => Vec::new(),
    };
    let cgroup = transparent.cgroup.clone().map_or_else(intercept::find_cgroup, Ok)?;
    Ok(InterceptOptions {
        addresses,
        first_port: at.port(),
        // Not all that are configured where weirs follow one another.
        ports: u16::try_from(listeners.transparent.len()).unwrap_or(u16::MAX),
        cgroup,
        enrol: match settings.enrol() {
            config::Enrol::All => Enrol::All,
            config::Enrol::Pods => Enrol::Pods,
        },
        host: transparent.host,
        fail: match transparent.fail {
            Fail::Open => intercept::Fail::Open,
            Fail::Closed => intercept::Fail::Closed,
        },
        tuples: settings.limits.tuples,
        destinations: settings.limits.destinations,
        pods,
    })
}

/// Leaves another weir of this node alone, by its pod's UID: the one before this one, or the next one. `None` is a weir in this
/// one's own cgroup, which is left alone already.
pub(super) fn own(control: &State, pod: Option<&str>) {
    let (Some(pod), Ok(interception)) = (pod, &mut *control.programs.lock()) else { return };
    match interception.own_pod(pod) {
        Ok(true) => {}
        Ok(false) => {
            tracing::debug!(pod, "the other weir's pod is not below the pods' cgroup: it is never diverted")
        }
        Err(why) => {
            tracing::warn!(pod, "connections of the other weir may be diverted while it drains: {why}")
        }
    }
}

/// Updates the destinations that the programs divert. A failure is recorded and retried by the watchdog.
pub(super) fn divert(control: &State, catalog: &Catalog) {
    let Ok(interception) = &mut *control.programs.lock() else { return };
    let settings = control.settings();
    let divert = settings.transparent.as_ref().and_then(|it| it.divert.as_deref());
    let exceptions = destinations::exceptions(catalog, destinations::told_api_server());
    let refused = interception.refuse(&destinations::refused(divert, catalog));
    let snapshot = control.shared.routing.snapshot.load();
    let (wanted, node) = (destinations::wanted(divert, catalog), &snapshot.config.node.own);
    let applied = interception.divert_except(&wanted, &exceptions, node);
    note(control, refused.and(applied));
}

/// As [`divert`], after `changes` from `before` to `after` with its `snapshot`; the work is proportional to the
/// changes.
pub(super) fn divert_changes(
    control: &State,
    before: &Catalog,
    after: &Catalog,
    changes: &Changes,
    snapshot: &Snapshot,
) {
    let configured = control.settings().transparent.as_ref().is_some_and(|it| it.divert.is_some());
    let mut keys = changes.added.iter().chain(&changes.removed).chain(&changes.changed);
    let awaited = before.awaited.is_some() || after.awaited.is_some();
    if awaited || keys.any(destinations::is_exception) || control.programs.diverted.lock().failed.is_some() {
        return divert(control, after);
    }
    if configured {
        return;
    }
    let Ok(interception) = &mut *control.programs.lock() else { return };
    let (gone, come) = destinations::difference(before, after, changes, snapshot);
    let applied = interception.amend(&gone, &come);
    let (gone, come) = destinations::refused_difference(before, after, changes, snapshot);
    note(control, interception.amend_refused(&gone, &come).and(applied));
}

/// As [`divert_changes`], where only endpoints have changed, and the snapshot stays.
pub(super) fn refuse_changes(
    control: &State,
    before: &Catalog,
    after: &Catalog,
    changes: &Changes,
    snapshot: &Snapshot,
) {
    let configured = control.settings().transparent.as_ref().is_some_and(|it| it.divert.is_some());
    if configured || after.awaited.is_some() {
        return;
    }
    let Ok(interception) = &mut *control.programs.lock() else { return };
    let (gone, come) = destinations::refused_difference(before, after, changes, snapshot);
    if let Err(why) = interception.amend_refused(&gone, &come) {
        note(control, Err(why));
    }
}

/// Records the result of a change.
fn note(control: &State, applied: Result<Applied, InterceptError>) {
    let mut noted = control.programs.diverted.lock();
    match applied {
        Ok(applied) => {
            if applied.left_out > 0 && applied.left_out != noted.left_out {
                tracing::error!(?applied, "limits.destinations is reached: the rest goes direct");
            } else if applied != (Applied { left_out: applied.left_out, ..Applied::default() }) {
                tracing::info!(?applied, "diverted destinations changed");
            }
            *noted = Diverted { left_out: applied.left_out, failed: None };
        }
        Err(why) => {
            let why = format!("diverted destinations could not be changed: {why}");
            if noted.failed.as_ref() != Some(&why) {
                tracing::error!("{why}");
            }
            noted.failed = Some(why);
        }
    }
}
