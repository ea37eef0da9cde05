//! All wiring: what `weir run` builds, starts and stops, in order.
//!
//! The main thread is the control plane: discovery, the snapshot's reconciler, interception, the admin. It runs beside
//! the workers, so that a saturated proxy can still be inspected. Each of its tasks is named and restarted, and
//! readiness is off while one is down (`tasks`).

mod adopt;
mod announce;
mod apply;
mod cluster;
mod descriptors;
mod destinations;
mod enrol;
mod explicit;
mod handover;
mod heartbeat;
mod identity;
mod inherited;
mod intercept;
mod listeners;
mod memory;
mod netns;
mod objects;
mod owners;
mod probe_socket;
mod reconciler;
mod reload;
mod router_moves;
mod routers;
mod services;
mod signals;
mod stop;
mod sweep;
mod tasks;
mod watchdog;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use self::stop::Stopping;
use crate::admin::Server;
use crate::allocator;
use crate::cli::EX_CONFIG;
use crate::config::{self, LogFormat, Settings};
use crate::control::{SocketPlace, State};
use crate::discovery::dns::Dns;
use crate::discovery::files;
use crate::domain::catalog::{Awaited, Catalog};
use crate::drain::Drain;
use crate::proxy::downstream;
use crate::proxy::listener::sockets::{Socket, Sockets};
use crate::proxy::pod_clients::PodClients;
use crate::proxy::routing::Routing;
use crate::proxy::routing::external::ExternalClusters;
use crate::proxy::routing::snapshot::{RoutingConfig, Snapshot};
use crate::proxy::upstream::Connecting;
use crate::proxy::worker::Shared;
use crate::telemetry::log;
use crate::transport::{Connector, KernelBuffers, ReceiveBuffers, Sources};

