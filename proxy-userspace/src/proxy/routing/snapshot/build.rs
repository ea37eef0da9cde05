//! Builds a snapshot from a catalog: completely when the configuration changes, incrementally when services do.

use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;
use ipnet::IpNet;
use smallvec::SmallVec;

use super::dependencies::{ChangeLog, Dependency};
use super::{Claim, Node, PolicySource, Port, Snapshot};
use crate::config::{Allow, Contexts, Destinations, Limits, Served, TunnelRules};
use crate::domain::balance::Balancer;
use crate::domain::catalog::{Catalog, Changes, Namer, NodePort, Service, ServiceKey};
use crate::domain::dtab::Dtab;
use crate::domain::identify::Identifier;
use crate::domain::name::{Path, Rules};
use crate::domain::policy::Policies;
use crate::domain::route::Configured;
use crate::domain::ssrf::Exempt;
use crate::proxy::listener::ListenerId;
use crate::proxy::upstream::cluster::{ClusterPolicy, LazyCluster, View};

/// Everything in a snapshot except the catalog: it changes only with the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutingConfig {
    /// How names become canonical.
    pub rules: Rules,
    /// Whether outside names are looked up.
    pub dns: bool,
    /// Whether a short name of an explicit client means its pod's own namespace.
    pub client_namespace: bool,
    /// Address ranges that an answer for a name below the cluster's domain must be in.
    pub cluster_ranges: Allow,
    /// The base dtab, followed by the configuration's.
    pub dtab: Arc<Dtab>,
    /// Clients whose requests may contain dtab entries.
    pub overrides: Allow,
    /// Those of them whose `l5d-ctx-dtab` counts.
    pub contexts: Contexts,
    /// Whose explicit requests are served.
    pub clients: Served,
    /// Where explicit requests may go.
    pub destinations: Destinations,
    /// Clients whose requests for a diagnosis are answered.
    pub diagnostics: Allow,
    /// How the names of explicit requests are made.
    pub identifiers: Vec<Identifier>,
    /// The prefix of those names.
    pub prefix: Path,
    /// The policies for those requests.
    pub requests: Arc<Policies>,
    /// What those clients may ask to be carried unread.
    pub tunnels: TunnelRules,
    /// The listener whose requests these are.
    pub listener: ListenerId,
    /// The label of the router, where it has one of its own.
    pub router: Option<Arc<str>>,
    /// The other routers.
    pub others: Arc<[RouterConfig]>,
    /// The namers, in the order in which they are asked.
    pub namers: Vec<Configured>,
    /// The source of cluster policies.
    pub policies: PolicySource,
    /// Limits on attempts.
    pub limits: Limits,
    /// Data-plane workers.
    pub workers: usize,
    /// Further ranges that weir does not connect to.
    pub refused: Arc<[IpNet]>,
    /// This node.
    pub node: Node,
}

/// What distinguishes a router from the first one. All of them share the catalog, and the clusters with their policies.
#[derive(Clone, Debug, PartialEq)]
pub struct RouterConfig {
    /// As [`RoutingConfig::listener`].
    pub listener: ListenerId,
    /// As [`RoutingConfig::router`].
    pub router: Option<Arc<str>>,
    /// As [`RoutingConfig::dtab`].
    pub dtab: Arc<Dtab>,
    /// As [`RoutingConfig::overrides`].
    pub overrides: Allow,
    /// As [`RoutingConfig::contexts`].
    pub contexts: Contexts,
    /// As [`RoutingConfig::clients`].
    pub clients: Served,
    /// As [`RoutingConfig::destinations`].
    pub destinations: Destinations,
    /// As [`RoutingConfig::diagnostics`].
    pub diagnostics: Allow,
    /// As [`RoutingConfig::identifiers`].
    pub identifiers: Vec<Identifier>,
    /// As [`RoutingConfig::prefix`].
    pub prefix: Path,
    /// As [`RoutingConfig::requests`].
    pub requests: Arc<Policies>,
    /// As [`RoutingConfig::tunnels`].
    pub tunnels: TunnelRules,
}

impl RoutingConfig {
    /// The prefix of the names of explicit requests.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The configuration of another router.
    fn of_router(&self, router: &RouterConfig) -> Self {
        let RouterConfig {
            listener,
            router,
            dtab,
            overrides,
            contexts,
            clients,
            destinations,
            diagnostics,
            identifiers,
            prefix,
            requests,
            tunnels,
        } = router.clone();
        let others = Arc::default();
        Self {
            listener,
            router,
            dtab,
            overrides,
            contexts,
            clients,
            destinations,
            diagnostics,
            identifiers,
            prefix,
            requests,
            tunnels,
            others,
            ..self.clone()
        }
    }
}

