//! `identity`.

use super::*;

#[test]
fn identities_from_files_are_read() {
    let settings = parsed(
        "identity:\n  trustDomain: prod.example\n  source: files\n  files:\n    bundle: ca.crt\n    certificates:\n    - { name: \
         shop/web, certificate: web/tls.crt, key: /keys/web }\n",
    );
    let own = Own {
        account: "shop/web".parse().unwrap(),
        files: Certificate { certificate: "/etc/weir/web/tls.crt".into(), key: "/keys/web".into() },
    };
    let expected = Identity {
        trust_domain: "prod.example".parse().unwrap(),
        bundle: "/etc/weir/ca.crt".into(),
        certificates: vec![own],
    };
    assert_eq!(settings.identity, Some(expected));
    let least = parsed("identity: { files: { bundle: /ca } }\n").identity.unwrap();
    assert_eq!((least.trust_domain.as_str(), least.certificates.len()), ("cluster.local", 0));
}

#[test]
fn each_mistake_in_identity_is_said_at_its_place() {
    let one = "{ name: a/b, certificate: c, key: k }";
    let many = format!(
        "[{}]",
        (0..1001)
            .map(|n| format!("{{ name: a/b{n}, certificate: c, key: k }}"))
            .collect::<Vec<_>>()
            .join(", ")
    );
    for (text, expected) in [
        ("identity:", "weir.yaml:1:1: identity: this section is empty"),
        ("identity: {}", "weir.yaml:1:11: identity.files: there are no files"),
        (
            "identity: { source: issuer, files: { bundle: a } }",
            "weir.yaml:1:21: identity.source: `issuer` is not in this version",
        ),
        (
            "identity: { source: spire, files: { bundle: a } }",
            "weir.yaml:1:21: identity.source: `spire` is not in this version",
        ),
        (
            "identity: { source: vault, files: { bundle: a } }",
            "weir.yaml:1:21: identity.source: `vault` is not a choice",
        ),
        (
            "identity: { mode: strict, files: { bundle: a } }",
            "weir.yaml:1:13: identity.mode: not in this version",
        ),
        (
            "identity: { trustDomain: A.b, files: { bundle: a } }",
            "weir.yaml:1:26: identity.trustDomain: `A.b` is no trust domain",
        ),
        (
            "identity: { trustDomain: \"a/b\", files: { bundle: a } }",
            "weir.yaml:1:26: identity.trustDomain: `a/b` is no trust",
        ),
        (
            "identity: { files: { certificates: [] } }",
            "weir.yaml:1:20: identity.files.bundle: without root certificates",
        ),
        ("identity: { files: { bundle: \"\" } }", "weir.yaml:1:30: identity.files.bundle: no path"),
        (
            "identity: { files: { bundle: a, certificates: [{ name: shop, certificate: c, key: k }] } }",
            "weir.yaml:1:56: identity.files.certificates[0].name: `shop` is no service account",
        ),
        (
            "identity: { files: { bundle: a, certificates: [{ name: a/b, certificate: c }] } }",
            "weir.yaml:1:48: identity.files.certificates[0].key: `key` is missing",
        ),
        (
            &format!("identity: {{ files: {{ bundle: a, certificates: [{one}, {one}] }} }}"),
            "weir.yaml:1:47: identity.files.certificates: `a/b` is here twice",
        ),
        (
            &format!("identity: {{ files: {{ bundle: a, certificates: {many} }} }}"),
            "weir.yaml:1:47: identity.files.certificates: 1001 certificates",
        ),
        (
            "identity: { files: { bundle: a, bundel: b } }",
            "weir.yaml:1:33: identity.files: unknown key `bundel`",
        ),
    ] {
        assert_problems(text, &[expected]);
    }
}
