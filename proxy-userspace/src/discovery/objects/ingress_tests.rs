use serde_json::json;

use super::*;

fn read(spec: Value) -> IngressObject {
    let metadata = json!({ "name": "web", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z" });
    IngressObject::read(&json!({ "metadata": metadata, "spec": spec })).unwrap()
}

fn path(path: Value, kind: &str, backend: Value) -> Value {
    json!({ "rules": [{ "http": { "paths": [{ "path": path, "pathType": kind, "backend": backend }] } }] })
}

fn service(port: Value) -> Value {
    json!({ "service": { "name": "web", "port": port } })
}

#[test]
fn a_port_is_a_number_or_a_name() {
    for (port, expected) in [(json!({ "number": 8080 }), "8080"), (json!({ "name": "http" }), "http")] {
        let object = read(path(json!("/"), "Prefix", service(port)));
        assert_eq!((&*object.ingress.rules[0].backend.port, object.mistakes.len()), (expected, 0));
    }
}

#[test]
fn each_rule_that_cannot_be_followed_is_named_and_the_others_are_kept() {
    let good = || service(json!({ "number": 80 }));
    for (written, why) in [
        (path(json!("api"), "Prefix", good()), "the path \"api\" does not begin with a slash"),
        (path(json!(null), "Exact", good()), "the path \"\" does not begin with a slash"),
        (path(json!("/a//b"), "Exact", good()), "the path \"/a//b\" has \"//\""),
        (path(json!("/a/.."), "Prefix", good()), "the path \"/a/..\" has \"/..\""),
        (path(json!("/a%2Fb"), "Prefix", good()), "the path \"/a%2Fb\" has \"%2F\""),
        (path(json!("/("), "ImplementationSpecific", good()), "the path \"/(\" is no regular expression: "),
        (path(json!("/(a{99}){99}"), "ImplementationSpecific", good()), "takes over 4096 bytes"),
        (path(json!("/(?=a)"), "ImplementationSpecific", good()), "is no regular expression: "),
        (path(json!(format!("/{}", "a".repeat(4096))), "Prefix", good()), "a path of 4097 bytes"),
        (path(json!("/"), "Regex", good()), "there is no pathType \"Regex\""),
        (path(json!("/"), "Prefix", json!({ "resource": { "kind": "Bucket" } })), "is no Service"),
        (path(json!("/"), "Prefix", json!(null)), "without a backend"),
        (path(json!("/"), "Prefix", service(json!(null))), "its Service has no port"),
        (path(json!("/"), "Prefix", service(json!({ "number": 0 }))), "port 0 is none"),
        (path(json!("/"), "Prefix", service(json!({ "number": 1, "name": "a" }))), "a name and a number"),
        (path(json!("/"), "Prefix", json!({ "service": { "port": { "number": 1 } } })), "has no name"),
    ] {
        let mut spec = written.clone();
        let more = json!({ "host": "ok.example", "http": { "paths": [
            { "path": "/", "pathType": "Prefix", "backend": good() }] } });
        spec["rules"].as_array_mut().unwrap().push(more);
        let object = read(spec);
        assert_eq!((object.ingress.rules.len(), object.mistakes.len()), (1, 1), "{written}: {object:?}");
        let said = &object.mistakes[0];
        assert!(said.starts_with("spec.rules[0].http.paths[0]: ") && said.contains(why), "{written}: {said}");
        assert!(!said.contains('\n'), "{said}");
    }
    for host in ["Web.example", "*", "*.*.example", "a.*.example", "10.0.0.1", "a_b", "a..b", "-a", "[::1]"] {
        let object = read(json!({ "rules": [{ "host": host }] }));
        assert!(
            object.mistakes.len() == 1 && object.mistakes[0].starts_with("spec.rules[0].host: "),
            "{host}"
        );
    }
    let object = read(json!({ "defaultBackend": { "service": { "name": "a" } } }));
    assert_eq!(object.mistakes, ["spec.defaultBackend: its Service has no port"]);
}

#[test]
fn an_ingress_has_a_bound_of_expressions_and_of_no_other_rules() {
    let paths = |kind: &str| -> Vec<_> {
        let path = |at| json!({ "path": format!("/{at}[a-z]+"), "pathType": kind, "backend": service(json!({ "number": 1 })) });
        (0..100).map(path).collect()
    };
    for (kind, kept, mistakes) in [("ImplementationSpecific", EXPRESSIONS, NAMED + 1), ("Exact", 100, 0)] {
        let mut paths = paths(kind);
        // Those that come later and are none.
        for (path, kind) in [
            ("/a", "Exact"),
            ("/a", "ImplementationSpecific"),
            ("/.*", "ImplementationSpecific"),
            ("/b/.*", "ImplementationSpecific"),
        ] {
            paths.push(json!({ "path": path, "pathType": kind, "backend": service(json!({ "number": 1 })) }));
        }
        let object = read(json!({ "rules": [{ "http": { "paths": paths } }] }));
        assert_eq!((object.ingress.rules.len(), object.mistakes.len()), (kept + 4, mistakes), "{kind}");
    }
}

#[test]
fn few_of_many_mistakes_are_named() {
    let paths = vec![json!({ "path": "x".repeat(4000), "pathType": "Exact" }); 1000];
    let object = read(json!({ "rules": [{ "http": { "paths": paths } }] }));
    assert_eq!((object.mistakes.len(), object.mistakes[5].as_str()), (6, "and 995 more"));
    assert!(object.mistakes.iter().all(|it| it.len() < 300), "{:?}", object.mistakes);
}

#[test]
fn the_class_is_that_of_the_spec_or_else_of_the_annotation() {
    let annotated = |class: &str| json!({ "annotations": { "kubernetes.io/ingress.class": class } });
    for (metadata, spec, expected) in [
        (json!({}), json!({}), None),
        (annotated("a"), json!({}), Some("a")),
        (annotated(""), json!({}), None),
        (annotated("a"), json!({ "ingressClassName": "b" }), Some("b")),
        (json!({}), json!({ "ingressClassName": "b" }), Some("b")),
        (json!({ "annotations": null }), json!(null), None),
    ] {
        let object = json!({ "metadata": metadata, "spec": spec });
        assert_eq!(ingress_class(&object), expected, "{object}");
    }
}
