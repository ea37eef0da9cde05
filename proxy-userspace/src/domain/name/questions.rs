//! The DNS queries for a host, and their order.
//!
//! `dev`, `app` and `shop` are namespaces in many clusters and top-level domains on the internet: asking DNS outside
//! the cluster for a Service's short name would send the request, with its credentials, to the owner of that domain. So
//! a host written as the cluster's ([`Scope::Cluster`]) is queried only below the cluster's domain, and a host that may
//! be the cluster's is queried there first while the Services are not known.

use smallvec::SmallVec;

use super::{Host, Rules, Scope};

/// Whether the Services of the cluster are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Services {
    /// A name that is not in the catalog is not a Service.
    Known,
    /// The first list of Services has not arrived yet.
    Awaited,
}

/// The DNS queries for one host, in order. Names are absolute, without the trailing dot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// Names below the cluster's domain. The next one, or the name outside, is queried only after NXDOMAIN: a missing
    /// answer does not prove that the name does not exist.
    pub inside: SmallVec<[Box<str>; 2]>,
    /// The host as written; none if it is the cluster's own.
    pub outside: Option<Box<str>>,
    /// Whether an answer with addresses outside the cluster's ranges counts as NXDOMAIN, as from a server that answers
    /// every query. Only for hosts of three labels: pods of a StatefulSet or, far more often, hosts outside the
    /// cluster.
    pub foreign_is_none: bool,
}

/// The longest name in bytes (RFC 1035 §2.3.4).
const LONGEST: usize = 253;

impl Rules {
    /// The DNS queries for `host`, which is not an address and comes from a label of this `scope`.
    pub fn questions(&self, host: &str, scope: Scope, services: Services) -> Questions {
        let outside = || Some(host.into());
        let Ok(canonical) = self.host_of(host, scope) else {
            // An invalid host name cannot be the cluster's.
            let outside = if scope == Scope::Anywhere { outside() } else { None };
            return Questions { outside, ..Questions::default() };
        };
        match (canonical.scope, services, labels(&canonical.host)) {
            (Scope::Cluster, ..) => Questions { inside: self.own(&canonical.host), ..Questions::default() },
            _ if scope == Scope::Inside => {
                Questions { inside: self.possible(&canonical.host), ..Questions::default() }
            }
            (_, Services::Awaited, labels @ 2..=3) => Questions {
                inside: self.possible(&canonical.host),
                outside: outside(),
                foreign_is_none: labels == 3,
            },
            _ => Questions { outside: outside(), ..Questions::default() },
        }
    }

    /// The name below the cluster's domain of `host`, which is canonical and the cluster's own.
    fn own(&self, host: &str) -> SmallVec<[Box<str>; 2]> {
        if self.in_cluster_domain(host) {
            return [host.into()].into_iter().collect();
        }
        match labels(host) {
            1 => self.of_default(host).into_iter().collect(),
            _ => self.below_svc(host).into_iter().collect(),
        }
    }

    /// The names that `host` may have in the cluster: a Service alone; a Service with its namespace, or a pod with its
    /// Service; a pod with both.
    fn possible(&self, host: &str) -> SmallVec<[Box<str>; 2]> {
        let (whole, of_default) = match labels(host) {
            1 => (None, self.of_default(host)),
            2 => (self.below_svc(host), self.of_default(host)),
            3 => (self.below_svc(host), None),
            _ => (None, None),
        };
        whole.into_iter().chain(of_default).collect()
    }

    fn of_default(&self, host: &str) -> Option<Box<str>> {
        self.below_svc(&format!("{host}.{}", self.namespace))
    }

    /// None if the name would be too long.
    fn below_svc(&self, host: &str) -> Option<Box<str>> {
        let name = format!("{host}.svc.{}", self.cluster_domain);
        (name.len() <= LONGEST).then(|| name.into())
    }
}

impl Host<'_> {
    /// Whether the host is an address, in any spelling, so that DNS is not needed.
    pub fn is_address(&self) -> bool {
        self.literal().is_some() || self.legacy_literal().is_some()
    }
}

fn labels(host: &str) -> usize {
    host.split('.').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(host: &str, scope: Scope, services: Services) -> (Vec<String>, Option<String>) {
        let rules = Rules {
            namespace: "default".into(),
            port: "http".into(),
            cluster_domain: "cluster.local".into(),
        };
        let questions = rules.questions(host, scope, services);
        (questions.inside.iter().map(ToString::to_string).collect(), questions.outside.map(Into::into))
    }

    #[test]
    fn what_is_written_as_the_clusters_is_asked_for_below_its_domain_only() {
        for services in [Services::Known, Services::Awaited] {
            for (written, scope, inside) in [
                ("api.dev.svc.cluster.local", Scope::Anywhere, "api.dev.svc.cluster.local"),
                ("api.dev.svc", Scope::Anywhere, "api.dev.svc.cluster.local"),
                ("api.svc", Scope::Anywhere, "api.default.svc.cluster.local"),
                ("API.default.SVC", Scope::Anywhere, "api.default.svc.cluster.local"),
                ("set-0.set.zoo.svc", Scope::Anywhere, "set-0.set.zoo.svc.cluster.local"),
                ("10-0-0-1.zoo.pod.cluster.local", Scope::Anywhere, "10-0-0-1.zoo.pod.cluster.local"),
                ("cluster.local", Scope::Anywhere, "cluster.local"),
                ("api.dev", Scope::Cluster, "api.dev.svc.cluster.local"),
                ("api", Scope::Cluster, "api.default.svc.cluster.local"),
                ("api.svc", Scope::Cluster, "api.svc.svc.cluster.local"),
                ("set-0.set.default", Scope::Cluster, "set-0.set.default.svc.cluster.local"),
            ] {
                assert_eq!(asked(written, scope, services), (vec![inside.to_owned()], None), "{written}");
            }
        }
        let long =
            format!("{}.dev", ["a".repeat(60), "b".repeat(60), "c".repeat(60), "d".repeat(60)].join("."));
        assert_eq!(asked(&long, Scope::Cluster, Services::Known), (Vec::new(), None), "no name is that long");
    }

    #[test]
    fn a_short_name_is_a_service_of_the_default_namespace() {
        let inside = vec!["hello.default.svc.cluster.local".to_owned()];
        assert_eq!(asked("hello", Scope::Inside, Services::Awaited), (inside, None));
    }

    #[test]
    fn what_may_be_the_clusters_is_asked_for_there_first_as_long_as_its_services_are_not_known() {
        for (host, inside) in [
            ("rude.shop", &["rude.shop.svc.cluster.local", "rude.shop.default.svc.cluster.local"][..]),
            ("db-0.db.shop", &["db-0.db.shop.svc.cluster.local"]),
            ("a.b.example.com", &[]),
            ("localhost", &[]),
        ] {
            let outside = Some(host.to_owned());
            let inside: Vec<_> = inside.iter().map(|&it| it.to_owned()).collect();
            if !inside.is_empty() {
                let only = asked(host, Scope::Inside, Services::Awaited);
                assert_eq!(only, (inside.clone(), None), "{host} by a namer of Services");
            }
            assert_eq!(asked(host, Scope::Anywhere, Services::Awaited), (inside, outside.clone()), "{host}");
            assert_eq!(asked(host, Scope::Anywhere, Services::Known), (Vec::new(), outside), "{host}");
        }
    }
}
