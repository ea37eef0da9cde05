//! Removes what a worker no longer needs: unused connections to endpoints, bound names, and unused clusters.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time;

use crate::allocator;
use crate::config::Limits;
use crate::proxy::routing::snapshot::Snapshot;
use crate::proxy::worker::Worker;

/// Maximum interval of a worker's sweep: an endpoint may have closed a connection, and names may have gone out of use.
const SWEEP: Duration = Duration::from_secs(5);

/// The same while there are too many clusters.
const CROWDED: Duration = Duration::from_secs(1);

/// After many connections were made, the next sweep is due so soon.
const SOON: Duration = Duration::from_millis(100);

/// Connections that were unused for so long are closed as soon as there are many.
const RARELY: Duration = Duration::from_secs(20);

/// How late an expired connection may be closed: those that expire within this time are closed together.
const LATE: Duration = Duration::from_millis(500);

/// Closes this worker's unused connections when they expire, or are more than needed, and removes what else is unused.
pub(super) async fn sweep(worker: Rc<Worker>) {
    let mut purged = Instant::now();
    loop {
        let (snapshot, now) = (worker.router.snapshot(), Instant::now());
        worker.router.routes.sweep(&snapshot, now);
        let Limits { pool_idle: limit, pool_purge_delay: delay, .. } = snapshot.config.limits;
        let purges = now.saturating_duration_since(purged) >= delay;
        let (next, mut dropped) = pools(&worker, now, limit, purges);
        dropped += surplus(&worker, now, snapshot.config.limits.idle_connections);
        worker.shared.routing.external.sweep(now);
        let is_crowded = clusters(&worker, &snapshot, now);
        drop(snapshot);
        if purges {
            purged = now;
        }
        let longest = if is_crowded { CROWDED } else { SWEEP };
        tokio::select! {
            () = time::sleep(until_sweep(now, next, limit.min(delay).min(longest))) => {}
            () = worker.dialer.many.notified() => time::sleep(SOON).await,
        }
        if dropped > 0 {
            // The tasks of the dropped connections have ended by now.
            allocator::give_back();
        }
    }
}

/// Closes connections that have been unused for `limit`, and, if it `purges`, half of those that were not needed. Returns
/// when the next one expires, and how many were not needed.
fn pools(worker: &Worker, now: Instant, limit: Duration, purges: bool) -> (Option<Instant>, usize) {
    let (mut next, mut dropped) = (None, 0);
    for cluster in worker.shared.routing.clusters() {
        for member in &cluster.members().all {
            let Some(pool) = member.backend.known_pool(worker.dialer.worker) else { continue };
            if purges {
                dropped += pool.purge();
            }
            next = earlier(next, pool.sweep(now, limit));
        }
    }
    (next, dropped)
}

/// Closes unused connections of which there are too many, where all workers may keep `most`. Returns how many.
fn surplus(worker: &Worker, now: Instant, most: usize) -> usize {
    let most = most.div_ceil(worker.shared.workers());
    let clusters = worker.shared.routing.clusters();
    let mut unused = Vec::new();
    for cluster in &clusters {
        let members = cluster.members();
        let pools = members.all.iter().filter_map(|it| it.backend.known_pool(worker.dialer.worker));
        pools.for_each(|pool| pool.unused_since(&mut unused));
    }
    let Some(kept) = too_old(&mut unused, now, most) else { return 0 };
    let mut closed = 0;
    for cluster in &clusters {
        let members = cluster.members();
        let pools = members.all.iter().filter_map(|it| it.backend.known_pool(worker.dialer.worker));
        closed += pools.map(|pool| pool.shed(now, kept)).sum::<usize>();
    }
    worker.dialer.connecting.crowded_out.add(closed as u64);
    closed
}

/// Of connections that have been `unused` since these times, how long one was that there is no room for; `None` where there
/// is room for all. Of more than `most` the least recently used ones have none, and of more than an eighth of that, those
/// that were unused for [`RARELY`].
fn too_old(unused: &mut [Instant], now: Instant, most: usize) -> Option<Duration> {
    let rare = unused.iter().filter(|it| now.saturating_duration_since(**it) >= RARELY).count();
    let beyond = |most: usize| unused.len().saturating_sub(most);
    let surplus = beyond(most).max(beyond(most.div_ceil(8)).min(rare));
    let last = surplus.checked_sub(1)?;
    let (_, last, _) = unused.select_nth_unstable(last);
    Some(now.saturating_duration_since(*last))
}

/// Forgets clusters that nobody uses; one worker does it for all. Returns whether there are too many.
fn clusters(worker: &Worker, snapshot: &Snapshot, now: Instant) -> bool {
    let Limits { clusters, cluster_idle, .. } = snapshot.config.limits;
    if worker.dialer.worker == 0 {
        snapshot.registry().sweep(now, cluster_idle, clusters);
    }
    snapshot.registry().is_crowded()
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// Time from `now` until the next sweep: the `next` unused connection expires then, and no other one expires before
/// `limit` has passed.
fn until_sweep(now: Instant, next: Option<Instant>, limit: Duration) -> Duration {
    let left = next.map_or(limit, |next| next.saturating_duration_since(now).min(limit));
    left.clamp(LATE, SWEEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_connections_have_no_room_and_of_many_those_that_are_rarely_used() {
        let now = Instant::now() + Duration::from_hours(1);
        let since = |seconds: &u64| now.checked_sub(Duration::from_secs(*seconds)).unwrap();
        for (unused, most, expected) in [
            (&[][..], 8, None),
            (&[5, 1, 3], 3, None),
            (&[5, 1, 3], 2, Some(5)),
            (&[5, 1, 3, 2], 1, Some(2)),
            // One is always kept, however long ago it was used.
            (&[500], 8, None),
            (&[21, 500, 22], 8, Some(22)),
            (&[21, 500, 3], 8, Some(21)),
            (&[19, 18, 3], 8, None),
            (&[21, 3, 500, 22, 7], 32, Some(500)),
            (&[21, 3, 500, 22, 7], 3, Some(21)),
        ] {
            let mut since: Vec<_> = unused.iter().map(since).collect();
            let age = too_old(&mut since, now, most);
            assert_eq!(age, expected.map(Duration::from_secs), "{unused:?} of {most}");
        }
    }

    #[test]
    fn unused_connections_are_looked_over_when_the_first_ones_time_is_over_and_every_five_seconds() {
        let now = Instant::now();
        let ms = Duration::from_millis;
        for (next, limit, after) in [
            (None, 60_000, 5_000),
            (Some(40_000), 60_000, 5_000),
            (Some(4_000), 60_000, 4_000),
            (Some(800), 60_000, 800),
            // Connections that expire within half a second are closed together.
            (Some(0), 60_000, 500),
            (Some(100), 60_000, 500),
            // A connection that is returned soon may be the first to expire.
            (None, 1_000, 1_000),
            (Some(40_000), 2_000, 2_000),
            (None, 1, 500),
        ] {
            let next = next.map(|next| now + ms(next));
            assert_eq!(until_sweep(now, next, ms(limit)), ms(after), "{next:?} of {limit}");
        }
    }
}
