//! Namers over the catalog, as used by delegation.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;

use super::dependencies::{BoundBy, Dependencies, Dependency};
use super::policies::{default_port, label_of, numbered_port};
use super::reasons::Audience;
use super::{Owner, Port, Snapshot};
use crate::domain::catalog::{Namer, ServiceKey};
use crate::domain::identify::Identifier;
use crate::domain::name::{Host, Labels, Path, Scope, ServiceName, Services};
use crate::domain::route::{Answer, Kind, Names, Outside, Transformer};
use crate::proxy::upstream::cluster::Cluster;

/// A snapshot that is asked, and what the answers depend on.
pub(super) struct Asked<'a> {
    snapshot: &'a Snapshot,
    bound_by: RefCell<BoundBy>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(snapshot: &'a Snapshot) -> Self {
        Self { snapshot, bound_by: RefCell::default() }
    }

    /// What the answers so far depend on.
    pub(super) fn bound_by(&self) -> BoundBy {
        self.bound_by.take()
    }

    fn depends_on(&self, dependency: Dependency) {
        let dependencies = &mut self.bound_by.borrow_mut().dependencies;
        if !dependencies.contains(&dependency) {
            dependencies.push(dependency);
        }
    }
}

impl Names for Asked<'_> {
    type Port = Arc<Cluster>;

    fn find(&self, kind: &Kind, rest: Labels<'_>) -> Answer<Arc<Cluster>> {
        self.snapshot.dependencies(kind, rest).into_iter().for_each(|dependency| self.depends_on(dependency));
        let answer = self.snapshot.find(kind, rest);
        // Where the cluster's DNS is asked instead, the service is unknown, too.
        let is_awaited = matches!(answer, Answer::Unknown)
            || (matches!(answer, Answer::Outside { .. }) && !matches!(kind, Kind::Dns | Kind::Fs));
        if is_awaited {
            self.depends_on(Dependency::awaited());
            self.bound_by.borrow_mut().unknown = self.snapshot.unknown(Audience::Client);
        }
        answer
    }

    fn scope_of(&self, label: &[u8]) -> Scope {
        self.snapshot.scope_of(label)
    }

    fn scoped(&self, outside: Outside) -> Outside {
        if let Ok(host) = self.snapshot.config.rules.host_of(&outside.host, outside.scope)
            && !host.is_address()
        {
            self.snapshot
                .dependencies_of(&host)
                .into_iter()
                .for_each(|dependency| self.depends_on(dependency));
            // While services are not known, the DNS questions differ.
            self.depends_on(Dependency::awaited());
        }
        self.snapshot.scoped(outside)
    }

    fn is_askable(&self, name: Labels<'_>) -> bool {
        self.snapshot.is_askable(name)
    }

    fn transformed(&self, port: Arc<Cluster>, steps: &[Transformer], id: &Path) -> Arc<Cluster> {
        self.snapshot.transformed(port, steps, id)
    }

    fn why_not(&self, kind: &Kind, rest: Labels<'_>) -> String {
        self.snapshot.reason(kind, rest, Audience::Client)
    }
}

impl Names for Snapshot {
    type Port = Arc<Cluster>;

    fn find(&self, kind: &Kind, rest: Labels<'_>) -> Answer<Arc<Cluster>> {
        match kind {
            Kind::Fs => self.file(rest),
            Kind::K8s => match (rest.text(0), rest.text(1), rest.text(2)) {
                (Some(namespace), Some(port), Some(name)) => self.service(&k8s(namespace, name), port, 3),
                _ => Answer::Neg,
            },
            Kind::K8sNamespace(namespace) => match (rest.text(0), rest.text(1)) {
                (Some(port), Some(name)) => self.service(&k8s(namespace, name), port, 2),
                _ => Answer::Neg,
            },
            Kind::Host => self.host(rest),
            Kind::Dns => self.outside(rest),
        }
    }

    fn scope_of(&self, label: &[u8]) -> Scope {
        let host = std::str::from_utf8(label).ok().and_then(|label| self.config.rules.canonical(label).ok());
        host.map_or(Scope::Anywhere, |host| host.scope)
    }

    fn scoped(&self, outside: Outside) -> Outside {
        match self.config.rules.host_of(&outside.host, outside.scope) {
            Ok(host) if !host.is_address() && self.owns(&host) => {
                Outside { scope: Scope::Cluster, host: host.host.into_owned().into(), ..outside }
            }
            Ok(_) | Err(_) => outside,
        }
    }

