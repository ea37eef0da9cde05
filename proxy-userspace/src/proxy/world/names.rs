//! What the namers know: the catalog, seen by delegation.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::plans::default_port;
use super::{Port, World};
use crate::domain::catalog::{Namer, ServiceKey};
use crate::domain::name::{Host, Labels, Path, ServiceName};
use crate::domain::route::{Answer, Kind, Names, Transformer};
use crate::proxy::cluster::Cluster;

impl Names for World {
    type Port = Arc<Cluster>;

    fn find(&self, kind: &Kind, rest: Labels<'_>) -> Answer<Arc<Cluster>> {
        match kind {
            Kind::Fs => self.file(rest),
            Kind::K8s => match (rest.text(0), rest.text(1), rest.text(2)) {
                (Some(namespace), Some(port), Some(name)) => found(self.service(namespace, name, port), 3),
                _ => Answer::Neg,
            },
            Kind::K8sNamespace(namespace) => match (rest.text(0), rest.text(1)) {
                (Some(port), Some(name)) => found(self.service(namespace, name, port), 2),
                _ => Answer::Neg,
            },
            Kind::Host => self.host(rest),
            Kind::Dns => self.outside(rest),
        }
    }

    fn transformed(&self, port: Arc<Cluster>, steps: &[Transformer], id: &Path) -> Arc<Cluster> {
        let plan = self.terms.plan_of_view(id, port.plan.exempt);
        port.view(steps, id, plan, &self.terms.node.own, Instant::now())
    }

    fn why_not(&self, kind: &Kind, rest: Labels<'_>) -> String {
        match kind {
            Kind::Fs => format!("no file is named {}", rest.text(0).unwrap_or_default()),
            Kind::K8s => match (rest.text(0), rest.text(1), rest.text(2)) {
                (Some(namespace), Some(port), Some(name)) => self.no_service(namespace, name, Some(port)),
                _ => "expected a namespace, a port and a service".to_owned(),
            },
            Kind::K8sNamespace(namespace) => match (rest.text(0), rest.text(1)) {
                (Some(port), Some(name)) => self.no_service(namespace, name, Some(port)),
                _ => "expected a port and a service".to_owned(),
            },
            Kind::Host => self.no_host(rest),
            Kind::Dns => self.not_outside(rest),
        }
    }
}

fn found(port: Option<&Port>, taken: usize) -> Answer<Arc<Cluster>> {
    match port {
        Some(port) => Answer::Port { port: port.cluster.clone(), taken },
        None => Answer::Neg,
    }
}

impl World {
    fn file(&self, rest: Labels<'_>) -> Answer<Arc<Cluster>> {
        let key = rest.text(0).and_then(|name| self.names.get(name)).and_then(|named| named.fs.as_ref());
        found(key.and_then(|key| self.services.get(key)).and_then(|ports| ports.first()), 1)
    }

    fn service(&self, namespace: &str, name: &str, port: &str) -> Option<&Port> {
        let ports = self.services.get(&k8s(namespace, name))?;
        let number: Option<u16> = port.parse().ok();
        ports.iter().find(|it| it.name.as_deref() == Some(port) || Some(it.number) == number)
    }

    /// `weir.host`: a Service by its canonical host, or by its address.
    fn host(&self, rest: Labels<'_>) -> Answer<Arc<Cluster>> {
        let Some(host) = rest.text(0).and_then(|label| self.terms.rules.canonical(label).ok()) else {
            return Answer::Neg;
        };
        if let Some(address) = host.literal() {
            let owner = self.owner(SocketAddr::new(address, host.port.unwrap_or(80)));
            return owner.map_or(Answer::Neg, |owner| Answer::Port { port: owner.cluster, taken: 1 });
        }
        let ports =
            self.names.get(&*host.host).and_then(|it| it.k8s.as_ref()).and_then(|key| self.services.get(key));
        found(ports.and_then(|ports| self.port(&host, ports)), 1)
    }

    /// `weir.dns`: what DNS may know, and addresses as they stand.
    fn outside(&self, rest: Labels<'_>) -> Answer<Arc<Cluster>> {
        let Some(host) = rest.text(0).and_then(|label| self.terms.rules.canonical(label).ok()) else {
            return Answer::Neg;
        };
        let is_address = host.literal().is_some() || host.legacy_literal().is_some();
        if is_address || self.is_outside(&host) {
            let port = host.port.unwrap_or(80);
            return Answer::Outside { host: host.host.into_owned().into(), port, taken: 1 };
        }
        Answer::Neg
    }

    /// The port of a Service that a host means: the number it says; else the port named `http` (settable), else
    /// number 80, else the only one.
    fn port<'a>(&self, host: &Host<'_>, ports: &'a [Port]) -> Option<&'a Port> {
        match host.port {
            Some(number) => ports.iter().find(|port| port.number == number),
            None => {
                let facts = ports.iter().map(|port| (port.name.as_deref(), port.number));
                default_port(&self.terms.rules, facts).and_then(|at| ports.get(at))
            }
        }
    }

    /// Whether DNS may know `host`: not without a dot, not below the cluster's domain, not when it is off.
    fn is_outside(&self, host: &Host<'_>) -> bool {
        self.terms.dns && host.host.contains('.') && !self.terms.rules.in_cluster_domain(&host.host)
    }

    fn no_host(&self, rest: Labels<'_>) -> String {
        let label = rest.text(0).unwrap_or_default();
        let host = match self.terms.rules.canonical(label) {
            Ok(host) => host,
            Err(bad) => return bad.to_string(),
        };
        if host.literal().is_some() {
            return format!("{label} is no Service's address and port");
        }
        match ServiceName::of(&host.host) {
            Some(service) => {
                let namespace = service.namespace.unwrap_or(&self.terms.rules.namespace);
                let port = host.port.map(|port| port.to_string());
                self.no_service(namespace, service.name, port.as_deref())
            }
            None => format!("{} has too many labels to be a Service", host.host),
        }
    }

    /// Why `name` has no such port, or does not exist; and where there is one of that name.
    fn no_service(&self, namespace: &str, name: &str, port: Option<&str>) -> String {
        if let Some(ports) = self.services.get(&k8s(namespace, name)) {
            let there: Vec<String> = ports.iter().map(ToString::to_string).collect();
            let wanted = match port {
                Some(port) => format!("no port {port}"),
                None => {
                    format!("no port named {}, none numbered 80, and not exactly one", self.terms.rules.port)
                }
            };
            return format!("Service {name} has {wanted}; its ports are: {}", there.join(", "));
        }
        let others = self.catalog.services.keys().filter(|key| *key.name == *name);
        let others: Vec<String> = others.take(3).map(ToString::to_string).collect();
        let why = format!("no service {name} in namespace {namespace}");
        if others.is_empty() { why } else { format!("{why}; there is {}", others.join(", ")) }
    }

    fn not_outside(&self, rest: Labels<'_>) -> String {
        let label = rest.text(0).unwrap_or_default();
        match self.terms.rules.canonical(label) {
            Err(bad) => bad.to_string(),
            Ok(_) if !self.terms.dns => "DNS is off (names.dns)".to_owned(),
            Ok(host) if !host.host.contains('.') => format!("{} has no dot, so DNS is not asked", host.host),
            Ok(host) => format!("{} lies below the cluster's own domain, so DNS is not asked", host.host),
        }
    }
}

fn k8s(namespace: &str, name: &str) -> ServiceKey {
    ServiceKey { namer: Namer::K8s, namespace: namespace.into(), name: name.into() }
}
