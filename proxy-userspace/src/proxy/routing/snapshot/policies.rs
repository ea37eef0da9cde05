//! Derives a cluster's policy from the general settings and the policies for some names: computed when the cluster is
//! created and when they change, so that requests find it ready.

use std::sync::Arc;

use super::RoutingConfig;
use crate::domain::catalog::{Namer, Service, ServiceKey, ServicePort};
use crate::domain::health::breaker;
use crate::domain::name::{Host, Path, Questions, Rules, Scope, Services};
use crate::domain::policy::{Policies, RequestPolicy};
use crate::domain::route::{Configured, Kind, Outside, Resolver, Transformer};
use crate::proxy::routing::route::Lookup;
use crate::proxy::upstream::cluster::{ClusterPolicy, View};

/// The source of cluster policies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicySource {
    /// The default policy.
    pub all: ClusterPolicy,
    /// The policies for some names.
    pub some: Arc<Policies>,
    /// The prefix of request names.
    pub prefix: Path,
}

impl PolicySource {
    /// The policy of `host` and `port` outside the catalog.
    pub fn outside(&self, host: &str, port: u16) -> ClusterPolicy {
        let label = || label_of(host, Some(port).filter(|&port| port != 80));
        let names = || {
            let port = port.to_string();
            let of_namers = [["inet", host, &port], ["io.buoyant.rinet", &port, host]];
            let mut names: Vec<Path> =
                of_namers.map(|[namer, a, b]| Path::from_labels(["$", namer, a, b])).into();
            names.push(Path::from_labels(["$", "weir.dns", &label()]));
            names
        };
        self.with(self.all, label, names)
    }

    /// `policy`, with what policies say of a cluster known by `names`, and by `label` when it is dialled.
    fn with(
        &self,
        policy: ClusterPolicy,
        label: impl Fn() -> String,
        names: impl FnOnce() -> Vec<Path>,
    ) -> ClusterPolicy {
        let declared = RequestPolicy { protocol: policy.declared, ..RequestPolicy::default() };
        if self.some.is_empty() {
            return ClusterPolicy { requests: declared, dialled: declared, ..policy };
        }
        let client = self.some.client(&names());
        let mut service = self.prefix.clone();
        service.push(label());
        let breaker = breaker::Policy {
            failures: client.failures.unwrap_or(policy.breaker.failures),
            backoff: client.backoff.unwrap_or(policy.breaker.backoff),
            ..policy.breaker
        };
        let requests = client.requests.or(declared);
        let dialled = requests.and(self.some.service(&service));
        ClusterPolicy { breaker, requests, dialled, ..policy }
    }
}

impl RoutingConfig {
    /// The policy of port `at` of `service`, whose canonical host is `host`: the service's, unless policies override
    /// it.
    pub(super) fn policy_of(
        &self,
        service: &Service,
        host: &str,
        at: usize,
        of_service: &Arc<ClusterPolicy>,
    ) -> Arc<ClusterPolicy> {
        let port = &service.ports[at];
        let label = || label_of(host, own_number(&service.key, port));
        let names = || {
            let mut names = namer_names(&self.namers, &service.key, port);
            names.extend(host_names(&self.rules, service, host, at));
            names
        };
        let declared = ClusterPolicy { declared: port.protocol.http(), ..**of_service };
        let policy = self.policies.with(declared, label, names);
        if policy == **of_service { of_service.clone() } else { Arc::new(policy) }
    }

    /// The policy of what transformers derive from a port with the policy `of`. It is known by `id` only, and is never
    /// dialled.
    pub(super) fn policy_of_view(&self, id: &Path, of: &ClusterPolicy) -> ClusterPolicy {
        let plain = ClusterPolicy { balancer: of.balancer, declared: of.declared, ..self.policies.all };
        let policy = self.policies.with(plain, String::new, || vec![id.clone()]);
        ClusterPolicy { dialled: policy.requests, ..policy }
    }

