//! Explains why a name leads where it leads, down to the endpoints.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::clients::{is_relative, said};
use super::snapshot::{Audience, Snapshot};
use crate::config::quoted;
use crate::domain::balance::Balancer;
use crate::domain::catalog::Condition;
use crate::domain::dtab::{Bounds, Dtab, Origin};
use crate::domain::health::breaker::{Policy, State};
use crate::domain::identify::{Identifier, RequestFacts, Unidentifiable, identify, rule_of};
use crate::domain::name::{BadPath, Path, Questions};
use crate::domain::policy::{Protocol, RequestPolicy};
use crate::domain::route::{Explanation, Outside, Target};
use crate::domain::ssrf::{Exempt, refuse};
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::upstream::cluster::{Backend, Cluster, Member};
use crate::transport::KernelRoutes;

/// An explanation, and the clusters that it ends in. `Display` renders it for an operator.
#[derive(Debug)]
pub struct Explained {
    /// Every step.
    pub explanation: Explanation<Arc<Cluster>>,
    /// The clusters of the catalog that requests may go to, in order.
    pub clusters: Vec<Arc<Cluster>>,
    /// The DNS questions for the outside hosts that requests may go to.
    pub dns: Vec<(Outside, Questions)>,
    /// The label of the router, where it has one of its own.
    pub router: Option<Arc<str>>,
    /// The rule by which the name was made, such as an Ingress's.
    pub rule: Option<String>,
    /// What else its name depends on.
    pub note: Option<String>,
    /// Why the cluster's services are not known, if that is the case.
    pub unknown: Option<String>,
    /// Addresses of the name that weir does not connect to, and why.
    pub refused: Vec<String>,
    /// Addresses of the name that may turn out to be a service's, which weir does not connect to otherwise.
    pub awaited: Vec<String>,
    /// The prefixes of the policies for this name, the strongest last.
    pub rules: Vec<String>,
    /// The request policy that results from them.
    pub requests: RequestPolicy,
    now: Instant,
}

/// What to explain.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// A name (`/svc/hello`), a host (`hello:8080`) or a URL (`http://hello/x`).
    pub name: &'a str,
    /// The dtab entries of the request.
    pub dtab: &'a str,
    /// The namespace of the client's pod, where clients have their own (`names.clientNamespace`); `None` means the
    /// default one.
    pub namespace: Option<&'a str>,
    /// The label of the router; `None` means the first one.
    pub router: Option<&'a str>,
}

/// Explains what is `asked`, in `snapshot`, which is the first router's.
///
/// # Errors
///
/// What cannot be parsed, and where; or that there is no such router.
pub fn explain(snapshot: &Snapshot, asked: Question<'_>, now: Instant) -> Result<Explained, String> {
    let snapshot = of_router(snapshot, asked.router)?;
    let Named { name, is_short, rule } = read(snapshot, asked)?;
    let own = Dtab::parse(asked.dtab, Origin::Request, &Bounds::REQUEST)
        .map_err(|error| format!("the dtab: {error}"))?;
    let mut explained = explain_name(snapshot, &name, Some(&own).filter(|own| !own.is_empty()), now);
    explained.rule = rule;
    if is_short {
        explained.note = Some(match asked.namespace {
            Some(namespace) => said(namespace),
            None => {
                format!(
                    "{}, as of a client that is no pod of this node",
                    said(&snapshot.config.rules.namespace)
                )
            }
        });
    }
    Ok(explained)
}

/// The snapshot of the router with this label.
fn of_router<'a>(first: &'a Snapshot, label: Option<&str>) -> Result<&'a Snapshot, String> {
    let Some(label) = label else { return Ok(first) };
    let all = || std::iter::once(first).chain(first.others().iter().map(|it| &**it));
    let of = |it: &'a Snapshot| it.config.router.as_deref().unwrap_or("outgoing");
    all().find(|it| of(it) == label).ok_or_else(|| {
        let labels: Vec<&str> = all().map(of).collect();
        format!("there is no router {}; there is {}", quoted(label), labels.join(", "))
    })
}