/// Runs weir until a signal or the admin stops it, and returns the exit code.
pub fn run(file: Option<PathBuf>) -> ExitCode {
    let file = file.map(reload::File::at);
    let settings = match config::load(file.as_ref().map(reload::File::path)) {
        Ok(settings) => settings,
        Err(error) => {
            log::say(error);
            return ExitCode::from(EX_CONFIG);
        }
    };
    let lines = match settings.log.format {
        LogFormat::Text => log::Lines::Text,
        LogFormat::Json => log::Lines::Json,
    };
    let log = log::start(lines, settings.log.level.as_str(), settings.log.queue);
    // Before anything is bound or attached: a mistake for `weir check` is a mistake here too.
    let drain = Drain::default();
    let services = match services::Services::open(&settings, drain.token()) {
        Ok(services) => services,
        Err(error) => {
            drop(log);
            log::say(format_args!("weir: {error:#}"));
            return ExitCode::from(EX_CONFIG);
        }
    };
    let ran = control(live(file, settings, services, drain));
    // The reason is printed last.
    drop(log);
    match ran {
        Ok(explicit) => {
            // The kernel closes the listeners with the process. Until then nobody is refused: the allocator alone takes some
            // milliseconds after `main`.
            std::mem::forget(explicit);
            ExitCode::SUCCESS
        }
        Err(error) => {
            log::say(format_args!("weir: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs the control plane until it ends.
fn control<T>(live: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("no runtime for the control plane")?;
    let ran = runtime.block_on(live);
    // Does not wait for blocking threads, for example one that reads a folder on a server that does not answer.
    runtime.shutdown_background();
    ran
}

/// Opens all sockets, runs weir and stops it. Returns the last socket: once it is closed, clients are refused.
async fn live(
    file: Option<reload::File>,
    settings: Settings,
    services: services::Services,
    drain: Drain,
) -> anyhow::Result<Option<explicit::Explicit>> {
    let mut signals = signals::Signals::new()?;
    // Before anything that takes time: kubelet asks from the start.
    let probes = settings.probes.as_ref().and_then(|it| it.socket.as_deref());
    let probes = probe_socket::ProbeSocket::open(probes)?;
    let Some((chosen, bound)) = bind(&settings, &mut signals).await? else { return Ok(None) };
    let netns::Chosen { place, in_pods: prepared } = chosen;
    let in_pods = prepared.is_some();
    let (following, before, mut listeners) = bound;
    listeners.follow(&settings, descriptors::connections(&settings, in_pods)?);
    let interception = intercept::attach(&settings, &listeners, prepared.as_ref());
    if let Some(cluster) = &services.cluster {
        objects::want(cluster, &[&settings]);
    }
    let node = reconciler::node(listeners.bound(), listeners.routers.ids());
    let config = reconciler::config(&settings, node, &objects::Known::default());
    // What the weir before this one accepts on, it accepts on until this one is ready.
    let sockets = listeners.open_data();
    let shared = share(&settings, &config, &services, sockets, interception.as_ref().ok(), drain.clone());
    let alive = TaskTracker::new();
    let workers = (0..settings.workers)
        .map(|id| downstream::start(id, shared.clone(), alive.token()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let (all, cluster) = (listeners.all(), services.cluster.as_deref());
    let reviews = cluster.map(|it| it.reviews());
    let control = State::new(shared, all, settings, interception.map_err(|why| why.to_string()), cluster);
    tell_sockets(&control, place, &listeners);
    probes.tell_of(&control);
    let server = Server::new(control.clone(), reviews);
    let (config, _) = watch::channel(config);
    // Before anything is diverted: the tasks set the destinations.
    let _threads = (heartbeat::start(&control)?, memory::start(&control)?);
    tasks::start(&control, &server, &services, &config);
    identity::begin(&control).await;
    let pods = netns::start(&control, prepared, listeners.in_pods());
    server.secure_probes(&control.settings())?;
    listeners.serve(&server)?;
    allocator::give_back();
    listeners.announce();
    let listeners = Arc::new(Mutex::new(listeners));
    let running =
        apply::Running { control: control.clone(), server, config, listeners: listeners.clone(), services };
    handover::start(following, before, &control, &running.server, &listeners);
    reload::start(file, running, signals.hangup()?);

    let stopping = Stopping { control: &control, drain: &drain, listeners: &listeners, alive: &alive };
    let explicit = stopping.run(&mut signals, pods.as_deref()).await;
    join(workers);
    if let Some(pods) = pods {
        pods.lock().await.leave_all().await;
    }
    explicit
}

/// Chooses where weir's sockets are, and binds all listeners; `None` if weir is told to stop before it could.
async fn bind(
    settings: &Settings,
    signals: &mut signals::Signals,
) -> anyhow::Result<Option<(netns::Chosen, handover::Bound)>> {
    let bind = async {
        let chosen = netns::choose(settings).await;
        let bound = handover::bind(settings, chosen.in_pods.is_some()).await?;
        Ok(Some((chosen, bound)))
    };
    tokio::select! {
        bound = bind => bound,
        why = signals.told() => {
            tracing::info!(why, "weir ends before it serves");
            Ok(None)
        }
    }
}

/// The services that `settings` name, read once. Does not ask an API server.
///
/// # Errors
///
/// The folder cannot be listed.
pub fn catalog_of(settings: &Settings) -> anyhow::Result<Arc<Catalog>> {
    let mut catalog = match &settings.discovery.files {
        Some(folder) => files::read_files(folder)?.0,
        None => Catalog::default(),
    };
    if settings.discovery.kubernetes.is_some() {
        let why: Arc<str> = "the API server was not asked; a running weir has them".into();
        catalog.awaited = Some(Awaited { brief: why.clone(), why, is_failing: true });
    }
    Ok(Arc::new(catalog))
}

/// The configuration from `settings`, for a snapshot that is only inspected.
pub fn config_of(settings: &Settings) -> RoutingConfig {
    reconciler::config(settings, reconciler::node(Vec::new(), Vec::new()), &objects::Known::default())
}

/// The state shared by all workers.
fn share(
    settings: &Settings,
    config: &RoutingConfig,
    services: &services::Services,
    sockets: Vec<Arc<Socket>>,
    interception: Option<&crate::intercept::Interception>,
    drain: Drain,
) -> Arc<Shared> {
    let dns = settings.names.dns.as_ref().map(Dns::new);
    let outside = ExternalClusters::new(config, dns, Handle::current());
    let snapshot = Snapshot::build(config, services.catalog(), None);
    let received = Arc::new(ReceiveBuffers::new(settings.limits.receive_buffer));
    Shared::new(
        settings.workers,
        Routing::new(snapshot, outside),
        Connecting::new(connector(settings, received.clone())),
        Sockets::new(sockets, received),
        interception.map(crate::intercept::Interception::original_dsts),
        interception.and_then(|it| Some(PodClients::new(it.numbers()?, it.pod_ids()?, it.callers()?))),
        drain,
    )
}

/// Says where weir's sockets for diverted connections are.
fn tell_sockets(control: &State, place: Option<SocketPlace>, listeners: &listeners::BoundListeners) {
    if let Some(place) = place {
        netns::tell_place(control, place);
    }
    if let Some(why) = &listeners.no_transparent {
        // Whether it is required or not: the weir before this one diverts.
        control.ready.set("transparent", Err(why.clone()));
    }
}

/// Creates the connector for upstream sockets.
fn connector(settings: &Settings, received: Arc<ReceiveBuffers>) -> Connector {
    Connector {
        hop_limit: None,
        unacknowledged: settings.limits.unacknowledged,
        keep_alive: settings.limits.keep_alive,
        sources: Arc::new(Sources::new(source_addresses(settings))),
        buffers: KernelBuffers { received, not_sent: settings.limits.not_sent },
    }
}

/// The node's addresses that `transparent.sourceAddresses` names.
fn source_addresses(settings: &Settings) -> Vec<IpAddr> {
    let wanted = settings.transparent.as_ref().map_or(&[][..], |it| &it.source_addresses);
    if wanted.is_empty() {
        return Vec::new();
    }
    let own = crate::intercept::node_addresses().unwrap_or_default();
    let (own, others): (Vec<_>, Vec<_>) = wanted.iter().copied().partition(|it| own.contains(it));
    if !others.is_empty() {
        tracing::warn!(?others, "transparent.sourceAddresses: no addresses of this node, left out");
    }
    own
}

fn join(workers: Vec<JoinHandle<()>>) {
    for worker in workers {
        if worker.join().is_err() {
            tracing::error!("a worker has panicked");
        }
    }
}
