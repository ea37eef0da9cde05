//! The whole configuration, checked.

use std::sync::Arc;
use std::thread;

use ipnet::IpNet;

use crate::domain::dtab::Dtab;
use crate::domain::policy::Policies;
use crate::domain::route::Configured;

use super::{
    Admin, Allow, Breaker, Discovery, Drain, Enrol, Limits, Log, Names, Outgoing, Probes, Readers,
    Transparent,
};

/// Everything that can be configured, one field per section of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `outgoing`: the explicit HTTP proxy. On unless `listen` says none.
    pub outgoing: Outgoing,
    /// `transparent`: the listeners for diverted connections. Absent means that nothing is diverted.
    pub transparent: Option<Transparent>,
    /// `admin`: dashboard, API, metrics and health. Always on.
    pub admin: Admin,
    /// `probes`: the listener for kubelet and Prometheus. Absent means off.
    pub probes: Option<Probes>,
    /// `workers`: data-plane threads, 1 to 64. Default: the cores this process may use, at most 4.
    pub workers: usize,
    /// `names`: how names are made canonical and bound.
    pub names: Names,
    /// `drain`: how weir stops.
    pub drain: Drain,
    /// `discovery`: where services come from.
    pub discovery: Discovery,
    /// `baseDtab` and `dtab`: how names are rewritten, the second after the first.
    pub dtab: Arc<Dtab>,
    /// `namers`: who is asked about names that start with `/#`. Several may have one prefix; the next is asked when one
    /// has no answer. Default: `/#/io.l5d.fs` and `/#/io.l5d.k8s`.
    pub namers: Vec<Configured>,
    /// `refuse`: ranges that weir does not connect to, beside those that it never does. Default: none.
    pub refuse: Vec<IpNet>,
    /// `limits`: every bound on a buffer, a table or a wait.
    pub limits: Limits,
    /// `breaker`: when an endpoint is taken out of balancing, and for how long.
    pub breaker: Breaker,
    /// `policies`: what of `limits` and `breaker` is otherwise for some names.
    pub policies: Arc<Policies>,
    /// `log`: weir's own log.
    pub log: Log,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            outgoing: Outgoing::default(),
            transparent: None,
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
    /// Who may read `/metrics` at the probes' listener: what `probes.metrics` says, else with an API server whoever has a token
    /// that it vouches for, and without one every client that may connect. Nobody where there is no such listener.
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

    /// Whose connections are diverted: what `transparent.enrol` says, else the pods' that an API server tells of, else
    /// everybody's.
    pub fn enrol(&self) -> Enrol {
        let unsaid = if self.discovery.kubernetes.is_some() { Enrol::Pods } else { Enrol::All };
        self.transparent.as_ref().and_then(|it| it.enrol).unwrap_or(unsaid)
    }
}

/// The cores this process may use (affinity and cgroup quota counted), at most 4: one worker moves tens of
/// thousands of requests a second, and a proxy should not take the node from its applications.
fn default_workers() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(4)
}
