//! Removes what a worker no longer needs: unused connections to endpoints, bound names, and unused clusters.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time;

use crate::allocator;
use crate::config::Limits;
use crate::domain::shares::level;
use crate::proxy::routing::snapshot::Snapshot;
use crate::proxy::upstream::Source;
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
    for backend in worker.shared.routing.used_backends() {
        let Some(pool) = backend.known_pool(worker.dialer.worker) else { continue };
        if purges {
            dropped += pool.purge();
        }
        next = earlier(next, pool.sweep(now, limit));
    }
    (next, dropped)
}

/// Closes unused connections of which there are too many, where all workers may keep `most`, of those that have more than a
/// fair share. Returns how many.
fn surplus(worker: &Worker, now: Instant, most: usize) -> usize {
    let most = most.div_ceil(worker.shared.workers());
    let used = worker.shared.routing.used_backends();
    let pools = || used.iter().filter_map(|it| it.known_pool(worker.dialer.worker));
    let mut unused = HashMap::new();
    pools().for_each(|pool| pool.unused_since(&mut unused));
    let kept = too_old(&mut unused, now, most);
    if kept.is_empty() {
        return 0;
    }
    let of = |source| kept.get(&source).copied().unwrap_or(Duration::MAX);
    let closed = pools().map(|pool| pool.shed(now, of)).sum::<usize>();
    worker.dialer.connecting.crowded_out.add(closed as u64);
    closed
}

/// Of connections that have been `unused` since these times, by source, how long one was that there is no room for; no entry
/// where there is room for all of a source. Of more than `most` the least recently used ones have none, and of more than an
/// eighth of that, those that were unused for [`RARELY`]. Each source has its fair share of both, so that nobody crowds out what
/// others use now and then.
fn too_old(
    unused: &mut HashMap<Source, Vec<Instant>>,
    now: Instant,
    most: usize,
) -> HashMap<Source, Duration> {
    let mut counts: Vec<u64> = unused.values().map(|it| it.len() as u64).collect();
    let mut share = |most: usize| usize::try_from(level(most as u64, &mut counts)).unwrap_or(usize::MAX);
    let (all, few) = (share(most), share(most.div_ceil(8)));
    let age = |since: Instant| now.saturating_duration_since(since);
    let kept = unused.iter_mut().filter_map(|(source, unused)| {
        let rare = unused.iter().filter(|it| age(**it) >= RARELY).count();
        let beyond = |share: usize| unused.len().saturating_sub(share);
        let surplus = beyond(all).max(beyond(few).min(rare));
        let (_, last, _) = unused.select_nth_unstable(surplus.checked_sub(1)?);
        Some((*source, age(*last)))
    });
    kept.collect()
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
            let mut since = HashMap::from([(Source::Node, unused.iter().map(since).collect())]);
            let age = too_old(&mut since, now, most).remove(&Source::Node);
            assert_eq!(age, expected.map(Duration::from_secs), "{unused:?} of {most}");
        }
    }

    #[test]
    fn who_leaves_very_many_unused_crowds_out_none_of_anothers() {
        let now = Instant::now() + Duration::from_hours(1);
        let since = |seconds: u64| now.checked_sub(Duration::from_secs(seconds)).unwrap();
        let (honest, greedy, other) = (Source::Pod(1), Source::Pod(2), Source::Pod(3));
        for (mine, most, expected) in [
            // Within its share, however rarely it uses them.
            (&[50, 40, 30][..], 800, None),
            (&[50, 40, 30], 80, None),
            // An eighth of 48 is six, two for each of three.
            (&[50, 40, 30], 48, Some(50)),
            (&[50, 40, 30], 6, Some(30)),
            (&[5, 4, 3], 6, Some(5)),
            (&[5, 4, 3], 9, None),
        ] {
            let mut unused = HashMap::from([
                (honest, mine.iter().map(|it| since(*it)).collect()),
                // Used just now.
                (greedy, (0..1_000).map(|_| since(1)).collect()),
                (other, (0..1_000).map(|_| since(2)).collect()),
            ]);
            let kept = too_old(&mut unused, now, most);
            assert_eq!(kept.get(&honest), expected.map(Duration::from_secs).as_ref(), "{mine:?} of {most}");
            assert_eq!(kept.len(), 2 + usize::from(expected.is_some()), "{kept:?}");
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
