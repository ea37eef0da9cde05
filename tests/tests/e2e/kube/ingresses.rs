//! Rules of Ingress objects: requests named by them, edits, and what is wrong with them.

use std::time::Duration;

use e2e::kube::{ApiServer, Refusal, service};
use e2e::time::holds_for;
use e2e::weir::builder::Builder;
use e2e::{Backend, Client, Http2, Load, Request, Weir, eventually};
use serde_json::{Value, json};

use super::edits::is_soon_in_force;
use super::stage::following;
use crate::control::apply::change;

/// An Ingress of `shop` with these rules: host, path, type, Service and port.
fn ingress(name: &str, rules: &[(&str, &str, &str, &str)]) -> Value {
    let rule = |&(host, path, kind, service): &(&str, &str, &str, &str)| {
        let (service, port) = service.split_once(':').unwrap_or((service, "80"));
        let port = port.parse::<u16>().map_or(json!({ "name": port }), |port| json!({ "number": port }));
        let backend = json!({ "service": { "name": service, "port": port } });
        let http = json!({ "paths": [{ "path": path, "pathType": kind, "backend": backend }] });
        match host {
            "" => json!({ "http": http }),
            host => json!({ "host": host, "http": http }),
        }
    };
    let rules: Vec<_> = rules.iter().map(rule).collect();
    json!({
        "kind": "Ingress",
        "metadata": { "name": name, "namespace": "shop" },
        "spec": { "ingressClassName": "linkerd", "rules": rules },
    })
}

fn created(mut ingress: Value, at: &str) -> Value {
    ingress["metadata"]["creationTimestamp"] = at.into();
    ingress
}

struct Stage {
    server: ApiServer,
    one: Backend,
    two: Backend,
}

impl Stage {
    fn new() -> Self {
        let [one, two] = ["one", "two"].map(|name| Backend::http().answers(name).start());
        Self { server: ApiServer::start(), one, two }
    }

    /// Ports 80 and `web` of the Services `one` and `two` of `shop` lead to the backends.
    fn outgoing(&self, identifier: &str) -> String {
        let to = |backend: &Backend| format!("/$/inet/127.1/{}", backend.addr().port());
        let (one, two) = (to(&self.one), to(&self.two));
        format!(
            "{{ listen: 127.0.0.1:0, identifier: {{ kind: io.l5d.ingress{identifier} }}, baseDtab: \"/svc/shop/80/one => \
             {one} ; /svc/shop/80/two => {two} ; /svc/shop/web/two => {two}\" }}"
        )
    }

    fn builder(&self, identifier: &str) -> Builder {
        let http1 = "{ clients: [{ prefix: /, protocol: http1 }] }";
        following(&self.server).set("outgoing", &self.outgoing(identifier)).set("policies", http1)
    }

    /// A weir that knows the Ingresses.
    fn weir(&self) -> Weir {
        let weir = self.builder("").start();
        eventually("readiness", || weir.admin_get("/ready").status == 200);
        weir
    }
}

fn ready(weir: &Weir) -> String {
    weir.admin_get("/ready").text()
}

fn says(weir: &Weir, text: &str) {
    eventually(text, || ready(weir).contains(text));
}

const OF_ALL: [(&str, &str); 1] = [("class", "linkerd")];

#[test]
fn requests_go_where_the_rules_say_and_an_edit_is_in_force_within_a_second() {
    let stage = Stage::new();
    stage.server.put(ingress(
        "web",
        &[
            ("a.example", "/", "Prefix", "one"),
            ("a.example", "/api", "Prefix", "two"),
            ("*.wild.example", "/", "Prefix", "two:web"),
        ],
    ));
    // With one worker each name is bound once.
    let start = || {
        let weir = stage.builder("").set("workers", "1").start();
        eventually("readiness", || weir.admin_get("/ready").status == 200);
        weir
    };
    let weir = start();
    for (url, body) in [
        ("http://a.example/", "one"),
        ("http://A.example:80/apis", "one"),
        ("http://a.example/api/users?x", "two"),
        ("http://b.wild.example/", "two"),
    ] {
        weir.get(url).expect_body(body);
    }
    let unknown = weir.get("http://other.example/");
    unknown.expect_status(400);
    assert!(unknown.text().contains("no identifier"), "{}", unknown.text());
    assert_eq!(weir.metric("weir_ingress_rules", &OF_ALL), 3.0);
    // Over HTTP/2 it is :authority that counts.
    assert_eq!(Http2::to(weir.outgoing()).get("http://a.example/api").text(), "two");
    // `weir explain` says which rule it was.
    let explained = weir.admin_get("/api/explain?format=text&name=http://a.example/api/x").text();
    let rule = "named by Ingress shop/web, host a.example, path /api (Prefix)";
    assert!(explained.starts_with("/svc/shop/80/two") && explained.contains(rule), "{explained}");
    let weirs = [weir, start()];
    let loads = weirs.each_ref().map(|weir| Load::get(weir.outgoing(), "http://b.wild.example/"));
    let edit = |service: &str| {
        let rules = [("*.wild.example", "/", "Prefix", "one"), ("a.example", "/", "Exact", service)];
        stage.server.put(ingress("web", &rules));
    };
    for service in ["two", "one", "two"] {
        is_soon_in_force(&weirs, || edit(service), |weir| weir.get("http://a.example/").text() == service);
    }
    // Whatever was bound stays bound: only the rules are others.
    let misses = || weirs.each_ref().map(|weir| weir.metric("weir_binding_misses_total", &[]));
    let before = misses();
    for service in ["one", "two"] {
        is_soon_in_force(&weirs, || edit(service), |weir| weir.get("http://a.example/").text() == service);
        for load in &loads {
            load.answered(20);
        }
    }
    assert_eq!(misses(), before);
    loads.into_iter().for_each(|load| load.stop().expect_no_failure());
    stage.server.delete("ingresses", "shop", "web");
    for weir in &weirs {
        eventually("the end of its rules", || weir.get("http://a.example/").status == 400);
    }
}

