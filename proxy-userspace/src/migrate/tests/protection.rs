//! Protection by linkerd is never silently reduced.

use super::*;
use crate::domain::dtab::NameTree;
use crate::domain::name::{Labels, Path as Name};
use crate::domain::route::{Answer, Delegation, Kind, Limits, Names, Target, Transformer};

fn plain_text(text: &str) -> Imported {
    import("l5d.yaml", text, Options { plain_text: true, name: None }).unwrap()
}

fn unprotected(imported: &Imported) -> Vec<&str> {
    paths(imported, Fate::Unprotected)
}

/// A stub catalog in which every name has an endpoint.
struct Everything;

impl Names for Everything {
    type Port = ();

    fn find(&self, _: &Kind, rest: Labels<'_>) -> Answer<()> {
        Answer::Port { port: (), taken: rest.len() }
    }

    fn transformed(&self, (): (), _: &[Transformer], _: &Name) {}

    fn why_not(&self, _: &Kind, _: Labels<'_>) -> String {
        String::new()
    }
}

/// Whether a request for `name` leads to an endpoint.
fn leads_somewhere(imported: &Imported, name: &str) -> bool {
    let settings = settings(&imported.yaml);
    let dtabs = [&*settings.dtab];
    let limits = Limits::CONFIGURATION;
    let delegation = Delegation { dtabs: &dtabs, namers: &settings.namers, names: &Everything, limits };
    let mut places = 0;
    if let Ok(tree) = delegation.bind(&name.parse().unwrap()) {
        let _: NameTree<()> = tree.map(&mut |bound| match bound.target {
            Target::Port(()) | Target::Outside(_) => places += 1,
        });
    }
    places > 0
}

const NAMERS: &str = "namers:\n- { kind: io.l5d.fs }\n- { kind: io.l5d.k8s }\n";

const DTAB: &str =
    "  dtab: |\n    /svc => /#/io.l5d.fs ;\n    /out => /$/io.buoyant.rinet ;\n    /k8s => /#/io.l5d.k8s ;\n";

#[test]
fn what_was_encrypted_is_refused_unless_plain_text_is_asked_for() {
    let (fs, k8s, outside) = ("/svc/hello", "/k8s/default/http/hello", "/out/443/example.com");
    for (client, refused, reached) in [
        (
            "{ kind: io.l5d.static, configs: [{ prefix: '/#/io.l5d.fs/{s}', tls: { commonName: x } }] }",
            vec![fs],
            vec![k8s, outside],
        ),
        (
            "{ kind: io.l5d.static, configs: [{ prefix: '/$/io.buoyant.rinet/443/{host}', tls: { commonName: '{host}' } }] }",
            vec![outside],
            vec![fs, k8s, "/out/80/example.com"],
        ),
        (
            "{ kind: io.l5d.static, configs: [{ prefix: '/%/io.l5d.k8s.daemonset/a/b/c/#/io.l5d.k8s', tls: {} }] }",
            vec![k8s],
            vec![fs, outside],
        ),
        ("{ tls: { commonName: x, trustCerts: [/ca.pem] } }", vec![fs, k8s, outside], vec![]),
        ("{ tls: { disableValidation: true } }", vec![fs, k8s, outside], vec![]),
        // A kind or prefix that weir cannot read may have applied to any name.
        ("{ kind: com.example.client, tls: {} }", vec![fs, k8s, outside], vec![]),
        (
            "{ kind: io.l5d.static, configs: [{ prefix: '/#/io.l5d.fs/{{', tls: {} }] }"
                .replace("{{", "{")
                .as_str(),
            vec![fs, k8s, outside],
            vec![],
        ),
    ] {
        let text = format!("{NAMERS}{}", router(&format!("{DTAB}  client: {client}\n")));
        let imported = imported(&text);
        assert_eq!(unprotected(&imported).len(), 1, "{client}: {:#?}", imported.notes);
        for name in refused {
            assert!(!leads_somewhere(&imported, name), "{client}: {name}\n{}", imported.yaml);
            assert!(leads_somewhere(&plain_text(&text), name), "{client}: {name}");
        }
        for name in reached {
            assert!(leads_somewhere(&imported, name), "{client}: {name}\n{}", imported.yaml);
        }
    }
}

