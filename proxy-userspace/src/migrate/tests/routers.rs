//! Which router clients used, and what happens if there was none.

use super::*;

/// The port of the listener.
fn port(text: &str) -> Option<u16> {
    settings(&imported(text).yaml).outgoing.listen.first().map(|listen| listen.port())
}

const FIRST: &str =
    "- { protocol: http, label: out, servers: [{ port: 8140 }], dtab: '/svc => /#/io.l5d.fs' }\n";

#[test]
fn a_second_hop_is_never_opened_to_clients() {
    for second in [
        // By its label.
        "- { protocol: http, label: incoming, servers: [{ port: 8141 }] }\n",
        "- { protocol: http, label: http-incoming, servers: [{ port: 4140 }] }\n",
        // By a transformer to its own node.
        "- { protocol: http, servers: [{ port: 8141 }], interpreter: { kind: default, transformers: [{ kind: io.l5d.k8s.localnode }] } }\n",
        "- { protocol: http, servers: [{ port: 8141 }], interpreter: { kind: default, transformers: [{ kind: io.l5d.localhost }] } }\n",
        // By an identifier that reads the first hop's headers.
        "- { protocol: http, servers: [{ port: 8141 }], identifier: { kind: io.l5d.header, header: l5d-dst-concrete } }\n",
        "- { protocol: http, servers: [{ port: 4140 }], identifier: { kind: io.l5d.header, header: L5d-Dst-Service } }\n",
    ] {
        let both = format!("routers:\n{second}{FIRST}");
        assert_eq!(port(&both), Some(8140), "{second}");
        let alone = format!("routers:\n{second}");
        assert_eq!(port(&alone), None, "{second}");
        assert_eq!(broken(&imported(&alone)), ["routers"], "{second}");
    }
}

#[test]
fn a_router_that_another_sends_to_is_a_second_hop() {
    let to = |port: &str| {
        format!(
            "routers:\n- {{ protocol: http, label: in, servers: [{{ port: 8141 }}] }}\n- {{ protocol: http, label: out, \
             servers: [{{ port: 8140 }}], dtab: '/svc => /#/io.l5d.fs', interpreter: {{ kind: default, transformers: [{{ \
             kind: io.l5d.k8s.daemonset, namespace: d, service: l5d, port: {port} }}] }} }}\n"
        )
    };
    for by in ["8141", "in"] {
        assert_eq!(port(&to(by)), Some(8140), "{by}");
    }
    assert_eq!(port(&to("9999")), Some(8141), "the first of two, neither of which is a second hop");
    let namer = "namers:\n- { kind: io.l5d.fs, transformers: [{ kind: io.l5d.port, port: 8141 }] }\nrouters:\n- { protocol: \
                 http, servers: [{ port: 8141 }] }\n- { protocol: http, servers: [{ port: 8140 }], dtab: '/svc => \
                 /#/io.l5d.fs' }\n";
    assert_eq!(port(namer), Some(8140));
}

#[test]
fn without_a_router_of_http_nothing_is_opened() {
    for routers in [
        "[]",
        "[{ protocol: thriftmux }]",
        "[{ protocol: thrift, servers: [{ port: 4140 }] }, { protocol: mux }]",
    ] {
        let imported = imported(&format!("routers: {routers}\n"));
        assert_eq!(settings(&imported.yaml).outgoing.listen, [], "{routers}");
        assert_eq!(broken(&imported), ["routers"], "{routers}");
        assert!(imported.yaml.contains("\n  listen: none\n"), "{}", imported.yaml);
    }
}

