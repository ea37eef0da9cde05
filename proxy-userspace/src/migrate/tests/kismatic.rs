//! The configuration that Kismatic's documentation referred to.

use super::*;
use crate::domain::dtab::{Bounds, Dtab, Origin};
use crate::domain::identify::{RequestFacts, identify};
use crate::domain::name::{Labels, Path, Scope};
use crate::domain::route::{Answer, Delegation, Kind, Limits, Names, Target, Transformer};

const FILE: &str = include_str!("../../../../deploy/examples/import/kismatic-l5d.yaml");

const DTAB: &str =
    "/srv => /#/io.l5d.k8s/default/http ; /host => /srv ; /http/*/* => /host ; /host/world => /srv/world-v1";

#[test]
fn the_names_go_where_they_went() {
    let imported = imported(FILE);
    let settings = settings(&imported.yaml);
    // The whole base dtab is linkerd's: weir adds nothing.
    let expected = Dtab::parse(DTAB, Origin::Base, &Bounds::CONFIGURATION).unwrap();
    let trees = |dtab: &Dtab| {
        dtab.entries.iter().map(|entry| (entry.prefix.clone(), entry.tree.clone())).collect::<Vec<_>>()
    };
    assert_eq!(trees(&settings.dtab), trees(&expected));
    assert!(settings.dtab.entries.iter().all(|entry| entry.origin == Origin::Base));
    assert!(imported.yaml.contains("\n  dstPrefix: /http\n  identifier: { kind: io.l5d.methodAndHost }\n"));
    assert!(imported.yaml.contains("\nnamers:\n  - { kind: io.l5d.k8s, prefix: /io.l5d.k8s }\n"));
    assert!(settings.discovery.kubernetes.is_some(), "the Services come from the cluster, as they did");
    assert_eq!(settings.outgoing.listen, ["0.0.0.0:4140".parse().unwrap()]);
    assert_eq!(settings.admin.listen, "127.0.0.1:9990".parse().unwrap());
}

/// A cluster with these Services in `default`, each with a port `http`.
struct Services(&'static [&'static str]);

impl Names for Services {
    type Port = String;

    fn find(&self, kind: &Kind, rest: Labels<'_>) -> Answer<String> {
        let known = self.0.iter().find(|name| rest.take(3).to_string() == format!("/default/http/{name}"));
        match known.filter(|_| *kind == Kind::K8s) {
            Some(name) => Answer::Port { port: (*name).to_owned(), taken: 3 },
            None => Answer::Neg,
        }
    }

    fn transformed(&self, port: String, _: &[Transformer], _: &Path) -> String {
        port
    }

    fn why_not(&self, _: &Kind, _: Labels<'_>) -> String {
        String::new()
    }
}

/// The Services that a request leads to, in the order they are tried.
fn routed(services: &'static [&'static str], method: &str, host: &str, is_http_11: bool) -> Vec<String> {
    let settings = settings(&imported(FILE).yaml);
    let facts = RequestFacts {
        method,
        is_http_11,
        host: Some(host),
        canonical: Some(("canonical", Scope::Anywhere)),
        target: "/",
        header: &|_| None,
    };
    let identified = identify(&settings.outgoing.identifiers, &facts).unwrap().unwrap();
    let name = settings.outgoing.prefix.join(identified.name.labels());
    let (dtabs, names) = ([&*settings.dtab], Services(services));
    let delegation =
        Delegation { dtabs: &dtabs, namers: &settings.namers, names: &names, limits: Limits::CONFIGURATION };
    let mut reached = Vec::new();
    let tree = delegation.bind(&name).unwrap();
    let _ = tree.map(&mut |bound| match &bound.target {
        Target::Port(port) => reached.push(port.clone()),
        Target::Outside(outside) => panic!("{host} leads outside: {outside:?}"),
    });
    reached
}

#[test]
fn hello_and_world_route_as_they_did() {
    const ALL: &[&str] = &["hello", "world", "world-v1"];
    assert_eq!(routed(ALL, "GET", "hello", true), ["hello"]);
    assert_eq!(routed(ALL, "POST", "World", true)[0], "world-v1");
    assert_eq!(routed(&["world"], "GET", "world", true), ["world"]);
    // As on Kismatic: other hosts and ports fail, and so does HTTP/1.0, whose names have no host.
    for (host, is_http_11) in
        [("example.com", true), ("hello:80", true), ("hello.default", true), ("hello", false)]
    {
        assert_eq!(routed(ALL, "GET", host, is_http_11), Vec::<String>::new(), "{host}");
    }
}

#[test]
fn the_dtab_keeps_its_text_and_its_comments() {
    let imported = imported(FILE);
    for line in [
        "  /srv        => /#/io.l5d.k8s/default/http ;  # Services of the namespace default",
        "  /http/*/*   => /host ;                       # whatever the version and the method",
    ] {
        assert!(imported.yaml.lines().any(|it| it == line), "{}", imported.yaml);
    }
    assert!(imported.yaml.contains("names outside the cluster are not looked up in DNS"));
}

#[test]
fn what_is_not_carried_over_says_what_replaces_it() {
    let imported = imported(FILE);
    assert_eq!(changed(&imported), ["admin", "namers[0]", "routers[0]", "routers[0].servers[0].ip"]);
    assert_eq!(
        left(&imported),
        [
            "namers[0].experimental",
            "namers[0].host",
            "namers[0].port",
            "routers[0].interpreter.transformers[0]",
            "routers[1]",
            "routers[1].interpreter.transformers[0]",
        ]
    );
    let daemonset = note(&imported, "routers[0].interpreter.transformers[0]");
    assert!(daemonset.why.starts_with("io.l5d.k8s.daemonset: "), "{daemonset}");
    assert!(daemonset.why.contains("weir runs on each node and connects to the endpoints themselves"));
    let incoming = note(&imported, "routers[1]");
    assert!(
        incoming.why.contains("router `incoming`") && incoming.why.contains("in one hop and in plain text")
    );
    let localnode = note(&imported, "routers[1].interpreter.transformers[0]");
    assert!(localnode.why.starts_with("io.l5d.k8s.localnode: "), "{localnode}");
    assert!(localnode.why.contains("there is no second hop"), "{localnode}");
}

#[test]
fn a_note_has_the_line_of_the_file_although_it_is_inside_a_config_map() {
    let imported = imported(FILE);
    let lines: Vec<&str> = FILE.lines().collect();
    for (path, text) in [
        ("namers[0].experimental", "experimental: true"),
        ("routers[0].interpreter.transformers[0]", "kind: io.l5d.k8s.daemonset"),
    ] {
        let at = note(&imported, path).at;
        let line = lines[at.line as usize - 1];
        assert!(line[at.column as usize - 1..].starts_with(text), "{path} at {at:?}: {line}");
    }
}

#[test]
fn the_configuration_alone_says_the_same() {
    let start = FILE.find("    admin:").unwrap();
    let end = FILE.find("---\napiVersion: v1\nkind: Service").unwrap();
    let alone: String =
        FILE[start..end].lines().map(|line| format!("{}\n", line.get(4..).unwrap_or(""))).collect();
    let (alone, wrapped) = (imported(&alone), imported(FILE));
    let configuration = |it: &Imported| it.yaml[it.yaml.find("\noutgoing:").unwrap()..].to_owned();
    assert_eq!(configuration(&alone), configuration(&wrapped));
    assert_eq!(left(&alone), left(&wrapped));
}
