//! What a worker gives up when memory is scarce: unused connections to endpoints, and names that were not asked for lately.
//!
//! As long as it is only scarce, others give up little for those that hold more than their share: somebody who keeps memory
//! scarce for long would cost everybody a connect and a look-up for each request. From [`Level::Refuse`] on, all goes.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::allocator;
use crate::domain::memory::Level;
use crate::proxy::memory::Shed;
use crate::proxy::upstream::Source;
use crate::proxy::worker::Worker;

/// How often it does so while memory stays scarce.
const AGAIN: Duration = Duration::from_millis(500);

/// As long as memory is only scarce, connections that were made for who holds more than a share are kept so long.
const LATELY: Duration = Duration::from_secs(1);

/// The same of all others, and of names, of which nobody is the holder.
const LONG: Duration = Duration::from_secs(10);

/// Gives up what it can whenever memory is scarce, as long as the worker runs.
pub(super) async fn relieve(worker: Rc<Worker>) {
    let mut told = worker.shared.memory.follow();
    let mut forgot: Option<Instant> = None;
    loop {
        let level = *told.borrow_and_update();
        let changed = match level {
            Level::Normal => told.changed().await,
            Level::Shed | Level::Refuse | Level::Full => {
                let now = Instant::now();
                let closed = close_unused(&worker, level, now);
                let is_due = forgot.is_none_or(|it| now.saturating_duration_since(it) >= kept(level, false));
                let forgotten = if is_due { forget_names(&worker) } else { 0 };
                if is_due {
                    forgot = Some(now);
                }
                if closed + forgotten > 0 {
                    allocator::give_back();
                }
                timeout(AGAIN, told.changed()).await.unwrap_or(Ok(()))
            }
        };
        if changed.is_err() {
            return;
        }
    }
}

/// For how long what is unused is kept at this level, of somebody who `is_above` its share or not.
fn kept(level: Level, is_above: bool) -> Duration {
    match (level, is_above) {
        (Level::Refuse | Level::Full, _) => Duration::ZERO,
        (Level::Normal | Level::Shed, true) => LATELY,
        (Level::Normal | Level::Shed, false) => LONG,
    }
}

/// Closes unused connections to endpoints. Returns how many.
fn close_unused(worker: &Worker, level: Level, now: Instant) -> usize {
    let above = sources_above(worker);
    let used = worker.shared.routing.used_backends();
    let pools = used.iter().filter_map(|it| it.known_pool(worker.dialer.worker));
    let closed = pools.map(|pool| pool.shed(now, |source| kept(level, above.contains(&source)))).sum();
    count(worker, Shed::Pool, closed);
    closed
}

/// The sources of connections that were made for pods that hold more than their share.
fn sources_above(worker: &Worker) -> HashSet<Source> {
    let shared = &worker.shared;
    let is_above = |pod: &_| {
        // A pod is known by its cgroup, or else by its network namespace, whatever its address.
        shared.memory.is_above(shared.holders.of(IpAddr::V4(Ipv4Addr::UNSPECIFIED), Some(pod)).id)
    };
    let pods = shared.sockets.pods();
    pods.iter().filter(|pod| is_above(pod)).map(|pod| Source::Pod(pod.cookie())).collect()
}

/// Forgets names that were not asked for since the last time. Returns how many.
fn forget_names(worker: &Worker) -> usize {
    let forgotten = worker.router.routes.shed();
    count(worker, Shed::Binding, forgotten);
    forgotten
}

fn count(worker: &Worker, kind: Shed, count: usize) {
    worker.shared.memory.shed[kind as usize].add(count as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_within_its_share_keeps_what_it_uses_now_and_then_until_little_is_left() {
        for (level, of_above, of_others) in
            [(Level::Shed, LATELY, LONG), (Level::Refuse, Duration::ZERO, Duration::ZERO)]
        {
            assert_eq!((kept(level, true), kept(level, false)), (of_above, of_others), "{level:?}");
        }
    }
}