    /// Whether some namer still has this transformation.
    pub(super) fn still_has(&self, view: &View) -> bool {
        // A pod's name exists as long as the pod does.
        let is_pod =
            matches!(&*view.steps, [Transformer::Pod(_), ..]) && !view.cluster.members().all.is_empty();
        is_pod || self.namers.iter().any(|namer| namer.transform.steps() == &*view.steps)
    }

    /// How `outside` is found when this much is known of the cluster's services.
    pub fn lookup(&self, outside: &Outside, services: Services) -> Lookup {
        let questions = match outside.is_literal() {
            true => Questions::default(),
            false => self.rules.questions(&outside.host, outside.scope, services),
        };
        Lookup { outside: outside.clone(), questions }
    }
}

/// A file has no port number, and port 80 is not written.
fn own_number(key: &ServiceKey, port: &ServicePort) -> Option<u16> {
    match key.namer {
        Namer::Fs => None,
        Namer::K8s => Some(port.number).filter(|&number| number != 80),
    }
}

/// A canonical host with this port, as one label.
pub(super) fn label_of(host: &str, port: Option<u16>) -> String {
    Host { host: host.into(), port, scope: Scope::Anywhere }.label()
}

/// The names that the configured namers have for a service's port.
fn namer_names(namers: &[Configured], key: &ServiceKey, port: &ServicePort) -> Vec<Path> {
    let number = port.number.to_string();
    let ports = || port.name.as_deref().into_iter().chain([&*number]);
    let mut names = Vec::new();
    // Names of namers with transformers lead to views, which have their own policies.
    for namer in namers.iter().filter(|namer| namer.transform.is_empty()) {
        let of = |labels: &[&str]| {
            Path::from_labels(["#"]).join(namer.prefix.labels()).join(Path::from_labels(labels).labels())
        };
        match (&namer.resolver, key.namer) {
            (Resolver::Find(Kind::Fs), Namer::Fs) => names.push(of(&key.name.split('/').collect::<Vec<_>>())),
            (Resolver::Find(Kind::K8s), Namer::K8s) => {
                names.extend(ports().map(|port| of(&[&key.namespace, port, &key.name])));
            }
            (Resolver::Find(Kind::K8sNamespace(namespace)), Namer::K8s) if *namespace == key.namespace => {
                names.extend(ports().map(|port| of(&[port, &key.name])));
            }
            (Resolver::Find(_) | Resolver::Rewrite(_), _) => {}
        }
    }
    names
}

/// The names that `/$/weir.host` has for port `at`: the canonical host with its number, and without it if that means
/// this port.
fn host_names(rules: &Rules, service: &Service, host: &str, at: usize) -> Vec<Path> {
    if service.key.namer == Namer::Fs {
        return Vec::new();
    }
    let of = |port| Path::from_labels(["$", "weir.host", &label_of(host, port)]);
    let mut names = vec![of(Some(service.ports[at].number))];
    let ports = service.ports.iter().map(|port| (port.name.as_deref(), port.number));
    if service.ports[at].number != HTTPS && numbered_port(HTTPS, ports.clone()) == Some(at) {
        names.push(of(Some(HTTPS)));
    }
    if default_port(rules, ports) == Some(at) {
        names.push(of(None));
    }
    names
}

/// The port that clients of `https://` URLs ask for.
const HTTPS: u16 = 443;

/// The port of a Service that a host with this number means: the one with that number, or for 443 the one named
/// `https`: who asks for `https://hello` need not know its number.
pub(super) fn numbered_port<'a>(
    number: u16,
    mut ports: impl Iterator<Item = (Option<&'a str>, u16)> + Clone,
) -> Option<usize> {
    let by_number = ports.clone().position(|(_, own)| own == number);
    by_number.or_else(|| ports.position(|(name, _)| number == HTTPS && name == Some("https")))
}

