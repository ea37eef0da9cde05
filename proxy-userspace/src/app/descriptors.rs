//! Room for descriptors: as many as this process may have, and no more connections than have room in them.
//!
//! What starts weir often allows it 1,024 that it may raise by itself, as Go's programs do unasked. Without room for one
//! more, nobody is let in: neither a pod nor kubelet, which then takes weir for dead.

use anyhow::bail;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::Settings;

/// Connections to the admin and to the probes at most, each.
pub(super) const CONTROL_CONNECTIONS: usize = 64;

/// What the control plane needs beside its listeners: watches, DNS, the API server, the eBPF programs.
const CONTROL: usize = 64;

/// A worker's runtime.
const RUNTIME: usize = 4;

/// How many connections each listener of the data plane may have: as many as `settings` say, or as there is room for.
///
/// # Errors
///
/// There is room for none.
pub(super) fn connections(settings: &Settings) -> anyhow::Result<usize> {
    let most = raise();
    let Some(room) = room(settings, most).filter(|&room| room > 0) else {
        bail!(
            "no more than {most} descriptors are allowed (RLIMIT_NOFILE), and weir needs more to listen and watch"
        );
    };
    let wanted = settings.limits.connections;
    if room < wanted {
        tracing::warn!(
            "no more than {most} descriptors are allowed (RLIMIT_NOFILE), which is room for {room} connections of each \
             listener and not for {wanted} (limits.connections)"
        );
    }
    Ok(room.min(wanted))
}

/// How many connections of each listener of the data plane have room among `most` descriptors, with one to an endpoint
/// for each; nothing when not even the rest has.
fn room(settings: &Settings, most: usize) -> Option<usize> {
    let transparent = settings.transparent.as_ref();
    let by_kind = 1 + usize::from(transparent.is_some());
    let sockets = 1 + transparent.map_or(0, |it| usize::from(it.ports));
    let control = CONTROL + (1 + usize::from(settings.probes.is_some())) * (1 + CONTROL_CONNECTIONS);
    // The workers accept on duplicates.
    let rest = control + sockets + settings.workers * (sockets + RUNTIME);
    Some(most.checked_sub(rest)? / (2 * by_kind))
}

/// Raises the bound on descriptors as far as it may be raised; what it is then.
fn raise() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return usize::MAX };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard);
    usize::try_from(raised.unwrap_or(soft)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Probes, Transparent};

    #[test]
    fn each_listener_has_room_for_as_many_connections_and_what_they_lead_to() {
        let mut settings = Settings { workers: 2, ..Settings::default() };
        assert_eq!(room(&settings, 1024), Some((1024 - 140) / 2));
        settings.transparent = Some(Transparent { ports: 8, ..Transparent::default() });
        settings.probes = Some(Probes::default());
        assert_eq!(room(&settings, 1024), Some((1024 - 229) / 4));
        assert_eq!((room(&settings, 230), room(&settings, 200)), (Some(0), None));
    }
}
