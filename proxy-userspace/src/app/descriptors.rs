//! The file descriptor limit: raised as far as allowed; connections are limited to fit into it.
//!
//! Process supervisors often set a soft limit of 1,024, which a process may raise itself, as Go programs do. Without a
//! free descriptor no connection is accepted, not even a probe of kubelet, which then restarts weir.

use anyhow::bail;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::{Outgoing, Settings};
use crate::intercept::MOST_PODS;
use crate::proxy::listener::most_waiting;
use crate::transport::pipe_descriptors;

/// Maximum number of connections to the admin and to the probes' listener, each.
pub(super) const CONTROL_CONNECTIONS: usize = 64;

/// Descriptors of the control plane besides its listeners: watches, DNS, the API server, the eBPF programs.
const CONTROL: usize = 64;

/// Pods that descriptors are kept for where weir listens in each, if half of all suffice for so many: kubelet's default is at most
/// 110 on a node. Of very many descriptors, this part is kept, for more pods.
const PODS: usize = 256;
const PART: usize = 32;

/// Descriptors of each, besides its listeners and the workers' duplicates of them: two more duplicates of that of diverted
/// connections, and the program that is attached there.
const PER_POD: usize = 3;

/// Descriptors of a worker's runtime.
const RUNTIME: usize = 4;

/// The connection limit of each data plane listener: as in `settings`, or lower if there are too few descriptors.
///
/// # Errors
///
/// The descriptor limit allows no connection at all.
pub(super) fn connections(settings: &Settings, in_pods: bool) -> anyhow::Result<usize> {
    let most = raise();
    let Some(room) = room(settings, in_pods, most).filter(|&room| room > 0) else {
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

/// In how many pods weir may listen: those that descriptors are kept for.
pub(super) fn pods(settings: &Settings) -> usize {
    pods_within(settings, raise())
}

fn pods_within(settings: &Settings, most: usize) -> usize {
    let each = PER_POD + in_pod(settings) * (1 + settings.workers);
    // Weir starts all the same where that would be nearly all there are.
    PODS.min(most / 2 / each).max(MOST_PODS.min(most / PART / each))
}

/// Listeners in each pod: of diverted connections, of those of other weirs, and of each router at the loopback addresses of IPv4
/// and IPv6.
fn in_pod(settings: &Settings) -> usize {
    let is_in_pods = |it: &&Outgoing| it.listen.iter().any(|at| it.is_in_pods(at.port()));
    1 + wire(settings) + 2 * settings.all_routers().filter(is_in_pods).count()
}

/// One if connections of other weirs are taken.
fn wire(settings: &Settings) -> usize {
    usize::from(settings.identity.as_ref().is_some_and(|it| it.wire.is_some()))
}

/// The number of connections per data plane listener that fit into `most` descriptors, each with one upstream
/// connection, and beside four of them one that waits for room. `None` if not even the other descriptors fit.
fn room(settings: &Settings, in_pods: bool, most: usize) -> Option<usize> {
    let transparent = settings.transparent.as_ref();
    let routers = settings.all_routers().count();
    let by_kind = routers + usize::from(transparent.is_some()) + wire(settings);
    let (diverted, per_pod) = match transparent {
        None => (0, 0),
        Some(it) if !in_pods => (usize::from(it.ports), 0),
        Some(_) => {
            let pods = pods_within(settings, most);
            (pods * in_pod(settings), pods * PER_POD)
        }
    };
    let sockets = routers + diverted;
    let control =
        CONTROL + per_pod + (1 + usize::from(settings.probes.is_some())) * (1 + CONTROL_CONNECTIONS);
    // Workers accept on duplicates of the sockets.
    let pipes = pipe_descriptors(settings.limits.pipes, most);
    let rest = control + sockets + settings.workers * (sockets + RUNTIME) + pipes;
    let each = most.checked_sub(rest)? / by_kind;
    // Beside few connections more of them may wait.
    let room = each / 9 * 4 + each % 9 * 4 / 9;
    Some(room.min((each.saturating_sub(most_waiting(room))) / 2))
}

/// Raises the soft descriptor limit as far as allowed and returns it.
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
        assert_eq!(room(&settings, false, 1024), Some(4 * (1024 - 172) / 9));
        settings.transparent = Some(Transparent { ports: 8, ..Transparent::default() });
        settings.probes = Some(Probes::default());
        assert_eq!(room(&settings, false, 1024), Some(4 * (1024 - 261) / 18));
        settings.routers = vec![Outgoing::default()];
        assert_eq!(room(&settings, false, 1024), Some(4 * (1024 - 264) / 27));
        settings.routers.clear();
        // Of 256 pods each has two listeners of each router and one of diverted connections, with a duplicate for each worker.
        let each_pod = |routers: usize| (1 + 2 * routers) * (1 + 2) + PER_POD;
        settings.transparent = Some(Transparent::default());
        for routers in [1, 3] {
            settings.routers = vec![Outgoing::default(); routers - 1];
            let rest = 64 + 2 * 65 + routers + 2 * (routers + RUNTIME) + PODS * each_pod(routers) + 2 * 256;
            let expected = 4 * (65_536 - rest) / (9 * (routers + 1));
            assert!(room(&settings, true, 65_536).unwrap().abs_diff(expected) <= 1, "{routers}");
        }
        settings.routers.clear();
        for (most, pods) in
            [(1024, 42), (20_000, 256), (65_536, 256), (524_288, 1_365), (usize::MAX, MOST_PODS)]
        {
            assert_eq!(pods_within(&settings, most), pods, "{most}");
        }
        // Not more than half of few are kept for pods.
        assert!(room(&settings, true, 1024).is_some_and(|room| room > 10));
        settings.transparent = Some(Transparent { ports: 8, ..Transparent::default() });
        settings.routers.clear();
        // Not less than a few may wait: 24 beside 4 of each listener.
        assert_eq!(room(&settings, false, 229 + 2 * 4 + 2 * 24), Some(4));
        assert!(
            room(&settings, false, usize::MAX).is_some_and(|it| it > usize::MAX / 5),
            "no limit is known"
        );
        assert_eq!((room(&settings, false, 238), room(&settings, false, 200)), (Some(0), None));
    }
}