#[test]
fn a_dtab_that_is_elsewhere_is_not_weirs_own() {
    for (interpreter, how) in [
        ("{ kind: io.l5d.namerd, dst: /$/inet/namerd/4100, namespace: web }", "namerctl dtab get web"),
        ("{ kind: io.l5d.mesh, dst: /$/inet/namerd/4321, root: /default }", "namerctl dtab get default"),
        ("{ kind: io.l5d.namerd.http }", "/api/1/dtabs/default"),
        (
            "{ kind: io.l5d.k8s.configMap, name: dtabs, namespace: mesh }",
            "kubectl -n mesh get configmap dtabs",
        ),
        ("{ kind: io.l5d.fs, dtabFile: /etc/l5d/dtab }", "in the file `/etc/l5d/dtab`"),
        ("{ kind: com.example.own }", "put it into `baseDtab`"),
    ] {
        let text = router(&format!("  interpreter: {interpreter}\n"));
        let imported = imported(&text);
        assert_eq!(settings(&imported.yaml).dtab.entries.len(), 0, "{interpreter}");
        assert_eq!(broken(&imported), ["routers[0].interpreter"]);
        let why = &note(&imported, "routers[0].interpreter").why;
        assert!(why.contains(how) && why.contains("`baseDtab` is empty"), "{why}");
        let own = format!("{text}  dtab: /svc/x => /$/inet/10.0.0.1/80\n");
        assert_eq!(settings(&super::imported(&own).yaml).dtab.entries.len(), 1, "{interpreter}");
    }
}

#[test]
fn names_that_nothing_binds_are_warned_of() {
    let namer = "namers:\n- { kind: io.l5d.fs }\n";
    for (keys, what) in [
        ("  dstPrefix: /http\n  dtab: /svc => /#/io.l5d.fs\n", "requests' names begin with /http"),
        ("  dtab: /svc => /io.l5d.fs\n", "did you mean /#/io.l5d.fs?"),
        (
            "  dtab: /svc => /#/io.l5d.fs; /%/io.l5d.k8s.daemonset/a/b/c => ~\n",
            "begins with /%/io.l5d.k8s.daemonset/a/b/c",
        ),
        ("  dtab: /svc => /#/io.l5d.consul/dc1\n", "no namer has the prefix of /#/io.l5d.consul/dc1"),
    ] {
        let imported = imported(&format!("{namer}{}", router(keys)));
        let warned: Vec<_> = imported.warnings().map(ToString::to_string).collect();
        assert!(warned.len() == 1 && warned[0].contains(what), "{warned:?}");
    }
    let selector = format!(
        "namers:\n- {{ kind: io.l5d.k8s, labelSelector: version }}\n{}",
        router("  dtab: /svc => /#/io.l5d.k8s/default/http\n")
    );
    assert_eq!(broken(&imported(&selector)), ["namers[0].labelSelector"]);
}

#[test]
fn one_of_several_linkerds_is_chosen_by_name() {
    let map = |name: &str, port: u16| {
        format!(
            "---\nkind: ConfigMap\nmetadata: {{ name: {name} }}\ndata:\n  a.yaml: |\n    routers:\n    - {{ protocol: http, \
             dtab: '/svc => /#/io.l5d.fs', servers: [{{ port: {port} }}] }}\n"
        )
    };
    let text = map("one", 1001) + &map("two", 1002);
    let named = |name| import("l5d.yaml", &text, Options { name: Some(name), plain_text: false });
    for (name, port) in [("one", 1001), ("two", 1002), ("two/a.yaml", 1002)] {
        let listen = settings(&named(name).unwrap().yaml).outgoing.listen;
        assert_eq!(listen[0].port(), port, "{name}");
    }
    let error = named("three").unwrap_err().to_string();
    assert!(error.contains("is called `three` here (there is `one/a.yaml`, `two/a.yaml`)"), "{error}");
    let error = import("l5d.yaml", &text, Options::default()).unwrap_err().to_string();
    assert!(error.contains("choose one with --name, of `one/a.yaml`, `two/a.yaml`"), "{error}");
}

#[test]
fn a_template_is_to_be_rendered_first() {
    for (text, place) in [
        ("routers:\n- protocol: http\n  servers: [{ port: {{ .Values.port }} }]\n", "3:21"),
        ("routers:\n- protocol: http\n  dtab: \"{{ include \\\"dtab\\\" . }}\"\n", "3:10"),
        ("routers:\n<% if x %>\n- protocol: http\n", "2:1"),
        ("{% if x %}\nrouters: []\n{% endif %}\n", "1:1"),
    ] {
        let error = import("l5d.yaml", text, Options::default()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("l5d.yaml:{place}: a template")), "{error}");
        assert!(error.contains("render it first"), "{error}");
    }
    imported("# {{ a comment }}\nrouters:\n- { protocol: http, dtab: '/svc => /#/io.l5d.fs' }\n");
}

