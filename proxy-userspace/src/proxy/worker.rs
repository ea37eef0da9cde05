//! A worker: one thread that accepts, serves, and keeps its own connections to endpoints.
//!
//! Each is a single-threaded runtime of its own. Against one runtime of several threads that saves 4 to 10 % of the
//! CPU, and the tail at 512 connections is a quarter as long (17 against 74 ms).

use std::cell::RefCell;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::domain::refuse::Refusal;
use crate::drain::Drain;
use crate::intercept::Originals;
use crate::proxy::downstream::connection;
use crate::proxy::downstream::wakers::Wakers;
use crate::proxy::exchange::session::Session;
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::listener::sockets::{Socket, Sockets};
use crate::proxy::listener::{Door, Turned, Way};
use crate::proxy::routing::cache::{Bindings, Routes};
use crate::proxy::routing::clients::Clients;
use crate::proxy::routing::external::Outside;
use crate::proxy::routing::resolve::Holds;
use crate::proxy::routing::snapshot::World;
use crate::proxy::tcp;
use crate::proxy::upstream::cluster::{Backend, Cluster, Lease};
use crate::telemetry::Count;
use crate::transport::{Connector, KernelRoutes, Watch};

/// How long every accept queue must have been empty before a draining listener closes.
const QUIET: Duration = Duration::from_millis(100);

/// How long a draining listener waits for that at most: where it cannot refuse newcomers, they go on coming.
const QUIET_WITHIN: Duration = Duration::from_millis(500);

/// How often a worker shows that it is alive.
const BEAT: Duration = Duration::from_millis(250);

/// How often a worker looks for what it need not keep, at least: an endpoint may have closed a connection, and names may have
/// gone out of use.
const SWEEP: Duration = Duration::from_secs(5);

/// How long it may be until a connection is closed whose time is over: those of so long go together.
const LATE: Duration = Duration::from_millis(500);

/// How long accepting pauses when there is no descriptor for another connection.
const PAUSE: Duration = Duration::from_millis(50);

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// The current world.
    pub world: ArcSwap<World>,
    /// Which namespaces clients are in.
    pub clients: Clients,
    /// Says that the current world is another, or the clients are.
    pub moved: watch::Sender<()>,
    /// Requests that wait for the first list of services.
    pub holds: Holds,
    /// Destinations outside the catalog.
    pub outside: Arc<Outside>,
    /// The sockets that the workers accept on.
    pub sockets: Sockets,
    /// How upstream sockets are made.
    pub connecting: ArcSwap<Connector>,
    /// Where diverted connections were going; absent when nothing is diverted.
    pub originals: Option<Originals>,
    /// How weir stops.
    pub drain: Drain,
    /// Answers that weir made itself, by kind.
    pub faults: [Count; Kind::LABELS.len()],
    /// Destinations that weir did not connect to, by reason: [`Refusal::LABELS`].
    pub refusals: [Count; Refusal::LABELS.len()],
    /// Requests answered with a diagnosis.
    pub diagnoses: Count,
    /// Bodies that were kept back and sent without the endpoint having asked for them in time (`limits.expectContinue`).
    pub unasked: Count,
    /// What is counted of bound names.
    pub bindings: Arc<Bindings>,
    /// Addresses that were tried because another one of the same name took too long.
    pub raced: Count,
    /// What is counted of byte tunnels.
    pub tunnels: tcp::Stats,
    /// Each worker's last sign of life, in milliseconds since `epoch`.
    pub beats: Box<[AtomicU64]>,
    /// When weir started.
    pub epoch: Instant,
}

impl Shared {
    /// How upstream sockets are made now.
    pub fn connector(&self) -> Connector {
        **self.connecting.load()
    }

    /// How long ago the worker that has been silent longest showed that it is alive.
    pub fn oldest_beat(&self) -> Duration {
        let now = millis(self.epoch.elapsed());
        let oldest = self.beats.iter().map(|beat| beat.load(Ordering::Relaxed)).min().unwrap_or(now);
        Duration::from_millis(now.saturating_sub(oldest))
    }
}