impl Snapshot {
    /// The snapshot of `config` and `catalog`. Clusters of `before` that still exist are kept, and adopt their settings
    /// of this snapshot.
    pub fn build(config: &RoutingConfig, catalog: Arc<Catalog>, before: Option<&Self>) -> Self {
        let mut snapshot = Self {
            catalog: catalog.clone(),
            config: config.clone(),
            services: OrdMap::new(),
            owners: OrdMap::new(),
            node_ports: OrdMap::new(),
            registry: before.map(|before| before.registry.clone()).unwrap_or_default(),
            change_log: before.map_or_else(ChangeLog::default, |before| before.change_log.clone()).anew(),
            none: Dtab::default(),
            others: Vec::new(),
        };
        for (key, service) in &catalog.services {
            snapshot.put(key, service, before.and_then(|before| before.services.get(key)));
        }
        if let Some(before) = before {
            for (key, ports) in &before.services {
                snapshot.retire(ports, snapshot.services.get(key));
            }
        }
        snapshot.with_others()
    }

    /// The snapshot after `changes`, which led to `catalog`. It shares everything unchanged with this one: the work is
    /// proportional to the changes.
    pub fn with(&self, catalog: Arc<Catalog>, changes: &Changes) -> Self {
        let mut snapshot = Self {
            catalog: catalog.clone(),
            config: self.config.clone(),
            services: self.services.clone(),
            owners: self.owners.clone(),
            node_ports: self.node_ports.clone(),
            registry: self.registry.clone(),
            change_log: self.change_log.next(),
            none: Dtab::default(),
            others: Vec::new(),
        };
        if changes.awaited {
            snapshot.change_log.change(Dependency::awaited());
        }
        if changes.nodes {
            snapshot.change_log.change(Dependency::nodes());
        }
        for key in changes.removed.iter().chain(&changes.changed).chain(&changes.added) {
            let (old, new) = (self.catalog.services.get(key), catalog.services.get(key));
            if let (Some(old), Some(new)) = (old, new)
                && same_shape(old, new)
            {
                self.apply(key, new);
                continue;
            }
            let ports = snapshot.services.remove(key);
            if let Some(old) = old {
                snapshot.give_up(key, old);
            }
            if let Some(new) = new {
                snapshot.put(key, new, ports.as_ref());
            }
            if let Some(ports) = &ports {
                snapshot.retire(ports, snapshot.services.get(key));
            }
            snapshot.change_log.change(Dependency::service(key));
            for (address, port) in [old, new].into_iter().flatten().flat_map(|it| sockets(it)) {
                snapshot.change_log.change(Dependency::address(address, port));
            }
            for (_, node_port) in [old, new].into_iter().flatten().flat_map(|it| node_ports(it)) {
                snapshot.change_log.change(Dependency::node_port(node_port.number));
            }
        }
        snapshot.with_others()
    }

    /// This snapshot, with those of the other routers: they share all but the rules.
    fn with_others(mut self) -> Self {
        let others = self.config.others.clone();
        self.others = others.iter().map(|router| Arc::new(self.of_router(router))).collect();
        self
    }

    fn of_router(&self, router: &RouterConfig) -> Self {
        Self {
            catalog: self.catalog.clone(),
            config: self.config.of_router(router),
            services: self.services.clone(),
            owners: self.owners.clone(),
            node_ports: self.node_ports.clone(),
            registry: self.registry.clone(),
            change_log: self.change_log.clone(),
            none: Dtab::default(),
            others: Vec::new(),
        }
    }

    /// Applies a service's endpoints to its clusters.
    pub(super) fn apply(&self, key: &ServiceKey, service: &Service) {
        for (port, bound) in service.ports.iter().zip(self.services.get(key).into_iter().flat_map(|it| &**it))
        {
            bound.lazy.apply(&port.endpoints);
        }
    }

    /// Retires the clusters that were in `ports` and are not in `kept`.
    fn retire(&self, ports: &[Port], kept: Option<&Arc<[Port]>>) {
        let stays = |port: &Port| {
            kept.is_some_and(|kept| kept.iter().any(|kept| Arc::ptr_eq(&kept.lazy, &port.lazy)))
        };
        ports.iter().filter(|port| !stays(port)).for_each(|port| port.lazy.retire(&self.registry));
    }