#[test]
fn telemeters_are_named_one_by_one() {
    let telemetry = "telemetry:\n- { kind: io.l5d.prometheus }\n- { kind: io.l5d.zipkin, sampleRate: 0.1 }\n- { kind: io.l5d.statsd }\n";
    let imported = imported(&format!("{telemetry}{}", router("  dtab: /svc => /#/io.l5d.fs\n")));
    assert_eq!(left(&imported), ["telemetry[0]", "telemetry[1]", "telemetry[2]"]);
    assert!(note(&imported, "telemetry[1]").why.starts_with("io.l5d.zipkin: weir writes no traces yet"));
}

#[test]
fn the_url_in_names_of_0_7_stood_at_the_router() {
    let with = imported(&router("  baseDtab: /http => /#/io.l5d.fs\n  httpUriInDst: true\n"));
    assert!(
        with.yaml.contains("identifier: { kind: io.l5d.methodAndHost, httpUriInDst: true }"),
        "{}",
        with.yaml
    );
    let later = imported(&router("  dtab: /svc => /#/io.l5d.fs\n  httpUriInDst: true\n"));
    assert_eq!(left(&later), ["routers[0].httpUriInDst"]);
}

/// Label, port and first name's prefix of each router.
fn all(imported: &Imported) -> Vec<(String, u16, String)> {
    let settings = settings(&imported.yaml);
    let of = |router: &config::Outgoing| {
        let port = router.listen.first().map_or(0, |listen| listen.port());
        (router.label.to_string(), port, router.prefix.to_string())
    };
    settings.all_routers().map(of).collect()
}

#[test]
fn every_router_for_clients_is_carried_over_with_its_own_rules() {
    let text = "
routers:
- protocol: http
  label: edge
  dtab: '/edge => /#/io.l5d.fs/v2'
  dstPrefix: /edge
  identifier: { kind: io.l5d.path, segments: 1, consume: true }
  servers: [{ port: 8080, clearContext: true }]
  service: { totalTimeoutMs: 900, kind: io.l5d.global }
- protocol: http
  label: incoming
  servers: [{ port: 4141 }]
- protocol: http
  label: out & about
  dtab: |
    /svc => /#/io.l5d.fs ;
  client: { tls: { commonName: x } }
  service: { kind: io.l5d.static, configs: [{ prefix: /svc/a, totalTimeoutMs: 500 }] }
- protocol: h2
  servers: [{ port: 4142 }]
";
    let imported = imported(text);
    let expected = [("out---about", 4140, "/svc"), ("edge", 8080, "/edge"), ("h2", 4142, "/svc")];
    assert_eq!(all(&imported), expected.map(|(label, port, prefix)| (label.into(), port, prefix.into())));
    assert_eq!(left(&imported), ["routers[1]"]);
    let settings = settings(&imported.yaml);
    let [out, edge, _h2] = settings.all_routers().collect::<Vec<_>>()[..] else { panic!() };
    let entries = |router| settings.dtab_of(router).entries.len();
    assert_eq!((entries(out), entries(edge)), (2, 1), "what was encrypted is refused\n{}", imported.yaml);
    let of = |router, name: &str| settings.policies_of(router).service(&name.parse().unwrap()).response();
    let millis = std::time::Duration::from_millis;
    assert_eq!((of(out, "/svc/a"), of(out, "/svc/b")), (Some(millis(500)), None));
    assert_eq!((of(edge, "/edge/a"), of(edge, "/edge/b")), (Some(millis(900)), Some(millis(900))));
    let client = "10.1.2.3".parse().unwrap();
    assert!(out.overrides.permits(client) && !edge.overrides.permits(client));
}