    fn is_askable(&self, name: Labels<'_>) -> bool {
        let prefix = self.config.prefix().labels();
        let host = name.skip(prefix.len());
        let Some(label) = host.text(0).filter(|_| host.len() == 1 && name.starts_with(prefix)) else {
            return false;
        };
        match self.config.identifiers.first() {
            Some(Identifier::Host) => {
                self.config.rules.canonical(label).is_ok_and(|canonical| canonical.label() == label)
            }
            Some(Identifier::Token(header)) => header.eq_ignore_ascii_case("host"),
            // A client cannot be sure that its Host is what counts.
            _ => false,
        }
    }

    fn transformed(&self, port: Arc<Cluster>, steps: &[Transformer], id: &Path) -> Arc<Cluster> {
        // The scope in which it was asked, and its spelling, do not make another cluster.
        let id = &id.unscoped();
        let policy = self.config.policy_of_view(id, &port.policy());
        let since = self.generation().number();
        port.view(steps, (id, id.to_string().into()), (policy, since), &self.config.node.own)
    }

    fn why_not(&self, kind: &Kind, rest: Labels<'_>) -> String {
        self.reason(kind, rest, Audience::Operator)
    }
}

impl Snapshot {
    /// The dependencies of an answer of [`Names::find`], besides the configuration.
    fn dependencies(&self, kind: &Kind, rest: Labels<'_>) -> Dependencies {
        let of = |key: Option<ServiceKey>| key.iter().map(Dependency::service).collect();
        match kind {
            // A new file may match fewer or more labels than an existing one.
            Kind::Fs => files(rest).map(|(key, _)| Dependency::service(&key)).collect(),
            Kind::K8s => of(rest.text(0).zip(rest.text(2)).map(|(namespace, name)| k8s(namespace, name))),
            Kind::K8sNamespace(namespace) => of(rest.text(1).map(|name| k8s(namespace, name))),
            Kind::Host | Kind::Dns => match self.host_in(rest) {
                Some(host) => self.dependencies_of(&host),
                None => Dependencies::default(),
            },
        }
    }

    /// The dependencies of a canonical host's meaning.
    fn dependencies_of(&self, host: &Host<'_>) -> Dependencies {
        match host.literal() {
            Some(address) => {
                let port = host.port.unwrap_or(80);
                let address = Dependency::address(address.to_canonical(), port);
                [address, Dependency::node_port(port), Dependency::nodes()].into_iter().collect()
            }
            None => self.keys_of(host).iter().map(Dependency::service).collect(),
        }
    }

    /// The answer for a service that is not in the catalog. While services are not known, the cluster's DNS is asked
    /// for `host` instead, and its address is used with `port` unchanged.
    fn absent(&self, host: &str, scope: Scope, port: Option<u16>, taken: usize) -> Answer<Arc<Cluster>> {
        match (self.services(), port) {
            (Services::Known, _) => Answer::Neg,
            (Services::Awaited, Some(port)) if self.config.dns => {
                let scope = scope.max(Scope::Inside);
                let outside = Outside { host: host.into(), port, scope, written: false };
                Answer::Outside { outside, taken }
            }
            (Services::Awaited, _) => Answer::Unknown,
        }
    }

    fn found(&self, port: Option<&Port>, taken: usize) -> Answer<Arc<Cluster>> {
        match port {
            Some(port) => Answer::Port { port: port.lazy.cluster(&self.registry), taken },
            None => Answer::Neg,
        }
    }

    fn file(&self, rest: Labels<'_>) -> Answer<Arc<Cluster>> {
        let known = files(rest).find_map(|(key, taken)| Some((self.services.get(&key)?, taken)));
        known.map_or(Answer::Neg, |(ports, taken)| self.found(ports.first(), taken))
    }

