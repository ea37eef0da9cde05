//! Pods by their stable names: `db-0.db.shop`, an endpoint of the Service `db` whose slice says `hostname: db-0`.
//!
//! Kubernetes' DNS has a name for every endpoint with a hostname, as the pods of a StatefulSet have. A pod is bound as
//! a view of its Service's port ([`View`](crate::proxy::upstream::cluster::View)): its address follows when the pod is
//! recreated elsewhere. Since the names exist by their Service, a pod that is absent now is an empty name (503) and not
//! one that outside DNS may know.

use std::sync::Arc;

use smallvec::SmallVec;

use super::names::k8s;
use super::policies::label_of;
use super::{Port, Snapshot};
use crate::domain::catalog::{Service, ServiceKey};
use crate::domain::name::{Host, Path, PodName, Scope, ServiceName};
use crate::domain::route::{Answer, Transformer};
use crate::proxy::upstream::cluster::Cluster;

/// The Services that may be meant by a host.
pub(super) type Keys = SmallVec<[ServiceKey; 2]>;

impl Snapshot {
    /// The Service that a name means, existing or not.
    pub(super) fn key_of(&self, service: ServiceName<'_>) -> ServiceKey {
        k8s(service.namespace.unwrap_or(&self.config.rules.namespace), service.name)
    }

    /// Every Service that decides the meaning of a canonical host: the one with that name, and the one whose pod it may
    /// be.
    pub(super) fn keys_of(&self, host: &Host<'_>) -> Keys {
        let service = ServiceName::parse(&host.host);
        let of_pod = PodName::parse(&host.host, host.scope).map(|pod| pod.service);
        service.into_iter().chain(of_pod).map(|service| self.key_of(service)).collect()
    }

    /// The answer for a host that means a pod of a Service; `None` where no Service has such pod names.
    pub(super) fn pod(&self, host: &Host<'_>) -> Option<Answer<Arc<Cluster>>> {
        let (pod, service) = self.pod_of(host)?;
        if !service.hostnames().contains(pod.hostname) {
            return Some(Answer::Empty);
        }
        let ports = self.services.get(&service.key)?;
        let asked = self.port(host, ports).map(|port| port.number).or(host.port).unwrap_or(80);
        let is_here =
            |it: &&Port| it.lazy.endpoints().iter().any(|it| it.hostname.as_deref() == Some(pod.hostname));
        let (port, own) = match ports.iter().find(|port| port.number == asked) {
            Some(port) => (port, None),
            // A port that the Service does not have is the pod's own port, as for clients that use its address from
            // DNS.
            None => (ports.iter().find(is_here).or(ports.first())?, Some(Transformer::Port(asked))),
        };
        let steps: SmallVec<[Transformer; 2]> =
            [Transformer::Pod(pod.hostname.into())].into_iter().chain(own).collect();
        let namespace = pod.service.namespace.unwrap_or(&self.config.rules.namespace);
        let canonical = format!("{}.{}.{namespace}", pod.hostname, pod.service.name);
        let label = label_of(&canonical, Some(asked).filter(|_| host.port.is_some()));
        let id = Path::from_labels(["$", "weir.host", &label]);
        let cluster = port.lazy.cluster(&self.registry);
        let policy = (self.config.policy_of_view(&id, &cluster.policy()), self.generation().number());
        let view = cluster.view(&steps, (&id, format!("/svc/{label}").into()), policy, &self.config.node.own);
        Some(Answer::Port { port: view, taken: 1 })
    }

    /// The pod that a host means, and its Service.
    pub(super) fn pod_of<'a>(&self, host: &'a Host<'_>) -> Option<(PodName<'a>, &Service)> {
        let pod = PodName::parse(&host.host, host.scope)?;
        let service = self.catalog.services.get(&self.key_of(pod.service))?;
        service.names_endpoints().then_some((pod, &**service))
    }

    /// Whether a host belongs to the cluster, however it was written: a Service has that name, or has pods named below
    /// it.
    pub(super) fn owns(&self, host: &Host<'_>) -> bool {
        host.scope == Scope::Cluster
            || ServiceName::parse(&host.host).is_some_and(|it| self.services.contains_key(&self.key_of(it)))
            || self.pod_of(host).is_some()
    }

    /// Why the pod does not exist.
    pub(super) fn no_pod(&self, pod: PodName<'_>, service: &Service) -> String {
        let there = service.hostnames();
        let why = format!("Service {} has no pod {} now", pod.service.name, pod.hostname);
        match there.len() {
            0 => format!("{why}, nor any with a name of its own"),
            _ => {
                let some: Vec<&str> = there.iter().copied().take(SHOWN).collect();
                let more = if there.len() > SHOWN { " and more" } else { "" };
                format!("{why}; there are {}{more}", some.join(", "))
            }
        }
    }
}

/// Existing pods that are listed when one is missing.
const SHOWN: usize = 8;