#[test]
fn an_ingress_with_mistakes_keeps_its_last_good_rules_and_is_said_everywhere() {
    let stage = Stage::new();
    stage.server.put(ingress("web", &[("", "/", "Prefix", "one")]));
    let weir = stage.weir();
    weir.get("http://any/").expect_body("one");
    for (wrong, why) in [
        (ingress("web", &[("", "api", "Prefix", "two")]), "the path \"api\" does not begin with a slash"),
        (ingress("web", &[("", "/(", "ImplementationSpecific", "two")]), "is no regular expression"),
        (ingress("web", &[("", "/", "Prefix", "two:0")]), "port 0 is none"),
        (
            json!({ "kind": "Ingress", "metadata": { "name": "web", "namespace": "shop" }, "spec": 7 }),
            "ignored",
        ),
    ] {
        stage.server.put(wrong);
        eventually(why, || ready(&weir).contains("shop/web: ") && ready(&weir).contains(why));
        weir.get("http://any/").expect_body("one");
        weir.admin_get("/ready").expect_status(200);
        assert_eq!(weir.metric("weir_kubernetes_problems", &[]), 1.0);
        weir.expect_log(why);
    }
    stage.server.put(ingress("web", &[("", "/", "Prefix", "two")]));
    eventually("the edit", || weir.get("http://any/").text() == "two");
    eventually("no more word of it", || !ready(&weir).contains("shop/web"));
    // Another controller's mistakes are its own.
    let mut foreign = ingress("foreign", &[("", "api", "Prefix", "two")]);
    foreign["spec"]["ingressClassName"] = "nginx".into();
    stage.server.put(foreign);
    stage.server.put(ingress("last", &[("last", "/", "Prefix", "one")]));
    eventually("what came after it", || weir.get("http://last/").text() == "one");
    assert_eq!(weir.metric("weir_kubernetes_problems", &[]), 0.0);
}

#[test]
fn of_two_ingresses_for_one_host_and_path_the_oldest_counts_until_it_is_gone() {
    let stage = Stage::new();
    let rule = |name, service| ingress(name, &[("a.example", "/", "Prefix", service)]);
    stage.server.put(created(rule("a-new", "two"), "2026-02-01T00:00:00Z"));
    stage.server.put(created(rule("b-old", "one"), "2025-02-01T00:00:00Z"));
    let weir = stage.weir();
    weir.get("http://a.example/").expect_body("one");
    says(
        &weir,
        "Ingress shop/a-new, host a.example, path / (Prefix): Ingress shop/b-old has its host and path",
    );
    let taken = [OF_ALL[0], ("reason", "taken")];
    assert_eq!(weir.metric("weir_ingress_rules_left_out", &taken), 1.0);
    weir.expect_log("left out");
    stage.server.delete("ingresses", "shop", "b-old");
    eventually("the other", || weir.get("http://a.example/").text() == "two");
    assert_eq!(weir.metric("weir_ingress_rules_left_out", &taken), 0.0);
}