    /// The port of a Service, by its name or number in `port`.
    fn service(&self, key: &ServiceKey, port: &str, taken: usize) -> Answer<Arc<Cluster>> {
        let number: Option<u16> = port.parse().ok();
        let has_name = |it: &Port| it.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(port));
        let is_it = |it: &&Port| has_name(it) || Some(it.number) == number;
        if !self.services.contains_key(key) {
            // A port's name gives no number, except for the default name of HTTP.
            let number = number.or_else(|| (*port == *self.config.rules.port).then_some(80));
            let host = format!("{}.{}", key.name, key.namespace);
            return self.absent(&host, Scope::Cluster, number, taken);
        }
        self.of_service(key, taken, number, |ports| ports.iter().find(is_it))
    }

    /// The port of a Service that `choose` selects. An ExternalName Service becomes that name, at the selected port;
    /// where it declares no ports, at the `asked` one.
    fn of_service(
        &self,
        key: &ServiceKey,
        taken: usize,
        asked: Option<u16>,
        choose: impl FnOnce(&[Port]) -> Option<&Port>,
    ) -> Answer<Arc<Cluster>> {
        let Some(ports) = self.services.get(key) else { return Answer::Neg };
        let Some(external) = self.external_name(key) else { return self.found(choose(ports), taken) };
        let port = match (choose(ports), ports.is_empty()) {
            (Some(port), _) => port.number,
            (None, true) => asked.unwrap_or(80),
            (None, false) => return Answer::Neg,
        };
        Answer::Alias { name: self.alias(external, port), taken }
    }

    /// The target of an ExternalName Service.
    fn external_name(&self, key: &ServiceKey) -> Option<&str> {
        self.catalog.services.get(key)?.external_name.as_deref()
    }

    /// The name for the value of `ExternalName`: a Service if below the cluster's domain, otherwise a DNS name.
    fn alias(&self, external: &str, port: u16) -> Path {
        let host = external.strip_suffix('.').unwrap_or(external);
        let is_own = self.scope_of(host.as_bytes()) == Scope::Cluster;
        let namer = if is_own { "weir.host" } else { "weir.dns" };
        Path::from_labels(["$", namer, &label_of(host, Some(port).filter(|&port| port != 80))])
    }

    /// `weir.host`: a Service by its canonical host, or by its address.
    fn host(&self, rest: Labels<'_>) -> Answer<Arc<Cluster>> {
        let Some(host) = self.host_in(rest) else { return Answer::Neg };
        if let Some(address) = host.literal() {
            let owner = self.owner(SocketAddr::new(address, host.port.unwrap_or(80)));
            let port = |owner: Owner| Answer::Port { port: owner.cluster, taken: 1 };
            let absent = match self.services() {
                Services::Known => Answer::Neg,
                Services::Awaited => Answer::Unknown,
            };
            return owner.map_or(absent, port);
        }
        let key = ServiceName::parse(&host.host).map(|service| self.key_of(service));
        if let Some(key) = key.filter(|key| self.services.contains_key(key)) {
            return self.of_service(&key, 1, host.port, |ports| self.port(&host, ports));
        }
        match self.pod(&host) {
            Some(pod) => pod,
            None if self.keys_of(&host).is_empty() => Answer::Neg,
            None => self.absent(&host.host, host.scope, Some(host.port.unwrap_or(80)), 1),
        }
    }

    /// `weir.dns`: outside DNS names, and literal addresses.
    fn outside(&self, rest: Labels<'_>) -> Answer<Arc<Cluster>> {
        let Some(host) = self.host_in(rest) else { return Answer::Neg };
        if !host.is_address() && !self.is_outside(&host) {
            return Answer::Neg;
        }
        let (port, scope) = (host.port.unwrap_or(80), host.scope);
        let outside = Outside { host: host.host.into_owned().into(), port, scope, written: false };
        Answer::Outside { outside, taken: 1 }
    }

    /// The host in the first label.
    pub(super) fn host_in<'a>(&self, rest: Labels<'a>) -> Option<Host<'a>> {
        self.config.rules.host_of(rest.text(0)?, rest.scope(0)).ok()
    }

    /// The port of a Service that a host means: its explicit number, where 443 may be the port named `https`; else the
    /// port named `http` (settable), else number 80, else the only one.
    pub(super) fn port<'a>(&self, host: &Host<'_>, ports: &'a [Port]) -> Option<&'a Port> {
        let named = ports.iter().map(|port| (port.name.as_deref(), port.number));
        let at = match host.port {
            Some(number) => numbered_port(number, named),
            None => default_port(&self.config.rules, named),
        };
        ports.get(at?)
    }

    /// Whether outside DNS may be asked for `host`: not without a dot, not for the cluster's own, not when it is off.
    fn is_outside(&self, host: &Host<'_>) -> bool {
        self.config.dns && host.host.contains('.') && !self.owns(host)
    }
}

/// Maximum labels of a file's name: its folders, and its own.
const FILE_LABELS: usize = 9;

/// The files that may be meant, and how many labels each takes: `hello`, or `http/hello` in a subfolder. A folder and a
/// file cannot have the same name, so at most one of them exists.
pub(super) fn files(rest: Labels<'_>) -> impl Iterator<Item = (ServiceKey, usize)> {
    let mut name = String::new();
    (0..FILE_LABELS).map_while(move |at| {
        let label = rest.text(at).filter(|label| !label.contains('/'))?;
        if at > 0 {
            name.push('/');
        }
        name.push_str(label);
        Some((file(&name), at + 1))
    })
}

pub(super) fn file(name: &str) -> ServiceKey {
    ServiceKey { namer: Namer::Fs, namespace: "".into(), name: name.into() }
}

/// Kubernetes names are lower case; linkerd's namer accepted any case.
pub(super) fn k8s(namespace: &str, name: &str) -> ServiceKey {
    let lower = |text: &str| text.to_ascii_lowercase().into();
    ServiceKey { namer: Namer::K8s, namespace: lower(namespace), name: lower(name) }
}
