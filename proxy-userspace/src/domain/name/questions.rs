//! What DNS is asked about a host, and in which order.
//!
//! `dev`, `app` and `shop` are namespaces in many clusters, and top-level domains on the internet: a Service's short name that
//! DNS outside the cluster is asked for leads the request, with its credentials, to whoever owns that domain. So a host that
//! was written as the cluster's ([`Scope::Cluster`]) is asked for below the cluster's domain only, and one that may be the
//! cluster's is asked for there first, as long as nobody knows the Services.

use smallvec::SmallVec;

use super::{Host, Rules, Scope};

/// Whether the cluster's Services are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Services {
    /// What is not in the catalog is no Service.
    Known,
    /// The first list of them is still to come.
    Awaited,
}

/// What DNS is asked about one host, in this order. Names are absolute, without the trailing dot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// Names below the cluster's domain. The next one, or the name outside, is asked for when DNS says that there is no such
    /// name (NXDOMAIN), and after nothing else: no answer is no denial.
    pub inside: SmallVec<[Box<str>; 2]>,
    /// The host as it stands; none where it is the cluster's own.
    pub outside: Option<Box<str>>,
    /// Whether an answer with addresses that cannot be the cluster's counts as no such name, as from a server that answers
    /// every question. Only for hosts of three labels: those are pods of a StatefulSet or, far more often, hosts outside.
    pub foreign_is_none: bool,
}

/// Bytes of the longest name (RFC 1035 §2.3.4).
const LONGEST: usize = 253;

impl Rules {
    /// What DNS is asked about `host`, which is no address and was written in a label of this `scope`.
    pub fn questions(&self, host: &str, scope: Scope, services: Services) -> Questions {
        let outside = || Some(host.into());
        let Ok(canonical) = self.host_of(host, scope) else {
            // What is no host name cannot be the cluster's.
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

    /// The name that `host`, canonical and the cluster's own, has below the cluster's domain.
    fn own(&self, host: &str) -> SmallVec<[Box<str>; 2]> {
        if self.in_cluster_domain(host) {
            return [host.into()].into_iter().collect();
        }
        match labels(host) {
            1 => self.of_default(host).into_iter().collect(),
            _ => self.below_svc(host).into_iter().collect(),
        }
    }

    /// The names that `host` has if it is the cluster's: a Service alone; one with its namespace, or a pod with its Service; a
    /// pod with both.
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

    /// None where no name is that long.
    fn below_svc(&self, host: &str) -> Option<Box<str>> {
        let name = format!("{host}.svc.{}", self.cluster_domain);
        (name.len() <= LONGEST).then(|| name.into())
    }
}

impl Host<'_> {
    /// Whether DNS has nothing to say of it: it is an address, however it is spelled.
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