/// The port of a Service that a host without a port means: the one named `http` (settable), else number 80, else the
/// only one.
pub(super) fn default_port<'a>(
    rules: &Rules,
    ports: impl ExactSizeIterator<Item = (Option<&'a str>, u16)> + Clone,
) -> Option<usize> {
    ports
        .clone()
        .position(|(name, _)| name == Some(&*rules.port))
        .or_else(|| ports.clone().position(|(_, number)| number == 80))
        .or((ports.len() == 1).then_some(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalog::AppProtocol;

    fn service(key: (Namer, &str, &str), ports: &[(Option<&str>, u16)]) -> Service {
        let port = |&(name, number): &(Option<&str>, u16)| ServicePort {
            name: name.map(Into::into),
            number,
            protocol: AppProtocol::Sniff,
            endpoints: Arc::new([]),
            node_port: None,
        };
        Service {
            key: ServiceKey { namer: key.0, namespace: key.1.into(), name: key.2.into() },
            addresses: Vec::new(),
            ports: ports.iter().map(port).collect(),
            written: true,
            external_name: None,
            affinity: None,
        }
    }

    fn names(service: &Service, host: &str, at: usize) -> Vec<String> {
        let rules = Rules {
            namespace: "default".into(),
            port: "http".into(),
            cluster_domain: "cluster.local".into(),
        };
        let mut names = namer_names(&Configured::defaults(), &service.key, &service.ports[at]);
        names.extend(host_names(&rules, service, host, at));
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_port_is_known_to_policies_by_every_name_that_leads_to_it() {
        let web = service((Namer::K8s, "shop", "web"), &[(Some("http"), 8080), (Some("admin"), 80)]);
        let http =
            ["/#/io.l5d.k8s/shop/http/web", "/#/io.l5d.k8s/shop/8080/web", "/$/weir.host/web.shop:8080"];
        assert_eq!(names(&web, "web.shop", 0), [&http[..], &["/$/weir.host/web.shop"]].concat());
        let admin = ["/#/io.l5d.k8s/shop/admin/web", "/#/io.l5d.k8s/shop/80/web", "/$/weir.host/web.shop:80"];
        assert_eq!(names(&web, "web.shop", 1), admin);
        let file = service((Namer::Fs, "", "web"), &[(None, 0)]);
        assert_eq!(names(&file, "web", 0), ["/#/io.l5d.fs/web"]);
    }

    #[test]
    fn port_443_means_the_number_or_else_the_name_https() {
        for (ports, at) in [
            (&[(Some("https"), 8443), (Some("x"), 443)][..], Some(1)),
            (&[(Some("http"), 80), (Some("https"), 8443)], Some(1)),
            (&[(Some("http"), 80), (None, 8443)], None),
            (&[(Some("https"), 443)], Some(0)),
        ] {
            assert_eq!(numbered_port(HTTPS, ports.iter().copied()), at, "{ports:?}");
        }
        assert_eq!(numbered_port(8080, [(Some("https"), 8443)].into_iter()), None);
        let web = service((Namer::K8s, "shop", "web"), &[(Some("http"), 80), (Some("https"), 8443)]);
        let https = ["/#/io.l5d.k8s/shop/https/web", "/#/io.l5d.k8s/shop/8443/web"];
        let hosts = ["/$/weir.host/web.shop:8443", "/$/weir.host/web.shop:443"];
        assert_eq!(names(&web, "web.shop", 1), [https, hosts].concat());
    }

    #[test]
    fn a_host_without_a_port_means_the_named_port_then_80_then_the_only_one() {
        for (ports, at) in [
            (&[(Some("http"), 8080), (None, 80)][..], Some(0)),
            (&[(Some("x"), 8080), (None, 80)], Some(1)),
            (&[(Some("x"), 8080)], Some(0)),
            (&[(Some("x"), 8080), (Some("y"), 81)], None),
            (&[], None),
        ] {
            let rules = Rules { namespace: "a".into(), port: "http".into(), cluster_domain: "b".into() };
            assert_eq!(default_port(&rules, ports.iter().copied()), at, "{ports:?}");
        }
    }
}