/// Explains `name` for a request with the dtab entries `own`.
pub fn explain_name(snapshot: &Snapshot, name: &Path, own: Option<&Dtab>, now: Instant) -> Explained {
    let explanation = snapshot.explain(name, own);
    let mut clusters: Vec<Arc<Cluster>> = Vec::new();
    let (mut dns, mut refused, mut awaited) = (Vec::new(), Vec::new(), Vec::new());
    if let Ok(tree) = &explanation.result {
        tree.for_each(&mut |bound| match &bound.target {
            Target::Port(cluster) if !clusters.iter().any(|known| Arc::ptr_eq(known, cluster)) => {
                clusters.push(cluster.clone());
            }
            Target::Port(_) => {}
            Target::Outside(outside) => {
                let (config, services) = (&snapshot.config, snapshot.services());
                let lookup = config.lookup(outside, services);
                // It is told as for any client; where those differ that would be lent this node's address, that is added.
                let own = config.led(&lookup, services, false);
                if let (Ok(_), Err(Fault { kind: Kind::Refused(why), .. })) =
                    (&own, config.led(&lookup, services, true))
                {
                    refused.push(format!("{outside} for pods that would be lent this node's address: {why}"));
                }
                match own {
                    Err(Fault { kind: Kind::Refused(why), .. }) => refused.push(format!("{outside}: {why}")),
                    Err(why) => awaited.push(why.to_string()),
                    Ok(_) if outside.is_literal() => refused.extend(refusal(snapshot, outside)),
                    Ok(led) => dns.push((outside.clone(), led.questions.clone())),
                }
            }
        });
    }
    refused.extend(clusters.iter().flat_map(|cluster| refused_endpoints(snapshot, cluster)));
    let policies = &snapshot.config.requests;
    let rules = policies.for_service(name.labels()).map(|rule| rule.prefix.to_string()).collect();
    Explained {
        explanation,
        clusters,
        dns,
        router: snapshot.config.router.clone(),
        rule: None,
        note: None,
        unknown: snapshot.unknown(Audience::Operator),
        refused,
        awaited,
        rules,
        requests: policies.service(name),
        now,
    }
}

/// Why weir does not connect to `outside`, as far as known without a look-up.
fn refusal(snapshot: &Snapshot, outside: &Outside) -> Option<String> {
    let address = SocketAddr::new(outside.literal()?, outside.port);
    let exempt = if outside.written { Exempt::Written } else { Exempt::No };
    let routes = KernelRoutes::default();
    let why = refuse(address, snapshot.local(), exempt, |ip| routes.is_local(ip))?;
    Some(format!("{address}: {why}"))
}

/// The endpoints of `cluster` that weir does not connect to, and why. From a pod's own network it may.
fn refused_endpoints(snapshot: &Snapshot, cluster: &Cluster) -> Vec<String> {
    let routes = KernelRoutes::default();
    let why = |member: &Member| {
        let Backend { address, exempt, .. } = *member.backend;
        let why = refuse(address, snapshot.local(), exempt, |ip| routes.is_local(ip))?;
        Some(format!("{address} from the node: {why}"))
    };
    cluster.members().all.iter().filter_map(why).collect()
}

/// The name to explain.
struct Named {
    name: Path,
    /// Whether it depends on the client's namespace.
    is_short: bool,
    rule: Option<String>,
}