#[test]
fn ten_thousand_rules_are_followed_and_an_ingress_beyond_the_bound_is_left_out() {
    let stage = Stage::new();
    let hosts: Vec<_> = (0..10_000).map(|at| format!("h{at}.example")).collect();
    for (number, hosts) in hosts.chunks(500).enumerate() {
        let rules: Vec<_> = hosts.iter().map(|host| (&**host, "/", "Prefix", "one")).collect();
        stage.server.put(ingress(&format!("i{number:02}"), &rules));
    }
    let weir = stage.weir();
    weir.get("http://h0.example/").expect_body("one");
    weir.get("http://h9999.example/").expect_body("one");
    assert_eq!(weir.metric("weir_ingress_rules", &OF_ALL), 10_000.0);
    stage.server.put(created(ingress("more", &[("more", "/", "Prefix", "two")]), "2026-02-01T00:00:00Z"));
    says(&weir, "Ingress shop/more: beyond 10000 rules");
    weir.get("http://more/").expect_status(400);
    weir.get("http://h9999.example/").expect_body("one");
    let left_out = |reason| weir.metric("weir_ingress_rules_left_out", &[OF_ALL[0], ("reason", reason)]);
    assert_eq!((left_out("too_many"), left_out("share")), (1.0, 0.0));
    // Another namespace gets what it wants, and the first what is left.
    let mut other = ingress("web", &[("other.example", "/", "Prefix", "one")]);
    other["metadata"]["namespace"] = "other".into();
    stage.server.put(created(other, "2026-03-01T00:00:00Z"));
    says(&weir, "beyond 9999, the share of its namespace of 10000 rules");
    assert_eq!((left_out("too_many"), left_out("share"), left_out("taken")), (0.0, 2.0, 0.0));
    weir.get("http://other.example/").expect_status(502);
    weir.get("http://h9998.example/").expect_body("one");
    weir.get("http://h9999.example/").expect_status(400);
    weir.get("http://more/").expect_status(400);
}

#[test]
fn without_leave_or_without_the_api_weir_says_so_and_answers_503_until_it_can_list() {
    for (refusal, why) in
        [(Refusal::Forbidden, "not permitted (403"), (Refusal::Broken(404), "the API server refused (404")]
    {
        let stage = Stage::new();
        stage.server.put(ingress("web", &[("", "/", "Prefix", "one")]));
        stage.server.refuse("ingresses", refusal);
        let weir = stage.builder("").start();
        says(&weir, &format!("ingress: the Ingresses are not known: {why}"));
        weir.admin_get("/ready").expect_status(503);
        let answer = weir.get("http://any/");
        answer.expect_status(503);
        assert!(answer.head.get("retry-after").is_some(), "{:?}", answer.head);
        assert!(answer.text().contains("Ingresses are not known"), "{}", answer.text());
        weir.expect_log(why);
        stage.server.heal();
        eventually("the rules", || weir.get("http://any/").text() == "one");
        eventually("readiness", || weir.admin_get("/ready").status == 200);
    }
}

#[test]
fn an_unreachable_server_leaves_the_rules_in_force() {
    let stage = Stage::new();
    stage.server.put(ingress("web", &[("", "/", "Prefix", "one")]));
    let weir = stage.weir();
    stage.server.down();
    says(&weir, "what is known of Ingresses stays in force: ");
    weir.get("http://any/").expect_body("one");
    weir.admin_get("/ready").expect_status(200);
    stage.server.put(ingress("web", &[("", "/", "Prefix", "two")]));
    stage.server.up();
    eventually("the edit meanwhile", || weir.get("http://any/").text() == "two");
    eventually("no more word of it", || !ready(&weir).contains("stays in force"));
}

#[test]
fn ingresses_are_watched_only_where_a_router_wants_them_and_as_the_role_permits() {
    let stage = Stage::new();
    stage.server.put(ingress("web", &[("", "/", "Prefix", "one")]));
    let weir = following(&stage.server).start();
    eventually("the services", || stage.server.has_told(&["services"]));
    assert_eq!(stage.server.count("list", "ingresses"), 0);
    // A router that comes with a reload serves its first request by the rules.
    change(&weir, "outgoing", Some(&stage.outgoing(", namespace: shop")));
    let state = weir.state();
    let listeners = state["listeners"].as_array().unwrap();
    let outgoing = listeners.iter().find(|it| it["addresses"].is_array()).unwrap();
    let at = outgoing["addresses"][0].as_str().unwrap().parse().unwrap();
    Client::to(at).get("http://any/").expect_body("one");
    let mut verbs: Vec<_> = {
        let seen = stage.server.seen();
        let of = seen.iter().filter(|it| it.plural == "ingresses");
        assert!(
            of.clone()
                .all(|it| it.target.starts_with("/apis/networking.k8s.io/v1/namespaces/shop/ingresses?"))
        );
        of.map(|it| it.verb).collect()
    };
    verbs.sort_unstable();
    verbs.dedup();
    assert_eq!(verbs, ["list", "watch"]);
    let role = include_str!("../../../../deploy/kubernetes/components/ingress/cluster-role.yaml");
    assert!(role.contains(
        "  - apiGroups: [networking.k8s.io]\n    resources: [ingresses]\n    verbs: [list, watch]\n"
    ));
    change(&weir, "outgoing", Some("{ listen: 127.0.0.1:0 }"));
    eventually("the end of the watch", || stage.server.told("ingresses") == 0);
    let lists = stage.server.count("list", "ingresses");
    assert!(holds_for(Duration::from_millis(300), || stage.server.count("list", "ingresses") == lists));
    assert!(!ready(&weir).contains("Ingresses"), "{}", ready(&weir));
}

