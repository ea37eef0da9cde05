//! Building a world from a catalog, keeping what is still named of the one before.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::RandomState;

use super::{Named, Node, Port, World};
use crate::config::{Allow, Limits};
use crate::domain::catalog::{Catalog, Namer, Service, ServiceKey};
use crate::domain::dtab::Dtab;
use crate::domain::identify::Identifier;
use crate::domain::name::{Host, Path, Rules};
use crate::domain::policy::Policies;
use crate::domain::route::Configured;
use crate::proxy::cluster::{Cluster, Plan};

/// Everything a world is made of but the catalog: it changes only with the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// How names become canonical.
    pub rules: Rules,
    /// Whether names outside are looked up.
    pub dns: bool,
    /// The base dtab, and the configuration's after it.
    pub dtab: Arc<Dtab>,
    /// Whose requests may bring dtab entries of their own.
    pub overrides: Allow,
    /// What the names of explicit requests start with.
    pub prefix: Path,
    /// How those names are made.
    pub identifiers: Vec<Identifier>,
    /// The namers, in the order they are asked.
    pub namers: Vec<Configured>,
    /// What of that is otherwise for some names.
    pub policies: Arc<Policies>,
    /// What attempts may take.
    pub limits: Limits,
    /// What clusters are made with; those outside the catalog exactly so.
    pub plan: Plan,
    /// This node.
    pub node: Node,
}

impl World {
    /// The world of `terms` and `catalog`. Clusters of `before` that still exist and were made with the same plan
    /// are kept.
    pub fn build(terms: &Terms, catalog: Arc<Catalog>, before: Option<&Self>, now: Instant) -> Self {
        let mut world = Self {
            catalog: catalog.clone(),
            terms: terms.clone(),
            services: HashMap::with_capacity_and_hasher(catalog.services.len(), RandomState::default()),
            names: HashMap::with_capacity_and_hasher(catalog.services.len(), RandomState::default()),
            owners: HashMap::default(),
            none: Dtab::default(),
        };
        for (key, service) in &catalog.services {
            let host = host_name(key, &terms.rules);
            let ports = service.ports.iter().enumerate().map(|(at, port)| {
                let plan = terms.plan_of(service, &host, at);
                let name = cluster_name(key, &host, port.number);
                let kept = before.and_then(|before| before.kept(key, &name, &plan));
                let cluster = kept.unwrap_or_else(|| Arc::new(Cluster::new(name, plan)));
                cluster.keep_views(|view| terms.still_has(view));
                cluster.apply(&port.endpoints, now);
                Port { name: port.name.clone(), number: port.number, protocol: port.protocol, cluster }
            });
            let ports = ports.collect();
            world.add(key, host, service, ports);
        }
        if let Some(before) = before {
            world.retire_what_went(before);
        }
        world
    }

    fn retire_what_went(&self, before: &Self) {
        for (key, cluster) in before.clusters() {
            if !self.clusters_of(key).any(|kept| Arc::ptr_eq(kept, cluster)) {
                cluster.retire();
            }
        }
    }

    fn kept(&self, key: &ServiceKey, name: &str, plan: &Plan) -> Option<Arc<Cluster>> {
        let port = self.services.get(key)?.iter().find(|port| *port.cluster.name == *name)?;
        (port.cluster.plan == *plan).then(|| port.cluster.clone())
    }

    fn add(&mut self, key: &ServiceKey, host: Box<str>, service: &Service, ports: Vec<Port>) {
        let named: &mut Named = self.names.entry(host).or_default();
        match key.namer {
            Namer::Fs => named.fs = Some(key.clone()),
            Namer::K8s => named.k8s = Some(key.clone()),
        }
        for address in &service.addresses {
            let address: IpAddr = address.to_canonical();
            for (at, port) in ports.iter().enumerate() {
                // Two services with one address and port: the first by key keeps it, whatever the order of events.
                self.owners.entry((address, port.number)).or_insert_with(|| (key.clone(), at));
            }
        }
        self.services.insert(key.clone(), ports);
    }
}

/// Whether two versions of a service differ in their endpoints only.
pub(super) fn same_shape(before: &Service, after: &Service) -> bool {
    before.addresses == after.addresses
        && before.written == after.written
        && before.ports.len() == after.ports.len()
        && before.ports.iter().zip(&after.ports).all(|(before, after)| {
            (&before.name, before.number, before.protocol) == (&after.name, after.number, after.protocol)
        })
}

/// The canonical host of a service: its name, with its namespace unless that is the default one.
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
    Host { host: host.into(), port }.to_string().into()
}