/// One worker, as everything on its thread sees it.
#[derive(Debug)]
pub struct Worker {
    /// Its number, from 0.
    pub id: usize,
    /// What it shares with the others.
    pub shared: Arc<Shared>,
    /// The connections to wake when weir drains: waiting for that costs each of them nothing meanwhile.
    pub connections: Wakers,
    /// Its connections to endpoints, some of which may turn out to be silent.
    pub watch: Watch,
    /// Which addresses the kernel takes for this node's own.
    pub kernel: KernelRoutes,
    /// Where names lead, as long as that is so.
    pub routes: Routes,
    pub(super) rng: RefCell<fastrand::Rng>,
}

/// Starts worker `id` on a thread of its own, which holds `alive` as long as it runs; it ends when the drain has.
///
/// # Errors
///
/// When there is no thread or no runtime for it.
pub fn start(id: usize, shared: Arc<Shared>, alive: TaskTrackerToken) -> anyhow::Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(format!("weir-data-{id}"));
    let (tell, told) = std::sync::mpsc::channel();
    let thread = thread.spawn(move || {
        let _alive = alive;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
        let (runtime, cause) = runtime.map_or_else(|cause| (None, Some(cause)), |it| (Some(it), None));
        let _ = tell.send(cause);
        if let Some(runtime) = runtime {
            runtime.block_on(run(id, shared));
        }
    });
    let thread = thread.context("no thread for a worker")?;
    match told.recv() {
        Ok(Some(cause)) => Err(cause).context("no runtime for a worker"),
        Ok(None) | Err(_) => Ok(thread),
    }
}

async fn run(id: usize, shared: Arc<Shared>) {
    let worker = Rc::new(Worker {
        id,
        connections: Wakers::default(),
        watch: Watch::default(),
        kernel: KernelRoutes::new(shared.connector().mark),
        routes: Routes::new(shared.bindings.clone()),
        shared,
        rng: RefCell::new(fastrand::Rng::new()),
    });
    let drain = worker.shared.drain.clone();
    tokio::task::spawn_local(beat(worker.clone()));
    tokio::task::spawn_local(sweep(worker.clone()));
    let mut explicit = JoinSet::new();
    tokio::select! {
        () = listen(&worker, &mut explicit) => {}
        () = drain.closing() => {}
    }
    worker.connections.wake();
    let ended = async {
        while explicit.join_next().await.is_some() {}
        drain.tasks().wait().await;
    };
    tokio::select! {
        () = ended => {}
        () = drain.over() => {}
    }
}

/// Takes up sockets as they come. Those of the explicit proxy are accepted from by tasks of their own set.
async fn listen(worker: &Rc<Worker>, explicit: &mut JoinSet<()>) {
    let (mut sockets, mut taken_up) = (worker.shared.sockets.follow(), HashSet::new());
    loop {
        let there = sockets.borrow_and_update().clone();
        taken_up.retain(|number| there.iter().any(|it| it.number == *number));
        for socket in there.iter().filter(|it| taken_up.insert(it.number)) {
            match socket.duplicate().and_then(TcpListener::from_std) {
                Ok(listener) if socket.door.way == Way::Outgoing => {
                    explicit.spawn_local(accept(worker.clone(), socket.clone(), listener));
                }
                Ok(listener) => worker.spawn(accept(worker.clone(), socket.clone(), listener)),
                Err(cause) => tracing::error!(worker = worker.id, %cause, "listener is lost to this worker"),
            }
        }
        drop(there);
        if sockets.changed().await.is_err() {
            return;
        }
    }
}

/// Accepts until this listener is to close, and then whoever had connected until then.
async fn accept(worker: Rc<Worker>, socket: Arc<Socket>, listener: TcpListener) {
    let drain = worker.shared.drain.clone();
    let (door, retired) = (socket.door.clone(), socket.retired());
    // The worker's duplicate is what keeps it open.
    drop(socket);
    let drains = async {
        match door.way {
            Way::Outgoing => drain.last_call().await,
            Way::Transparent | Way::Admin | Way::Probes => drain.closing().await,
        }
    };
    let closes = async {
        tokio::select! {
            () = drains => {}
            () = retired.cancelled() => {}
        }
    };
    let mut closes = pin!(closes);
    loop {
        let next = tokio::select! {
            biased;
            () = closes.as_mut() => break,
            next = listener.accept() => next,
        };
        worker.take_in(&door, next).await;
    }
    let latest = time::Instant::now() + QUIET_WITHIN;
    loop {
        let quiet = latest.min(time::Instant::now() + QUIET);
        let Ok(next) = time::timeout_at(quiet, listener.accept()).await else { return };
        worker.take_in(&door, next).await;
    }
}

