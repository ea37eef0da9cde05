//! The service of the catalog, or the pod of a service, that a canonical host names.

use super::Scope;

/// A canonical host parsed as `service[.namespace]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceName<'a> {
    /// The service.
    pub name: &'a str,
    /// Its namespace; `None` is the default one.
    pub namespace: Option<&'a str>,
}

impl<'a> ServiceName<'a> {
    /// Parses `host`; `None` if it has more labels than a service name, so that it can only be outside the cluster.
    pub fn parse(host: &'a str) -> Option<Self> {
        match host.split_once('.') {
            None => Some(Self { name: host, namespace: None }),
            Some((_, namespace)) if namespace.contains('.') => None,
            Some((name, namespace)) => Some(Self { name, namespace: Some(namespace) }),
        }
    }
}

/// A canonical host parsed as `pod.service[.namespace]`: an endpoint by its stable name within a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodName<'a> {
    /// The pod's `hostname`.
    pub hostname: &'a str,
    /// The service.
    pub service: ServiceName<'a>,
}

impl<'a> PodName<'a> {
    /// Parses `host`; `None` if it has another number of labels. Two labels written with `.svc` are a service and its
    /// namespace, not a pod.
    pub fn parse(host: &'a str, scope: Scope) -> Option<Self> {
        let (hostname, rest) = host.split_once('.')?;
        let service = ServiceName::parse(rest)?;
        let says_namespace = service.namespace.is_some();
        (says_namespace || scope == Scope::Anywhere).then_some(Self { hostname, service })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_name_has_one_label_or_two() {
        let read = |host| ServiceName::parse(host).map(|it| (it.name, it.namespace));
        assert_eq!(read("hello"), Some(("hello", None)));
        assert_eq!(read("hello.shop"), Some(("hello", Some("shop"))));
        assert_eq!(read("a.hello.shop"), None);
    }

    #[test]
    fn a_pods_name_has_a_label_more() {
        let read = |host, scope| {
            PodName::parse(host, scope).map(|it| (it.hostname, it.service.name, it.service.namespace))
        };
        for scope in [Scope::Anywhere, Scope::Cluster] {
            assert_eq!(read("db-0.db.shop", scope), Some(("db-0", "db", Some("shop"))));
            assert_eq!(read("db-0", scope), None);
            assert_eq!(read("a.db-0.db.shop", scope), None);
        }
        assert_eq!(read("db-0.db", Scope::Anywhere), Some(("db-0", "db", None)));
        assert_eq!(read("db-0.db", Scope::Cluster), None, "the Service db-0 in the namespace db");
    }
}