#[test]
fn a_router_of_http2_is_carried_over_with_its_identifiers() {
    let grpc = |keys: &str| {
        imported(&format!(
            "routers:\n- {{ protocol: h2, dtab: '/svc => /#/io.l5d.fs', servers: [{{ port: 4340 }}], {keys} }}\n"
        ))
    };
    for (identifier, expected) in [
        ("{ kind: io.l5d.header.path, segments: 2 }", "{ kind: io.l5d.header.path, segments: 2 }"),
        ("{ kind: io.l5d.headerPath, header: ':path' }", "{ kind: io.l5d.header.path }"),
        ("{ kind: io.l5d.header.path, header: x-name }", "{ kind: io.l5d.header.path, header: x-name }"),
        (
            "{ kind: io.l5d.header.token, header: ':authority' }",
            "{ kind: io.l5d.header.token, header: Host }",
        ),
        ("{ kind: io.l5d.header.token }", "{ kind: io.l5d.header.token, header: Host }"),
        ("{ kind: io.l5d.ingress, namespace: a }", "{ kind: io.l5d.ingress, namespace: a }"),
    ] {
        let imported = grpc(&format!("identifier: {identifier}"));
        let line = format!("\n  listen: \"127.0.0.1:4340\"\n  identifier: {expected}\n");
        assert!(imported.yaml.contains(&line), "{identifier}: {}", imported.yaml);
        assert_eq!(left(&imported), [""; 0]);
        settings(&imported.yaml);
    }
    assert_eq!(grpc("label: a").notes, []);
    let logs = grpc("h2AccessLog: a, experimental: true");
    assert_eq!(left(&logs), ["routers[0].h2AccessLog", "routers[0].experimental"]);
    // linkerd's own port for HTTP/2, and its prefix before 0.9.
    let zero = imported("routers:\n- { protocol: h2, baseDtab: '/h2 => /#/io.l5d.fs' }\n");
    assert_eq!(all(&zero), [("outgoing".to_owned(), 4142, "/h2".to_owned())]);
    assert!(zero.yaml.contains("identifier: { kind: io.l5d.header.token, header: Host }"), "{}", zero.yaml);
}

#[test]
fn an_ingress_identifier_is_carried_over_and_reads_its_own_api_server() {
    let of = |keys: &str| {
        imported(&router(&format!(
            "  dtab: /svc => /#/io.l5d.k8s\n  identifier: {{ kind: io.l5d.ingress{keys} }}\n"
        )))
    };
    let all = of(
        ", namespace: shop, ingressClassAnnotation: edge, ignoreDefaultBackends: true, host: localhost, port: 8001",
    );
    let line = "{ kind: io.l5d.ingress, namespace: shop, ingressClassAnnotation: edge, ignoreDefaultBackends: true }";
    assert!(all.yaml.contains(line) && all.yaml.contains("\n  kubernetes: {}\n"), "{}", all.yaml);
    assert_eq!(left(&all), ["routers[0].identifier.host", "routers[0].identifier.port"]);
    assert_eq!(changed(&all), ["routers[0].identifier"]);
    settings(&all.yaml);
    assert!(of("").yaml.contains("identifier: { kind: io.l5d.ingress }"));
    let istio = imported(&router("  dtab: ''\n  identifier: { kind: io.l5d.k8s.istio }\n"));
    assert!(note(&istio, "routers[0].identifier").why.contains("reads no rules of Istio's"));
}