    /// Adds a service, keeping each [`LazyCluster`] of `before` whose port is unchanged; its policy may have changed.
    fn put(&mut self, key: &ServiceKey, service: &Service, before: Option<&Arc<[Port]>>) {
        let host = host_name(key, &self.config.rules);
        let of_service = Arc::new(self.policy(service));
        let exempt = if service.written { Exempt::Written } else { Exempt::ServiceEndpoint };
        let since = self.generation().number();
        let config = &self.config;
        let ports: Arc<[Port]> = service
            .ports
            .iter()
            .enumerate()
            .map(|(at, port)| {
                let policy = config.policy_of(service, &host, at, &of_service);
                let name = cluster_name(key, &host, port.number);
                let is_it = |it: &&Port| it.lazy.name == name && it.lazy.exempt == exempt;
                let kept = before.and_then(|before| before.iter().find(is_it));
                let lazy = match kept {
                    Some(kept) => {
                        kept.lazy.adopt(policy.clone());
                        kept.lazy.apply(&port.endpoints);
                        let of_view = |view: &View| {
                            config.still_has(view).then(|| config.policy_of_view(&view.id, &policy))
                        };
                        if let Some(cluster) = kept.lazy.made() {
                            cluster.keep_views(since, of_view);
                        }
                        kept.lazy.clone()
                    }
                    None => {
                        let kind = (exempt, config.workers);
                        Arc::new(LazyCluster::new(key.clone(), name, kind, policy, port.endpoints.clone()))
                    }
                };
                Port { name: port.name.clone(), number: port.number, protocol: port.protocol, lazy }
            })
            .collect();
        for (address, number) in sockets(service) {
            let Some(port) = ports.iter().find(|port| port.number == number) else { continue };
            let claims = self.owners.entry((address, number)).or_default();
            let claim = Claim { protocol: port.protocol, lazy: port.lazy.clone() };
            // Two services with one address and port: the first by key owns it, whatever the order of events.
            match claims.binary_search_by(|it| it.lazy.service.cmp(key)) {
                Ok(_) => {}
                Err(at) => claims.insert(at, claim),
            }
        }
        for (at, node_port) in node_ports(service) {
            let Some(port) = ports.get(at) else { continue };
            let claims = self.node_ports.entry(node_port.number).or_default();
            let claim = Claim { protocol: port.protocol, lazy: port.lazy.clone() };
            if let Err(at) = claims.binary_search_by(|(_, it)| it.lazy.service.cmp(key)) {
                claims.insert(at, (node_port.at, claim));
            }
        }
        self.services.insert(key.clone(), ports);
    }

    /// Removes the claims of `service` to addresses and node ports.
    fn give_up(&mut self, key: &ServiceKey, service: &Service) {
        for (_, NodePort { number, .. }) in node_ports(service) {
            let Some(claims) = self.node_ports.get_mut(&number) else { continue };
            claims.retain(|(_, it)| it.lazy.service != *key);
            if claims.is_empty() {
                self.node_ports.remove(&number);
            }
        }
        for socket in sockets(service) {
            let Some(claims) = self.owners.get_mut(&socket) else { continue };
            claims.retain(|it| it.lazy.service != *key);
            if claims.is_empty() {
                self.owners.remove(&socket);
            }
        }
    }

    /// The policy of a service for which no policy is configured.
    fn policy(&self, service: &Service) -> ClusterPolicy {
        let all = self.config.policies.all;
        let balancer = if service.affinity.is_some() { Balancer::ClientIp } else { all.balancer };
        ClusterPolicy { balancer, ..all }
    }
}

/// Every address with every port that a service owns.
fn sockets(service: &Service) -> impl Iterator<Item = (IpAddr, u16)> {
    let addresses: SmallVec<[IpAddr; 2]> = service.addresses.iter().map(IpAddr::to_canonical).collect();
    addresses.into_iter().flat_map(|address| service.ports.iter().map(move |port| (address, port.number)))
}

/// Every node port of a service, with the index of its port.
fn node_ports(service: &Service) -> impl Iterator<Item = (usize, NodePort)> {
    service.ports.iter().enumerate().filter_map(|(at, port)| Some((at, port.node_port?)))
}

/// Whether two versions of a service differ in their endpoints only, and not in the names of these.
pub(super) fn same_shape(before: &Service, after: &Service) -> bool {
    before.addresses == after.addresses
        && before.written == after.written
        && before.external_name == after.external_name
        && before.affinity.is_some() == after.affinity.is_some()
        && before.hostnames() == after.hostnames()
        && before.ports.len() == after.ports.len()
        && before.ports.iter().zip(&after.ports).all(|(before, after)| {
            (&before.name, before.number, before.protocol, before.node_port)
                == (&after.name, after.number, after.protocol, after.node_port)
        })
}

/// The canonical host of a service: its name, and its namespace unless that is the default one.
fn host_name(key: &ServiceKey, rules: &Rules) -> Box<str> {
    if key.namespace.is_empty() || *key.namespace == *rules.namespace {
        (&*key.name).into()
    } else {
        format!("{}.{}", key.name, key.namespace).into()
    }
}

fn cluster_name(key: &ServiceKey, host: &str, port: u16) -> Box<str> {
    let port = match key.namer {
        Namer::Fs => None,
        Namer::K8s => Some(port).filter(|&port| port != 80),
    };
    format!("/svc/{}", super::policies::label_of(host, port)).into()
}
