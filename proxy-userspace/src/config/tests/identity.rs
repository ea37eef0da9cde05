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
        wire: None,
    };
    assert_eq!(settings.identity, Some(expected));
    let least = parsed("identity: { files: { bundle: /ca } }\n").identity.unwrap();
    assert_eq!((least.trust_domain.as_str(), least.certificates.len()), ("cluster.local", 0));
}

#[test]
fn what_is_encrypted_between_weirs_is_read() {
    let text = |wire: &str| {
        format!(
            "transparent: {{ sockets: pod }}\nidentity: {{ wire: {wire}, files: {{ bundle: /ca, certificates: [\
             {{ name: shop/web, certificate: c, key: k }}, {{ name: b/c, certificate: c, key: k }}, \
             {{ name: b/d, certificate: c, key: k }}] }} }}\n"
        )
    };
    let wire = |it: &str| parsed(&text(it)).identity.unwrap().wire.unwrap();
    let least = Wire {
        allow: Allow::default(),
        handshakes: 100,
        mode: WireMode::Permissive,
        plain: Vec::new(),
        pods: Vec::new(),
        peers: Vec::new(),
    };
    assert_eq!(wire("{}"), least);
    let read = wire(
        "{ allow: [10.1.0.0/16], handshakes: 7, mode: strict, plain: [10.9.0.0/24], pods: [{ netns: cni-1, name: shop/web }], peers: [{ name: shop/db, addresses: [10.1.0.2, \"fd00::2\"] }] }",
    );
    let pod = WirePod { netns: "cni-1".into(), account: "shop/web".parse().unwrap() };
    let addresses = vec!["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
    let peer = Peer { account: "shop/db".parse().unwrap(), addresses };
    let allow = Allow::new(vec!["10.1.0.0/16".parse().unwrap()]);
    assert_eq!(
        read,
        Wire {
            allow,
            handshakes: 7,
            mode: WireMode::Strict,
            plain: vec!["10.9.0.0/24".parse().unwrap()],
            pods: vec![pod],
            peers: vec![peer]
        }
    );
    let many = (0..1025).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect::<Vec<_>>().join(", ");
    for (wire, expected) in [
        ("", "weir.yaml:2:13: identity.wire: this section is empty"),
        ("{ pods: [{ netns: a }] }", "weir.yaml:2:28: identity.wire.pods[0].name: `name` is missing"),
        ("{ pods: [{ name: a/b }] }", "weir.yaml:2:28: identity.wire.pods[0].netns: `netns` is missing"),
        (
            "{ pods: [{ netns: a, name: b }] }",
            "weir.yaml:2:46: identity.wire.pods[0].name: `b` is no service account",
        ),
        (
            "{ pods: [{ netns: a, name: b/c }, { netns: a, name: b/d }] }",
            "weir.yaml:2:27: identity.wire.pods: `a` is here twice",
        ),
        (
            "{ peers: [{ name: a/b }] }",
            "weir.yaml:2:29: identity.wire.peers[0].addresses: `addresses` is missing",
        ),
        (
            "{ peers: [{ name: a/b, addresses: [db] }] }",
            "weir.yaml:2:54: identity.wire.peers[0].addresses[0]: `db` is no address",
        ),
        (
            "{ peers: [{ name: a/b, addresses: [10.0.0.1, \"::ffff:10.0.0.1\"] }] }",
            "weir.yaml:2:28: identity.wire.peers: ::ffff:10.0.0.1 is here twice",
        ),
        (&format!("{{ allow: [{many}] }}"), "weir.yaml:2:28: identity.wire.allow: 1025 ranges"),
        (
            "{ pods: [{ netns: a, name: shop/other }] }",
            "weir.yaml:2:19: identity.wire: `pods` has `shop/other`, which has no certificate",
        ),
        ("{ handshakes: 0 }", "weir.yaml:2:33: identity.wire.handshakes: 0 is "),
        ("{ peer: [] }", "weir.yaml:2:21: identity.wire: unknown key `peer`"),
    ] {
        assert_problems(&text(wire), &[expected]);
    }
    for transparent in
        ["", "transparent: {}\n", "transparent: { sockets: auto }\n", "transparent: { sockets: node }\n"]
    {
        let text = format!("{transparent}identity: {{ wire: {{}}, files: {{ bundle: a }} }}");
        let line = transparent.lines().count() + 1;
        let expected = format!("weir.yaml:{line}:19: identity.wire: weir may have no sockets in the pods");
        assert_problems(&text, &[&expected]);
    }
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