#[test]
fn the_router_tls_of_0_8_is_refused_like_the_clients() {
    let text = router(
        "  baseDtab: /http/1.1/GET => /$/inet/10.0.0.1/80\n  tls: { kind: io.l5d.clientTls.static }\n",
    );
    assert!(!leads_somewhere(&imported(&text), "/http/1.1/GET/a"));
    assert!(leads_somewhere(&plain_text(&text), "/http/1.1/GET/a"));
}

#[test]
fn a_listener_that_spoke_tls_is_not_opened() {
    for (tls, opens_with_plain_text) in [
        ("{ certPath: /a.pem, keyPath: /a.key }", true),
        ("{ certPath: /a.pem, requireClientAuth: false }", true),
        ("{ certPath: /a.pem, requireClientAuth: true }", false),
        ("{ certPath: /a.pem, requireClientAuth: \"true\" }", false),
    ] {
        let text = format!(
            "routers:\n- protocol: http\n  dtab: /svc => /$/inet/10.0.0.1/80\n  servers: [{{ tls: {tls} }}]\n"
        );
        let imported = imported(&text);
        assert_eq!(unprotected(&imported), ["routers[0].servers[0].tls"]);
        assert_eq!(settings(&imported.yaml).outgoing.listen, [], "{tls}");
        let opened = settings(&plain_text(&text).yaml).outgoing.listen.len() == 1;
        assert_eq!(opened, opens_with_plain_text, "{tls}");
    }
}

#[test]
fn an_admin_that_spoke_tls_stays_on_loopback() {
    let text = format!("admin: {{ ip: 0.0.0.0, tls: {{ certPath: /a }} }}\n{}", router("  dtab: ''\n"));
    let imported = imported(&text);
    assert_eq!(unprotected(&imported), ["admin.tls"]);
    assert_eq!(settings(&imported.yaml).admin.listen, "127.0.0.1:9990".parse().unwrap());
}

#[test]
fn protection_that_is_gone_comes_first() {
    // What does not work as it stands is earlier in the file.
    let text = router(
        "  failFast: true\n  interpreter: { kind: io.l5d.namerd }\n  client: { tls: {}, forwardClientCert: true }\n",
    );
    let imported = imported(&text);
    let at = |text: &str| imported.yaml.find(text).unwrap_or_else(|| panic!("{text}\n{}", imported.yaml));
    assert!(at("# PROTECTION THAT IS GONE:") < at("# Does not work as it stands:"));
    assert!(at("# Does not work as it stands:") < at("# Not carried over:"));
    assert_eq!(imported.yaml.lines().nth(2), Some("# PROTECTION THAT IS GONE:"));
    let warned: Vec<_> = imported.warnings().map(|note| note.path.as_str()).collect();
    let client = ["routers[0].client.tls", "routers[0].client.forwardClientCert"];
    assert_eq!(warned, [client[0], client[1], "routers[0].interpreter"]);
}

#[test]
fn an_open_address_is_noted_with_who_may_connect_now() {
    for (ip, noted) in
        [("0.0.0.0", true), ("10.0.0.7", true), ("\"::\"", true), ("127.0.0.1", false), ("localhost", false)]
    {
        let text = format!(
            "routers:\n- {{ protocol: http, dtab: '/svc=>/#/io.l5d.fs', servers: [{{ ip: {ip} }}] }}\n"
        );
        let imported = imported(&text);
        assert_eq!(!changed(&imported).is_empty(), noted, "{ip}: {:#?}", imported.notes);
        assert_eq!(left(&imported), [""; 0], "{ip} is an address, and `localhost` stands for one");
        if noted {
            assert!(note(&imported, "routers[0].servers[0].ip").why.contains("`outgoing.allow`"));
        }
    }
}