impl Worker {
    /// Takes in what accept returned: a connection that may come in gets a task of its own.
    async fn take_in(self: &Rc<Self>, door: &Arc<Door>, next: std::io::Result<(TcpStream, SocketAddr)>) {
        let (stream, client) = match next {
            Ok(accepted) => accepted,
            Err(cause) => {
                door.turn_away(Turned::AcceptFailed);
                tracing::warn!(listener = door.way.label(), %cause, "cannot accept");
                return time::sleep(PAUSE).await;
            }
        };
        if !door.permits(client.ip()) {
            return door.turn_away(Turned::NotAllowed);
        }
        // At the limit this one waits here, and the others in the accept queue.
        let entry = door.enter().await.used();
        self.spawn(connection::live(self.clone(), door.clone(), entry, stream, client));
    }

    /// Runs `task` on this worker; weir does not stop before it has ended, or its time is over.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(self.shared.drain.tasks().track_future(task));
    }

    /// The current world.
    pub fn world(&self) -> Arc<World> {
        self.shared.world.load_full()
    }

    /// The right to use one endpoint of `cluster` once, for `client`.
    ///
    /// # Errors
    ///
    /// As [`Cluster::lease`].
    pub fn lease(
        &self,
        cluster: &Arc<Cluster>,
        client: &SocketAddr,
        tried: &[Arc<Backend>],
        now: Instant,
    ) -> Result<Lease, Fault> {
        cluster.lease(now, &mut self.rng.borrow_mut(), client, tried)
    }

    /// The cluster of the service that owns the address a session `dialled`, or else of that very address.
    pub fn cluster_of(&self, world: &World, session: &Session, dialled: SocketAddr) -> Arc<Cluster> {
        let fixed = || self.shared.outside.fixed(dialled, Instant::now());
        match world.owner(dialled) {
            Some(owner) => owner.cluster.clone(),
            None => {
                let mut known = session.outside.borrow_mut();
                // One that was forgotten meanwhile keeps no connections, and its successor does.
                known.take_if(|cluster| cluster.is_retired());
                known.get_or_insert_with(fixed).clone()
            }
        }
    }
}

/// Shows that this worker is alive, and looks for endpoints that are not.
async fn beat(worker: Rc<Worker>) {
    let mut ticks = time::interval(BEAT);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        let alive = millis(now.saturating_duration_since(worker.shared.epoch));
        worker.shared.beats[worker.id].store(alive, Ordering::Relaxed);
        worker.watch.sweep(now);
    }
}

/// Drops this worker's unused connections when their time is over.
async fn sweep(worker: Rc<Worker>) {
    loop {
        let (world, now) = (worker.world(), Instant::now());
        worker.routes.sweep(&world, now);
        let mut others = worker.shared.outside.clusters();
        others.extend(world.views());
        let limit = world.terms.limits.pool_idle;
        let mut next = None;
        for cluster in world.clusters().iter().chain(&others) {
            for member in &cluster.members().all {
                next = earlier(next, member.backend.pool(worker.id).sweep(now, limit));
            }
        }
        worker.shared.outside.sweep(now);
        drop((world, others));
        time::sleep(until_sweep(now, next, limit)).await;
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// How long after `now` to look again, where the time of the `next` of the unused connections is over then, and no other's
/// is before `limit` is.
fn until_sweep(now: Instant, next: Option<Instant>, limit: Duration) -> Duration {
    let left = next.map_or(limit, |next| next.saturating_duration_since(now).min(limit));
    left.clamp(LATE, SWEEP)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_connections_are_looked_over_when_the_first_ones_time_is_over_and_every_five_seconds() {
        let now = Instant::now();
        let ms = Duration::from_millis;
        for (next, limit, after) in [
            (None, 60_000, 5_000),
            (Some(40_000), 60_000, 5_000),
            (Some(4_000), 60_000, 4_000),
            (Some(800), 60_000, 800),
            // Those that end within half a second end together.
            (Some(0), 60_000, 500),
            (Some(100), 60_000, 500),
            // One that comes back in a moment may be the first.
            (None, 1_000, 1_000),
            (Some(40_000), 2_000, 2_000),
            (None, 1, 500),
        ] {
            let next = next.map(|next| now + ms(next));
            assert_eq!(until_sweep(now, next, ms(limit)), ms(after), "{next:?} of {limit}");
        }
    }
}