/// Parses the name to explain.
fn read(snapshot: &Snapshot, Question { name: asked, namespace, .. }: Question<'_>) -> Result<Named, String> {
    if asked.starts_with('/') {
        let name = asked.parse().map(|name| Named { name, is_short: false, rule: None });
        return name.map_err(|bad: BadPath| format!("{} is no name: {bad}", quoted(asked)));
    }
    let rest = match asked.split_once("://") {
        Some(("http", rest)) => rest,
        Some((scheme, _)) => return Err(format!("weir routes http only, not {}", quoted(scheme))),
        None => asked,
    };
    let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // User information is not part of the host, as in a request's target.
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let rules = &snapshot.config.rules;
    let mut host = rules.canonical(authority).map_err(|bad| format!("{}: {bad}", quoted(asked)))?;
    let is_short = is_relative(snapshot, authority);
    if let (true, Some(namespace)) = (is_short, namespace) {
        // One label: it becomes part of the host.
        if namespace.contains(['.', ':', '[']) || rules.canonical(namespace).is_err() {
            return Err(format!("{} is no namespace", quoted(namespace)));
        }
        host = rules.of_namespace(host, namespace);
    }
    let facts = RequestFacts {
        method: "GET",
        is_http_11: true,
        host: Some(authority),
        canonical: Some((&host.label(), host.scope)),
        target: if target.starts_with('/') { target } else { "/" },
        header: &|name| Some(authority).filter(|_| name == "host"),
    };
    let identifiers = &snapshot.config.identifiers;
    match identify(identifiers, &facts) {
        Ok(Some(identified)) => Ok(Named {
            name: snapshot.config.prefix().join(identified.name.labels()),
            is_short: is_short && identifiers.contains(&Identifier::Host),
            rule: rule_of(identifiers, &facts),
        }),
        Ok(None) => Err(format!(
            "no identifier makes a name of a plain GET of {}; ask for a name, like /svc/hello",
            quoted(asked)
        )),
        Err(Unidentifiable::IngressesUnknown) => {
            Err("the cluster's Ingresses are not known here; a running weir has them once they are listed"
                .to_owned())
        }
        Err(bad) => Err(bad.to_string()),
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(router) = &self.router {
            writeln!(f, "router {router}\n")?;
        }
        writeln!(f, "{}", self.explanation.to_string().trim_end())?;
        if let Some(rule) = &self.rule {
            writeln!(f, "\nnamed by {rule}")?;
        }
        if let Some(note) = &self.note {
            writeln!(f, "\n{note}")?;
        }
        if !self.rules.is_empty() {
            writeln!(f, "\npolicy of {}: {}", self.rules.join(", "), requests(self.requests))?;
        }
        for (outside, questions) in &self.dns {
            let names: Vec<&str> =
                questions.inside.iter().chain(&questions.outside).map(|it| &**it).collect();
            writeln!(
                f,
                "\n{outside}: DNS is asked for {}",
                names.join(", and if there is no such name for ")
            )?;
            if !questions.inside.is_empty() {
                writeln!(f, "  what it has for the cluster's own name is used as it is, and not balanced")?;
            }
            if let Some(unknown) = &self.unknown {
                writeln!(f, "  {unknown}")?;
            }
        }
        for refused in &self.refused {
            writeln!(f, "\nweir does not connect to {refused} (requests get 403)")?;
        }
        for awaited in &self.awaited {
            writeln!(f, "\n{awaited} (requests wait, and then get 503)")?;
        }
        self.clusters.iter().try_for_each(|cluster| write_cluster(f, cluster, self.now))
    }
}

/// Describes a cluster and its endpoints.
fn write_cluster(f: &mut fmt::Formatter<'_>, cluster: &Cluster, now: Instant) -> fmt::Result {
    writeln!(f, "\n{}", cluster.name)?;
    let policy = cluster.policy();
    let (breaker, tried) = (&policy.breaker, policy.requests);
    write!(
        f,
        "  breaker: {} failures, out for {:?} to {:?}",
        breaker.failures, breaker.backoff.min, breaker.backoff.max
    )?;
    if tried == RequestPolicy::default() {
        writeln!(f)?
    } else {
        writeln!(f, "; {}", requests(tried))?
    }
    let members = cluster.members();
    if policy.balancer == Balancer::ClientIp {
        writeln!(f, "  each client keeps its endpoint (sessionAffinity: ClientIP)")?;
    }
    if members.all.is_empty() {
        writeln!(f, "  no endpoint: requests get 503")?;
    }
    for member in &members.all {
        writeln!(f, "  {:<24} {}", member.backend.address.to_string(), health(member, breaker, now))?;
    }
    Ok(())
}

/// Describes what is set.
fn requests(requests: RequestPolicy) -> String {
    let response = requests.response().map(|limit| format!("an answer within {limit:?}"));
    let attempts = requests.attempts.map(|attempts| format!("at most {attempts} attempts"));
    let protocol = requests.protocol.map(|protocol| match protocol {
        Protocol::Auto => "the client's version of HTTP".to_owned(),
        Protocol::Http1 => "HTTP/1.1".to_owned(),
        Protocol::Http2 => "HTTP/2".to_owned(),
    });
    let parts: Vec<String> = response.into_iter().chain(attempts).chain(protocol).collect();
    if parts.is_empty() { "as for all".to_owned() } else { parts.join(", ") }
}

/// Describes an endpoint's health.
fn health(member: &Member, policy: &Policy, now: Instant) -> &'static str {
    match (member.condition, member.backend.breaker(now, policy)) {
        (Condition::NotReady, _) => "not ready",
        (Condition::Terminating, _) => "terminating: used when nothing else is left",
        (Condition::Ready, State::Closed) => "ready",
        (Condition::Ready, State::Open { .. }) => "ejected by its breaker",
        (Condition::Ready, State::Due | State::Probing) => "ejected, about to be probed",
    }
}
