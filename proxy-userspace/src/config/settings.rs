//! The whole configuration, checked.

use std::sync::Arc;
use std::thread;

use ipnet::IpNet;

use crate::domain::dtab::Dtab;
use crate::domain::policy::{Policies, RequestPolicy, Rule};
use crate::domain::route::{Configured, Pattern};

use super::{
    Admin, Allow, Breaker, Contexts, Destinations, Discovery, Drain, Enrol, Identity, LeadsTo, Limits, Log,
    Names, Outgoing, Probes, Readers, Transparent,
};

/// The whole configuration, one field per section of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `outgoing`: the explicit HTTP proxy, or the first of several. On unless `listen` is `none`.
    pub outgoing: Outgoing,
    /// The other routers, where `outgoing` is a list.
    pub routers: Vec<Outgoing>,
    /// `transparent`: the listeners for diverted connections. If absent, nothing is diverted.
    pub transparent: Option<Transparent>,
    /// `identity`: who this node's pods are to other weirs. If absent, weir has no identities.
    pub identity: Option<Identity>,
    /// `admin`: dashboard, API, metrics and health. Always on.
    pub admin: Admin,
    /// `probes`: the listener for kubelet and Prometheus. If absent, it is off.
    pub probes: Option<Probes>,
    /// `workers`: data-plane threads, 1 to 64. Default: the cores available to this process, at most 4.
    pub workers: usize,
    /// `names`: how names are made canonical and bound.
    pub names: Names,
    /// `drain`: how weir stops.
    pub drain: Drain,
    /// `discovery`: where services come from.
    pub discovery: Discovery,
    /// `baseDtab` and `dtab`: how names are rewritten; the entries of `dtab` follow those of `baseDtab`.
    pub dtab: Arc<Dtab>,
    /// `namers`: the namers for names that start with `/#`. Several may have the same prefix; the next one is asked if
    /// one has no answer. Default: `/#/io.l5d.fs` and `/#/io.l5d.k8s`.
    pub namers: Vec<Configured>,
    /// `refuse`: ranges that weir does not connect to, besides those that it always refuses. Default: none.
    pub refuse: Vec<IpNet>,
    /// `limits`: every bound on a buffer, a table or a wait.
    pub limits: Limits,
    /// `breaker`: when an endpoint is ejected, and for how long.
    pub breaker: Breaker,
    /// `policies`: exceptions from `limits` and `breaker` for some names.
    pub policies: Arc<Policies>,
    /// `log`: weir's own log.
    pub log: Log,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            outgoing: Outgoing::default(),
            routers: Vec::new(),
            transparent: None,
            identity: None,
            admin: Admin::default(),
            probes: None,
            workers: default_workers(),
            names: Names::default(),
            drain: Drain::default(),
            discovery: Discovery::default(),
            dtab: Arc::new(Dtab::base()),
            namers: Configured::defaults(),
            refuse: Vec::new(),
            limits: Limits::default(),
            breaker: Breaker::default(),
            policies: Arc::default(),
            log: Log::default(),
        }
    }
}

impl Settings {
    /// Who may read `/metrics` at the probes' listener: as in `probes.metrics`, else with an API server the clients
    /// with a token that it accepts, and without one every client that may connect. Nobody if there is no such
    /// listener.
    pub fn readers(&self) -> Readers {
        let is_on_kubernetes = self.discovery.kubernetes.is_some();
        let Some(Probes { allow, metrics, .. }) = &self.probes else {
            return Readers { allow: Allow::new(Vec::new()), tokens: false };
        };
        let unsaid = || if is_on_kubernetes { Allow::new(Vec::new()) } else { allow.clone() };
        Readers {
            allow: metrics.allow.clone().unwrap_or_else(unsaid),
            tokens: metrics.tokens.unwrap_or(is_on_kubernetes),
        }
    }

    /// The routers of explicit requests, in the order of the file.
    pub fn all_routers(&self) -> impl Iterator<Item = &Outgoing> {
        std::iter::once(&self.outgoing).chain(&self.routers)
    }

    /// The dtab of a router.
    pub fn dtab_of<'a>(&'a self, router: &'a Outgoing) -> &'a Arc<Dtab> {
        router.dtab.as_ref().unwrap_or(&self.dtab)
    }

    /// From whom a router believes `l5d-ctx-dtab`: as in `outgoing.contexts`, else with an API server nobody, and without
    /// one everybody.
    pub fn contexts_of(&self, router: &Outgoing) -> Contexts {
        match (&router.contexts, &self.discovery.kubernetes) {
            (Some(contexts), _) => contexts.clone(),
            (None, Some(_)) => Contexts::nobody(),
            (None, None) => Contexts::everyone(),
        }
    }

    /// Where a router leads: as in `outgoing.destinations`. Without an API server, what is left to weir is anywhere.
    pub fn destinations_of(&self, router: &Outgoing) -> Destinations {
        let mut destinations = router.destinations.clone();
        if destinations.to == LeadsTo::Auto && self.discovery.kubernetes.is_none() {
            destinations.to = LeadsTo::Any;
        }
        destinations
    }

    /// The policies for the requests of a router.
    pub fn policies_of(&self, router: &Outgoing) -> Arc<Policies> {
        let all = router.requests != RequestPolicy::default();
        if !all && router.services.is_none() {
            return self.policies.clone();
        }
        let all = all.then(|| Rule { prefix: Pattern::everything(), settings: router.requests });
        let services = router.services.as_ref().unwrap_or(&self.policies.services);
        Arc::new(Policies {
            services: all.into_iter().chain(services.iter().cloned()).collect(),
            clients: self.policies.clients.clone(),
        })
    }

    /// Whose connections are diverted: as in `transparent.enrol`, else those of pods if an API server reports them,
    /// else all.
    pub fn enrol(&self) -> Enrol {
        let unsaid = if self.discovery.kubernetes.is_some() { Enrol::Pods } else { Enrol::All };
        self.transparent.as_ref().and_then(|it| it.enrol).unwrap_or(unsaid)
    }
}

/// The cores available to this process (by affinity and cgroup quota), at most 4: one worker serves tens of thousands
/// of requests per second, and the node's cores are for its applications.
fn default_workers() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(4)
}
