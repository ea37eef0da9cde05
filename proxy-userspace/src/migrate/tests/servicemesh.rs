//! A file in the style of linkerd 1.x's service mesh.

use super::*;
use crate::domain::identify::{Identifier, UrlPath};

const FILE: &str = r#"apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ConfigMap
  metadata: { name: l5d-config, namespace: mesh }
  data:
    readme.txt: "no YAML: at all: ["
    linkerd.yml: |

      admin: { ip: 0.0.0.0, port: 9990, security: { controlEnabled: false } }
      telemetry:
      - kind: io.l5d.prometheus
      usage: { enabled: false }
      namers:
      - kind: io.l5d.k8s
      - kind: io.l5d.k8s
        prefix: /io.l5d.k8s.http
        transformers:
        - { kind: io.l5d.k8s.daemonset, namespace: mesh, port: http-incoming, service: l5d }
      - kind: io.l5d.k8s.ns
        envVar: POD_NS
      - kind: io.l5d.rewrite
        prefix: /order
        pattern: "/{port}/{ns}/{svc}"
        name: "/k8s/{ns}/{port}/{svc}"
      - kind: io.l5d.fs
        rootDir: disco files
      - kind: io.l5d.consul
      routers:
      - protocol: mux
        label: grpc
        servers: [{ port: 4340 }]
      - protocol: http
        label: http-incoming
        servers: [{ port: 4141, ip: 0.0.0.0 }]
      - protocol: http
        label: http-outgoing
        servers:
        - { port: 4140, ip: 0.0.0.0, maxConcurrentRequests: 500, clearContext: true }
        identifier:
        - { kind: io.l5d.header.token, header: x-service }
        - { kind: io.l5d.path, segments: 2, consume: true }
        - { kind: io.l5d.header }
        - { kind: io.l5d.static, path: fallback }
        - { kind: io.l5d.ingress }
        dtab: |2
            /ph   => /$/io.buoyant.rinet ;              # by port and host
          /svc  => /ph/80 ;
          /svc  => /$/io.buoyant.porthostPfx/ph ;

          /k8s  => /#/io.l5d.k8s.http ;
          /host => /#/order/http/default ;
          /svc  => /$/io.buoyant.http.domainToPathPfx/host ;
        client:
          kind: io.l5d.static
          configs:
          - prefix: "/$/io.buoyant.rinet/443/{service}"
            tls: { commonName: "{service}" }
        service:
          totalTimeoutMs: 700
          responseClassifier: { kind: io.l5d.http.retryableRead5XX }
      - protocol: thrift
"#;

