//! The state of the whole control plane.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Notify;

use super::catalogs::Catalogs;
use super::configuration::Configuration;
use super::direct::Direct;
use super::files::FileDiscovery;
use super::handover::Handover;
use super::netns::Netns;
use super::programs::Programs;
use super::readiness::Readiness;
use crate::config::{Settings, Transparent};
use crate::discovery::kubernetes::{Cluster, DtabKeeper, Health, IngressKeeper};
use crate::domain::enrol::Enrolment;
use crate::identity::Identities;
use crate::intercept::Interception;
use crate::proxy::listener::Listener;
use crate::proxy::worker::Shared;

/// The control plane's view of a running weir.
pub struct State {
    /// The state that the workers share.
    pub shared: Arc<Shared>,
    /// Every listener, open or not.
    listeners: ArcSwap<Vec<Arc<Listener>>>,
    /// The settings in force, and the result of the last reload.
    pub configuration: Configuration,
    /// The catalog in force, and its change counters.
    pub catalogs: Catalogs,
    /// The eBPF programs, or why they are not loaded.
    pub programs: Programs,
    /// The network namespaces in which weir listens.
    pub netns: Netns,
    /// Connections that were opened while nothing diverted them.
    pub direct: Direct,
    /// Which of this node's pods are diverted; `None` if enrolment is not by pod, or no pod is known yet.
    pub enrolment: ArcSwapOption<Enrolment>,
    /// Who this node's pods are to other weirs.
    pub identities: Arc<Identities>,
    /// What weir could not use from `discovery.files`.
    pub files: FileDiscovery,
    /// The state of discovery by an API server, if configured.
    pub kubernetes: Option<Arc<Health>>,
    /// The dtabs that are kept in the cluster, if there is one.
    pub dtabs: Option<Arc<DtabKeeper>>,
    /// The rules of the cluster's Ingresses, if there is one.
    pub ingresses: Option<Arc<IngressKeeper>>,
    /// The weir before this one, and the next.
    pub handover: Handover,
    /// Whether weir is ready.
    pub ready: Readiness,
    /// Requests that weir stops.
    pub stop: Notify,
}

impl State {
    /// The state of a weir that is about to start.
    pub fn new(
        shared: Arc<Shared>,
        listeners: Vec<Arc<Listener>>,
        settings: Settings,
        interception: Result<Interception, String>,
        cluster: Option<&Cluster>,
    ) -> Arc<Self> {
        let ready = Readiness::default();
        if let Some(transparent) = &settings.transparent {
            let missing = interception.as_ref().err().filter(|_| transparent.is_due());
            ready.set("interception", missing.map_or(Ok(()), |why| Err(why.clone())));
        }
        let catalog = shared.routing.snapshot.load().catalog.clone();
        let identities = shared.connecting.identities.clone();
        Arc::new(Self {
            shared,
            listeners: ArcSwap::from_pointee(listeners),
            configuration: Configuration::new(settings),
            catalogs: Catalogs::new(catalog),
            programs: Programs::new(interception),
            netns: Netns::default(),
            direct: Direct::default(),
            enrolment: ArcSwapOption::empty(),
            identities,
            files: FileDiscovery::default(),
            kubernetes: cluster.map(Cluster::health),
            dtabs: cluster.map(Cluster::dtabs),
            ingresses: cluster.map(Cluster::ingresses),
            handover: Handover::default(),
            ready,
            stop: Notify::new(),
        })
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.configuration.in_force()
    }

    /// Whether weir is unready without interception.
    pub fn interception_is_due(&self) -> bool {
        self.settings().transparent.as_ref().is_some_and(Transparent::is_due)
    }

    /// The listeners that are open or have open connections.
    pub fn listeners(&self) -> Vec<Arc<Listener>> {
        self.listeners.load().iter().filter(|listener| listener.is_used()).cloned().collect()
    }

    /// Charges connections to the pods that their clients have turned out to be.
    pub fn recharge(&self) {
        self.listeners.load().iter().for_each(|listener| listener.recharge(&self.shared.holders));
    }

    /// Makes these the listeners, besides earlier ones with open connections.
    pub fn follow(&self, listeners: Vec<Arc<Listener>>) {
        let is_new = |it: &&Arc<Listener>| !listeners.iter().any(|other| other.id == it.id);
        let left = self.listeners().iter().filter(is_new).cloned().collect::<Vec<_>>();
        self.listeners.store(Arc::new(listeners.into_iter().chain(left).collect()));
    }

    /// Client connections open now.
    pub fn open_connections(&self) -> usize {
        let listeners = self.listeners.load();
        let data = listeners.iter().filter(|it| it.kind.is_data());
        data.map(|listener| listener.open.value()).sum()
    }
}
