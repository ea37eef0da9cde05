//! `identifier`, in linkerd's kinds and keys.

use super::*;
use crate::domain::identify::ingress::IngressSource;
use crate::domain::identify::{HeaderPath, Identifier, IngressIdentifier};

const CLUSTER: &str = "discovery: { kubernetes: {} }\n";

fn identifier(keys: &str) -> Identifier {
    let settings = parsed(&format!("{CLUSTER}outgoing: {{ identifier: {{ {keys} }} }}"));
    let [identifier] = settings.outgoing.identifiers.as_slice() else { panic!("{keys}") };
    identifier.clone()
}

#[test]
fn linkerds_keys_are_read() {
    let path = |header: Option<&str>, segments| {
        Identifier::HeaderPath(HeaderPath { header: header.map(Into::into), segments })
    };
    let ingress = |namespace: Option<&str>, class: &str, ignore_default_backends| {
        let source = IngressSource {
            namespace: namespace.map(Into::into),
            class: class.into(),
            ignore_default_backends,
        };
        Identifier::Ingress(IngressIdentifier { source, table: None })
    };
    for (keys, expected) in [
        ("kind: io.l5d.header.path", path(None, None)),
        ("kind: io.l5d.header.path, header: ':path', segments: 2", path(None, Some(2))),
        ("kind: io.l5d.header.path, header: X-Path, segments: 64", path(Some("x-path"), Some(64))),
        ("kind: io.l5d.header.token, header: ':authority'", Identifier::Token("host".into())),
        ("kind: io.l5d.ingress", ingress(None, "linkerd", false)),
        (
            "kind: io.l5d.ingress, namespace: shop, ingressClassAnnotation: edge.example",
            ingress(Some("shop"), "edge.example", false),
        ),
        ("kind: io.l5d.ingress, ignoreDefaultBackends: true", ingress(None, "linkerd", true)),
    ] {
        assert_eq!(identifier(keys), expected, "{keys}");
    }
}

#[test]
fn a_mistake_in_an_identifier_has_its_place_and_cure() {
    for (keys, expected) in [
        ("kind: io.l5d.header.path, segments: 0", "0 is not from 1 to 64 segments"),
        ("kind: io.l5d.header.path, segments: 65", "65 is not from 1 to 64 segments"),
        ("kind: io.l5d.header.path, header: ':method'", "`:method` is no header's name"),
        ("kind: io.l5d.ingress, namespace: a/b", "`a/b` is no name of an object (lower-case letters"),
        (
            "kind: io.l5d.ingress, ingressClassAnnotation: ''",
            "`` is no name of an object (lower-case letters",
        ),
        ("kind: io.l5d.ingress, host: localhost", "no identifier: unknown field `host`"),
    ] {
        let found = problems(&format!("{CLUSTER}outgoing: {{ identifier: {{ {keys} }} }}"));
        assert!(found.len() == 1 && found[0].contains(expected), "{keys}: {found:?}");
        assert!(found[0].starts_with("weir.yaml:2:25: outgoing.identifier: "), "{found:?}");
    }
    let found = problems(
        "outgoing:\n- { label: a, listen: none }\n- { label: b, listen: none, identifier: { kind: io.l5d.ingress } }",
    );
    let expected = "weir.yaml:3:41: outgoing[1].identifier: there is no API server to read Ingresses from (set \
                    `discovery.kubernetes`)";
    assert_eq!(found, [expected]);
    let found = problems("discovery: { kubernetes: { ingressRules: 0 } }");
    assert!(found[0].contains("discovery.kubernetes.ingressRules: 0 is not from 1 to 100000"), "{found:?}");
}