#[test]
fn the_router_on_4140_is_carried_over_with_its_names() {
    let imported = imported(FILE);
    let settings = settings(&imported.yaml);
    assert_eq!(settings.outgoing.listen, ["0.0.0.0:4140".parse().unwrap()]);
    assert_eq!(settings.admin.listen, "0.0.0.0:9990".parse().unwrap());
    assert_eq!(settings.dtab.entries.len(), 7, "and one that refuses what was encrypted");
    assert_eq!(settings.limits.response, std::time::Duration::from_millis(700));
    assert_eq!(settings.discovery.files.unwrap().path, Path::new("/etc/weir/disco files"));
    let expected = "
outgoing:
  listen: \"0.0.0.0:4140\"
  overrides: []
  identifier:
    - { kind: io.l5d.header.token, header: x-service }
    - { kind: io.l5d.path, segments: 2, consume: true }
    - { kind: io.l5d.header, header: l5d-name }
    - { kind: io.l5d.static, path: /fallback }
    - { kind: io.l5d.ingress }

admin:
  listen: \"0.0.0.0:9990\"

namers:
  - { kind: io.l5d.k8s, prefix: /io.l5d.k8s }
  - { kind: io.l5d.k8s, prefix: /io.l5d.k8s.http }
  - { kind: io.l5d.k8s.ns, prefix: /io.l5d.k8s.ns, namespace: mesh }
  - { kind: io.l5d.rewrite, prefix: /order, pattern: \"/{port}/{ns}/{svc}\", name: \"/k8s/{ns}/{port}/{svc}\" }
  - { kind: io.l5d.fs, prefix: /io.l5d.fs }

discovery:
  files: { path: \"disco files\" }
  kubernetes: {}
";
    assert!(imported.yaml.contains(expected), "{}", imported.yaml);
}

#[test]
fn every_other_key_is_noted() {
    let imported = imported(FILE);
    let expected = [
        "admin.ip",
        "namers[0]",
        "namers[2].envVar",
        "namers[4].rootDir",
        "routers[2].servers[0].ip",
        "routers[2].servers[0].clearContext",
        "routers[2].identifier[4]",
        "routers[2].service.totalTimeoutMs",
    ];
    assert_eq!(changed(&imported), expected);
    assert_eq!(
        left(&imported),
        [
            "admin.security",
            "telemetry[0]",
            "usage",
            "namers[1].transformers[0]",
            "namers[5]",
            "routers[0]",
            "routers[1]",
            "routers[2].servers[0].maxConcurrentRequests",
            "routers[2].service.responseClassifier",
            "routers[3]",
        ]
    );
    for (path, why) in [
        ("routers[0]", "router `grpc`: protocol `mux`"),
        ("routers[3]", "protocol `thrift`"),
        ("routers[2].servers[0].maxConcurrentRequests", "which is not the same"),
        ("routers[2].client.configs[0].tls", "weir makes no TLS: they are refused"),
        ("namers[5]", "namer `io.l5d.consul`"),
        ("namers[4].rootDir", "relative to this configuration file"),
        ("routers[2].servers[0].clearContext", "outgoing.overrides: []"),
    ] {
        assert!(note(&imported, path).why.contains(why), "{}", note(&imported, path));
    }
}

#[test]
fn who_drops_clients_context_lets_nobody_choose_a_destination() {
    for (clear, overrides) in [("true", "[]"), ("false", "as allowed"), ("\"true\"", "[]")] {
        let file =
            format!("routers:\n- protocol: http\n  dtab: ''\n  servers: [{{ clearContext: {clear} }}]\n");
        let settings = settings(&imported(&file).yaml);
        let client = "10.1.2.3".parse().unwrap();
        assert_eq!(settings.outgoing.overrides.permits(client), overrides != "[]", "{clear}");
        assert!(settings.outgoing.allow.permits(client), "{clear}");
    }
}

#[test]
fn the_url_stays_in_names_where_it_was() {
    for (written, expected) in [("true", UrlPath::Follows), ("false", UrlPath::Left)] {
        let identifier = format!("{{ kind: io.l5d.methodAndHost, httpUriInDst: {written} }}");
        let file = format!("routers:\n- protocol: http\n  dtab: ''\n  identifier: {identifier}\n");
        let imported = imported(&file);
        assert_eq!(imported.notes, []);
        assert_eq!(settings(&imported.yaml).outgoing.identifiers, [Identifier::MethodAndHost(expected)]);
    }
}

#[test]
fn what_refused_requests_is_missed_by_name() {
    let client = "{ requestAuthorizers: [{ kind: io.l5d.k8s.istio }], connectTimeoutMs: 100, odd: 1 }";
    let imported = imported(&format!("routers:\n- protocol: http\n  dtab: ''\n  client: {client}\n"));
    for (key, why) in [
        ("requestAuthorizers", "what an authorizer refused is passed on now"),
        ("connectTimeoutMs", "`limits.connect`"),
        ("odd", "weir does not know this key"),
    ] {
        let note = note(&imported, &format!("routers[0].client.{key}"));
        assert!(note.why.contains(why), "{note}");
    }
}

#[test]
fn a_file_of_1_x_keeps_the_defaults_that_are_weirs_too() {
    let imported = imported("routers:\n- protocol: http\n  dtab: /svc => /#/io.l5d.fs;\n");
    assert_eq!(imported.notes, []);
    assert!(!imported.yaml.contains("dstPrefix"), "{}", imported.yaml);
    // weir's own default canonicalizes the host, which linkerd did not: `hello:80` and `hello` were different names.
    assert_eq!(settings(&imported.yaml).outgoing.identifiers, [Identifier::Token("host".into())]);
    // linkerd's servers were on loopback by default.
    assert_eq!(settings(&imported.yaml).outgoing.listen, ["127.0.0.1:4140".parse().unwrap()]);
}

#[test]
fn without_a_router_on_4140_the_first_of_http_comes_first() {
    let imported = imported(
        "routers:\n- { protocol: mux }\n- { protocol: http, label: a, servers: [{ port: 80 }], dtab: /svc=>/a }\n- { \
         protocol: http, label: b, servers: [{ port: 81 }] }\n",
    );
    assert_eq!(settings(&imported.yaml).outgoing.listen[0].port(), 80);
    assert_eq!(left(&imported), ["routers[0]"]);
    assert_eq!(settings(&imported.yaml).routers[0].listen[0].port(), 81);
}

#[test]
fn an_identifier_has_its_later_name() {
    let imported = imported(&router("  dtab: ''\n  identifier: { kind: io.l5d.headerToken, header: x }\n"));
    assert!(imported.yaml.contains("\n  identifier: { kind: io.l5d.header.token, header: x }\n"));
}

#[test]
fn json_is_read_as_the_yaml_that_it_is() {
    let text =
        r#"{"routers":[{"protocol":"http","servers":[{"port":"5000"}],"dtab":"/svc => /#/io.l5d.fs ;"}]}"#;
    let imported = imported(text);
    assert_eq!(settings(&imported.yaml).outgoing.listen, ["127.0.0.1:5000".parse().unwrap()]);
    assert_eq!(settings(&imported.yaml).dtab.entries.len(), 1);
}
