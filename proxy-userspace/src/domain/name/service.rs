//! Which service of the catalog a canonical host means.

/// A canonical host read as `service[.namespace]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceName<'a> {
    /// The service.
    pub name: &'a str,
    /// Its namespace; `None` is the default one.
    pub namespace: Option<&'a str>,
}

impl<'a> ServiceName<'a> {
    /// Reads `host`; `None` when it has more labels than a service name, so that it can only be outside.
    pub fn of(host: &'a str) -> Option<Self> {
        match host.split_once('.') {
            None => Some(Self { name: host, namespace: None }),
            Some((_, namespace)) if namespace.contains('.') => None,
            Some((name, namespace)) => Some(Self { name, namespace: Some(namespace) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_name_has_one_label_or_two() {
        let read = |host| ServiceName::of(host).map(|it| (it.name, it.namespace));
        assert_eq!(read("hello"), Some(("hello", None)));
        assert_eq!(read("hello.shop"), Some(("hello", Some("shop"))));
        assert_eq!(read("a.hello.shop"), None);
    }
}
