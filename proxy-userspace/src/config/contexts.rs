//! `outgoing.contexts`: from whom `l5d-ctx-dtab` is believed.

use std::net::IpAddr;
use std::sync::Arc;

use super::Allow;
use super::problem::Mistake;
use super::tree::Node;
use super::values;

/// The clients whose `l5d-ctx-dtab` counts: those at these addresses, and the pods of these namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contexts {
    allow: Allow,
    namespaces: Vec<Arc<str>>,
}

/// One entry of the list.
pub(super) enum Believed {
    Range(ipnet::IpNet),
    Namespace(Arc<str>),
}

impl Contexts {
    /// Those of this list; an empty one is nobody.
    pub(super) fn new(list: Vec<Believed>) -> Self {
        let (mut ranges, mut namespaces) = (Vec::new(), Vec::new());
        for entry in list {
            match entry {
                Believed::Range(range) => ranges.push(range),
                Believed::Namespace(namespace) => namespaces.push(namespace),
            }
        }
        Self { allow: Allow::new(ranges), namespaces }
    }

    /// Every client.
    pub fn everyone() -> Self {
        Self { allow: Allow::everyone(), namespaces: Vec::new() }
    }

    /// No client.
    pub fn nobody() -> Self {
        Self::new(Vec::new())
    }

    /// Whether a client at `source`, a pod of `namespace` where that is known, is one of them.
    pub fn include(&self, source: IpAddr, namespace: Option<&str>) -> bool {
        let is_of = |namespace: &str| self.namespaces.iter().any(|it| **it == *namespace);
        self.allow.permits(source) || namespace.is_some_and(is_of)
    }
}

/// A range of addresses, or a namespace.
pub(super) fn believed(node: &Node) -> Result<Believed, Mistake> {
    // No namespace has a dot, a colon or a slash.
    match values::text(node)?.contains(['.', ':', '/']) {
        true => values::cidr(node).map(Believed::Range),
        false => values::label(node).map(|namespace| Believed::Namespace(namespace.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::parse;

    #[test]
    fn contexts_are_believed_from_those_that_are_named_and_on_kubernetes_from_nobody_else() {
        let kubernetes = "discovery: { kubernetes: {} }\n";
        for (yaml, ip, namespace, is_believed) in [
            ("", "10.1.0.1", None, true),
            (kubernetes, "10.1.0.1", None, false),
            (kubernetes, "127.0.0.1", Some("shop"), false),
            ("outgoing: { contexts: [] }", "10.1.0.1", None, false),
            ("outgoing: { contexts: [10.1.0.0/16] }", "10.1.0.1", None, true),
            ("outgoing: { contexts: [10.1.0.0/16] }", "::ffff:10.1.0.1", None, true),
            ("outgoing: { contexts: [10.2.0.1] }", "10.1.0.1", None, false),
            ("outgoing: { contexts: [shop] }", "10.1.0.1", Some("shop"), true),
            ("outgoing: { contexts: [shop, fd00::/8] }", "10.1.0.1", Some("shop2"), false),
            ("outgoing: { contexts: [shop, fd00::/8] }", "fd00::1", None, true),
        ] {
            let settings = parse("weir.yaml", yaml, Path::new(".")).unwrap();
            let contexts = settings.contexts_of(&settings.outgoing);
            assert_eq!(
                contexts.include(ip.parse().unwrap(), namespace),
                is_believed,
                "{yaml} {ip} {namespace:?}"
            );
        }
        for (entry, why) in
            [("Shop_1", "is not a DNS label"), ("10.0.0.0/99", "is not a range"), ("a.b", "is not a range")]
        {
            let yaml = format!("outgoing: {{ contexts: [{entry}] }}");
            let mistake = parse("weir.yaml", &yaml, Path::new(".")).unwrap_err().to_string();
            assert!(mistake.contains("outgoing.contexts[0]") && mistake.contains(why), "{mistake}");
        }
    }
}
