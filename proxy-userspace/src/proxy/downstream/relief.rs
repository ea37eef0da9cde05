//! What a worker gives up when memory is scarce: unused connections to endpoints, and names that were not asked for lately.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::allocator;
use crate::domain::memory::Level;
use crate::proxy::memory::Shed;
use crate::proxy::worker::Worker;

/// How often it does so while memory stays scarce.
const AGAIN: Duration = Duration::from_millis(500);

/// As long as memory is only scarce, connections that were used so lately are kept.
const LATELY: Duration = Duration::from_secs(1);

/// Gives up what it can whenever memory is scarce, as long as the worker runs.
pub(super) async fn relieve(worker: Rc<Worker>) {
    let mut told = worker.shared.memory.follow();
    loop {
        let level = *told.borrow_and_update();
        let changed = match level {
            Level::Normal => told.changed().await,
            Level::Shed | Level::Refuse | Level::Full => {
                give_up(&worker, level);
                timeout(AGAIN, told.changed()).await.unwrap_or(Ok(()))
            }
        };
        if changed.is_err() {
            return;
        }
    }
}

fn give_up(worker: &Worker, level: Level) {
    let kept = if level >= Level::Refuse { Duration::ZERO } else { LATELY };
    let (now, mut closed) = (Instant::now(), 0);
    for cluster in worker.shared.routing.clusters() {
        for member in &cluster.members().all {
            let pool = member.backend.known_pool(worker.dialer.worker);
            closed += pool.map_or(0, |pool| pool.shed(now, kept));
        }
    }
    let shed = |kind: Shed, count: usize| worker.shared.memory.shed[kind as usize].add(count as u64);
    shed(Shed::Pool, closed);
    shed(Shed::Binding, worker.router.routes.shed());
    allocator::give_back();
}