#[test]
fn servers_with_the_same_settings_are_one_router_and_each_other_is_its_own() {
    let file = |servers: &str| {
        format!(
            "routers:\n- {{ protocol: http, label: out, dtab: '/svc => /#/io.l5d.fs', servers: [{servers}] }}\n"
        )
    };
    let both = imported(&file("{ port: 4140 }, { port: 80, clearContext: true }"));
    let expected = [("out", 4140, "/svc"), ("out-2", 80, "/svc")];
    assert_eq!(all(&both), expected.map(|(label, port, prefix)| (label.into(), port, prefix.into())));
    assert_eq!(left(&both), [""; 0]);
    let client = "10.1.2.3".parse().unwrap();
    let overrides: Vec<_> =
        settings(&both.yaml).all_routers().map(|it| it.overrides.permits(client)).collect();
    assert_eq!(overrides, [true, false]);
    // The same settings: one router with an address for each.
    let three =
        imported(&file("{ port: 4140 }, { port: 80, clearContext: true }, { port: 81, ip: 0.0.0.0 }"));
    let listen: Vec<_> = settings(&three.yaml).all_routers().map(|it| it.listen.clone()).collect();
    let at = |text: &str| text.parse::<std::net::SocketAddr>().unwrap();
    assert_eq!(listen, [vec![at("127.0.0.1:4140"), at("0.0.0.0:81")], vec![at("127.0.0.1:80")]]);
    let two = imported(&file("{ port: 4140 }, { port: 80 }"));
    assert!(two.yaml.contains("\n  listen: [\"127.0.0.1:4140\", \"127.0.0.1:80\"]\n"), "{}", two.yaml);
    // With as many as a router may have.
    let servers: Vec<_> = (1..=17).map(|port| format!("{{ port: {port} }}")).collect();
    let many = imported(&file(&servers.join(", ")));
    let listen: Vec<_> = settings(&many.yaml).all_routers().map(|it| it.listen.len()).collect();
    assert_eq!(listen, [16, 1]);
    let text = file("{ port: 80 }, { port: 80 }");
    let error = import("l5d.yaml", &text, Options::default()).unwrap_err().to_string();
    assert!(
        error.contains("routers: `80` is a port of two servers of the router `out` (give each"),
        "{error}"
    );
    // One that clients had to show a certificate to stays closed, and the other opens.
    let tls = imported(&file("{ port: 4140, tls: { requireClientAuth: true } }, { port: 80 }"));
    let listen: Vec<_> =
        settings(&tls.yaml).all_routers().map(|it| it.listen.first().map(|it| it.port())).collect();
    assert_eq!(listen, [None, Some(80)]);
}

#[test]
fn what_all_routers_share_is_said_and_where_they_differ_the_first_counts() {
    let router = |label: &str, port: u16, failures: u32| {
        format!(
            "- {{ protocol: http, label: {label}, dtab: '/svc => /#/io.l5d.fs', servers: [{{ port: {port} }}], client: {{ \
             failureAccrual: {{ kind: io.l5d.consecutiveFailures, failures: {failures} }} }} }}\n"
        )
    };
    let of = |failures| imported(&format!("routers:\n{}{}", router("a", 1, 3), router("b", 2, failures)));
    for (failures, differ) in [(3, false), (7, true)] {
        let imported = of(failures);
        assert_eq!(settings(&imported.yaml).breaker.failures, 3);
        let lost = imported.notes.iter().any(|it| it.why.contains("differs from an earlier router's"));
        assert_eq!(lost, differ, "{:#?}", imported.notes);
        assert!(note(&imported, "routers[0]").why.contains("all routers share the endpoints"));
    }
}

#[test]
fn two_routers_on_one_port_or_with_one_label_are_a_mistake_each() {
    let router = |keys: &str| format!("- {{ protocol: http, dtab: '/svc => /#/io.l5d.fs', {keys} }}\n");
    for (one, other, expected) in [
        (
            "label: a, servers: [{ port: 80 }]",
            "label: b, servers: [{ port: 80 }]",
            "l5d.yaml:1:1: routers: `80` is a port of the routers `a` and `b` (give each server",
        ),
        (
            "servers: [{ port: 80 }]",
            "servers: [{ port: 81 }]",
            "l5d.yaml:3:3: routers[1]: a second router is called `http` (give each a `label`",
        ),
    ] {
        let text = format!("routers:\n{}{}", router(one), router(other));
        let error = import("l5d.yaml", &text, Options::default()).unwrap_err().to_string();
        assert!(error.starts_with(expected) && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn a_name_that_one_of_several_routers_cannot_bind_is_warned_of_there() {
    let text = "namers: [{ kind: io.l5d.fs }]\nrouters:\n- { protocol: http, label: a, dtab: '/svc => /#/io.l5d.fs' }\n- { \
                protocol: http, label: b, servers: [{ port: 80 }], dtab: '/svc => /io.l5d.fs' }\n- { protocol: http, label: c, \
                servers: [{ port: 81 }], interpreter: { kind: io.l5d.namerd } }\n";
    let warned: Vec<_> = imported(text).warnings().map(ToString::to_string).collect();
    assert!(warned[0].starts_with("outgoing[1].baseDtab, line 1: no entry is for /io.l5d.fs"), "{warned:?}");
    assert!(warned.len() == 2 && warned[1].contains("routers[2].interpreter"), "{warned:?}");
}
