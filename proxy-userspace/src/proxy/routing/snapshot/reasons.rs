//! Why a name is not bound, and what exists instead. Computed only when an explanation is requested.

use std::sync::Arc;

use super::Snapshot;
use super::names::{file, files, k8s};
use crate::domain::catalog::{Namer, ServiceKey};
use crate::domain::name::{Labels, PodName, Scope, ServiceName};
use crate::domain::route::Kind;

/// The reader of a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Audience {
    /// A client, from any namespace: only the Service that it named, with its ports and pods, is shown.
    Client,
    /// An operator with access to the admin.
    Operator,
}

impl Snapshot {
    /// Why services that are not in the catalog may still exist.
    pub(in crate::proxy) fn unknown(&self, audience: Audience) -> Option<String> {
        let awaited = self.catalog.awaited.as_ref()?;
        let why = match audience {
            Audience::Client => &awaited.brief,
            Audience::Operator => &awaited.why,
        };
        Some(format!("the cluster's services are not known yet: {why}"))
    }

    /// Why the namer of `kind` has nothing at `rest`.
    pub(super) fn reason(&self, kind: &Kind, rest: Labels<'_>, audience: Audience) -> String {
        let no_service =
            |namespace: &str, name: &str, port: &str| self.no_service(namespace, name, Some(port), audience);
        match kind {
            Kind::Fs => self.no_file(rest),
            Kind::K8s => match (rest.text(0), rest.text(1), rest.text(2)) {
                (Some(namespace), Some(port), Some(name)) => no_service(namespace, name, port),
                _ => format!("{rest} is not a namespace, a port and a service"),
            },
            Kind::K8sNamespace(namespace) => match (rest.text(0), rest.text(1)) {
                (Some(port), Some(name)) => no_service(namespace, name, port),
                _ => format!("{rest} is not a port and a service"),
            },
            Kind::Host => self.no_host(rest, audience),
            Kind::Dns => self.not_outside(rest),
        }
    }

    /// That there is no such file, and a file whose name differs only in case.
    fn no_file(&self, rest: Labels<'_>) -> String {
        /// Files that are compared; without a limit, a client that keeps asking for new names would cost too much.
        const LOOKED_AT: usize = 1_000;
        let Some((wanted, _)) = files(rest).last() else { return "the name says no file".to_owned() };
        let others = self.catalog.services.range(file("")..).map(|(key, _)| key);
        let mut others = others.take_while(|key| key.namer == Namer::Fs).take(LOOKED_AT);
        let why = format!("no file is named {}", wanted.name);
        match others.find(|key| key.name.eq_ignore_ascii_case(&wanted.name)) {
            Some(other) => format!("{why}; there is {}, and case matters", other.name),
            None => why,
        }
    }

    fn no_host(&self, rest: Labels<'_>, audience: Audience) -> String {
        let label = rest.text(0).unwrap_or_default();
        let host = match self.config.rules.host_of(label, rest.scope(0)) {
            Ok(host) => host,
            Err(bad) => return bad.to_string(),
        };
        if host.literal().is_some() {
            return self
                .unknown(audience)
                .unwrap_or_else(|| format!("{label} is no Service's address and port"));
        }
        let is_service =
            ServiceName::parse(&host.host).is_some_and(|it| self.services.contains_key(&self.key_of(it)));
        if let (false, Some((pod, service))) = (is_service, self.pod_of(&host)) {
            return self.no_pod(pod, service);
        }
        let of_pod = PodName::parse(&host.host, host.scope).filter(|it| it.service.namespace.is_some());
        match ServiceName::parse(&host.host).or(of_pod.map(|pod| pod.service)) {
            Some(service) => {
                let namespace = service.namespace.unwrap_or(&self.config.rules.namespace);
                let port = host.port.map(|port| port.to_string());
                self.no_service(namespace, service.name, port.as_deref(), audience)
            }
            None => format!("{} has too many labels to be a Service or a pod of one", host.host),
        }
    }

    /// Why `name` has no such port, or does not exist; and for an operator, other namespaces that have one with that
    /// name.
    fn no_service(&self, namespace: &str, name: &str, port: Option<&str>, audience: Audience) -> String {
        if let Some(ports) = self.services.get(&k8s(namespace, name)) {
            let there: Vec<String> = ports.iter().map(ToString::to_string).collect();
            let wanted = match port {
                Some(port) => format!("no port {port}"),
                None => {
                    format!("no port named {}, none numbered 80, and not exactly one", self.config.rules.port)
                }
            };
            return format!("Service {name} has {wanted}; its ports are: {}", there.join(", "));
        }
        if let Some(unknown) = self.unknown(audience) {
            return unknown;
        }
        let why = format!("no service {name} in namespace {namespace}");
        let others = match audience {
            Audience::Client => Vec::new(),
            Audience::Operator => self.elsewhere(name),
        };
        if others.is_empty() { why } else { format!("{why}; there is {}", others.join(", ")) }
    }

    /// Some services named `name`. Looks each namespace up, since otherwise a client that keeps asking for new names
    /// would cause a scan of every service each time.
    fn elsewhere(&self, name: &str) -> Vec<String> {
        let services = &self.catalog.services;
        let named = |namespace: &Arc<str>| k8s(namespace, name);
        let file = Some(file(name)).filter(|key| services.contains_key(key));
        let others = self.namespaces().map(|it| named(&it)).filter(|key| services.contains_key(key));
        file.into_iter().chain(others).take(3).map(|key| key.to_string()).collect()
    }

    /// Every namespace with a Service, in order.
    fn namespaces(&self) -> impl Iterator<Item = Arc<str>> {
        // A key with a NUL after the namespace sorts behind all its services and before those of the next namespace.
        let after = |namespace: &str| {
            let next =
                ServiceKey { namer: Namer::K8s, namespace: format!("{namespace}\0").into(), name: "".into() };
            self.catalog.services.range(next..).next().map(|(key, _)| key.namespace.clone())
        };
        let first = ServiceKey { namer: Namer::K8s, namespace: "".into(), name: "".into() };
        let first = self.catalog.services.range(first..).next().map(|(key, _)| key.namespace.clone());
        std::iter::successors(first, move |namespace| after(namespace))
    }

    fn not_outside(&self, rest: Labels<'_>) -> String {
        let label = rest.text(0).unwrap_or_default();
        match self.config.rules.host_of(label, rest.scope(0)) {
            Err(bad) => bad.to_string(),
            Ok(_) if !self.config.dns => "DNS is off (names.dns)".to_owned(),
            Ok(host) if host.scope == Scope::Cluster => format!(
                "{} was written below the cluster's own domain or with .svc, so DNS outside it is not asked",
                host.host
            ),
            Ok(host) if !host.host.contains('.') => format!("{} has no dot, so DNS is not asked", host.host),
            Ok(host) => format!("{} is a Service's name, so DNS outside the cluster is not asked", host.host),
        }
    }
}