#[test]
fn a_router_follows_its_class_and_namespace_and_default_backends_unless_told_not_to() {
    let stage = Stage::new();
    let mut web = ingress("web", &[("a.example", "/", "Prefix", "one")]);
    web["spec"]["defaultBackend"] = json!({ "service": { "name": "two", "port": { "number": 80 } } });
    stage.server.put(web);
    let mut edge = ingress("edge", &[("edge.example", "/", "Prefix", "one")]);
    edge["spec"].as_object_mut().unwrap().remove("ingressClassName");
    edge["metadata"]["annotations"] = json!({ "kubernetes.io/ingress.class": "edge" });
    stage.server.put(edge);
    let router = |label: &str, identifier: &str| {
        let outgoing = stage.outgoing(identifier);
        outgoing.replacen('{', &format!("{{ label: {label},"), 1)
    };
    let routers = [
        router("all", ""),
        router("edge", ", ingressClassAnnotation: edge"),
        router("none", ", ignoreDefaultBackends: true"),
        router("other", ", namespace: other"),
    ];
    let weir = following(&stage.server).set("outgoing", &format!("[{}]", routers.join(", "))).start();
    eventually("readiness", || weir.admin_get("/ready").status == 200);
    let status = |label: &str, host: &str| {
        let at = if label == "all" { weir.outgoing() } else { weir.router(label) };
        let answer = Client::to(at).ask(&Request::get(&format!("http://{host}/")));
        if answer.status == 200 { answer.text() } else { answer.status.to_string() }
    };
    for (label, host, expected) in [
        ("all", "a.example", "one"),
        ("all", "edge.example", "two"),
        ("edge", "edge.example", "one"),
        ("edge", "a.example", "400"),
        ("none", "a.example", "one"),
        ("none", "b.example", "400"),
        ("other", "a.example", "400"),
    ] {
        assert_eq!(status(label, host), expected, "{label} {host}");
    }
}

#[test]
fn an_imported_ingress_router_serves_by_the_rules_of_the_cluster() {
    let stage = Stage::new();
    for (name, ip) in [("hello", "10.96.0.10"), ("world", "10.96.0.11")] {
        stage.server.put(service(name, ip, &[("http", 80)]));
    }
    let mut rules = ingress(
        "web",
        &[
            ("web.example", "/world", "Prefix", "world:http"),
            ("", "/hello", "ImplementationSpecific", "hello"),
        ],
    );
    rules["metadata"]["namespace"] = "default".into();
    stage.server.put(rules);
    let builder = Weir::new();
    stage.server.kubeconfig(builder.folder().path());
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/import/ingress.yaml");
    let imported = builder.run(&["import", file]);
    assert_eq!((imported.code, imported.stderr.as_str()), (Some(0), ""));
    let mut text = String::new();
    for line in imported.stdout.lines() {
        match line.split_once("listen: ") {
            Some((before, _)) => text += &format!("{before}listen: \"127.0.0.1:0\"\n"),
            None => text += &format!("{line}\n"),
        }
    }
    let text = text.replace("kubernetes: {}", "kubernetes: { kubeconfig: ./kubeconfig, node: node-1 }");
    let weir = builder.config(&(text + "admin: { listen: 127.0.0.1:0 }\n")).start();
    eventually("readiness", || weir.admin_get("/ready").status == 200);
    for (url, expected) in [
        ("http://web.example/world/x", "/svc/default/http/world"),
        ("http://web.example/hello", "/svc/default/80/hello"),
        ("http://any/hello", "/svc/default/80/hello"),
    ] {
        let explained = weir.admin_get(&format!("/api/explain?format=text&router=ingress&name={url}")).text();
        let rule = "named by Ingress default/web, ";
        assert!(
            explained.contains(&format!("{expected}   <- taken")) && explained.contains(rule),
            "{explained}"
        );
        assert!(explained.contains("found: /#/io.l5d.k8s/default/"), "{explained}");
        // It is there, without an endpoint.
        Client::to(weir.router("ingress")).get(url).expect_status(503);
    }
    for url in ["http://any/hello/x", "http://any/world"] {
        Client::to(weir.router("ingress")).get(url).expect_status(400);
    }
    weir.get("http://world/").expect_status(503);
}
