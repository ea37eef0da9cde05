//! `ExternalName`: a Service that is only another name.

use super::{PLAIN, READY, backends, objects};
use e2e::Weir;

fn external(name: &str, of: &str, ports: &str) -> String {
    objects(name, &format!("type: ExternalName, externalName: {of}, ports: [{ports}]"), &[])
}

fn explained(weir: &Weir, name: &str) -> String {
    let answer = weir.admin_get(&format!("/api/explain?name={name}&format=text"));
    answer.expect_status(200);
    answer.text()
}

#[test]
fn an_external_name_of_another_service_leads_there_whatever_it_is_called() {
    let [a] = backends(["a"]);
    let weir = Weir::new()
        .file("real.yaml", &objects("real", PLAIN, &[(a.addr(), READY)]))
        .file("alias.yaml", &external("alias", "real.default.svc.cluster.local", ""))
        .file("twice.yaml", &external("twice", "ALIAS.default.svc.cluster.local.", ""))
        .start();
    weir.get("http://alias/x").expect_body("a");
    weir.get("http://twice.default.svc.cluster.local/").expect_body("a");
    assert_eq!(a.requests()[0].head.target(), "/x");
    assert_eq!(a.requests()[0].head.get("host"), Some("alias"), "an application sees what it was asked for");
    let said = explained(&weir, "twice");
    assert!(said.contains("/$/weir.host/alias.default.svc.cluster.local"), "{said}");
    assert!(said.contains("/$/weir.host/real.default.svc.cluster.local"), "{said}");
}

#[test]
fn an_external_name_outside_is_bound_as_any_name_outside_at_the_port_of_the_service_or_the_request() {
    let weir = Weir::new()
        .file("db.yaml", &external("db", "DB.example.com", "{ name: pg, port: 5432 }"))
        .file("any.yaml", &external("any", "any.example.com", ""))
        .file("short.yaml", &external("short", "nodot", ""))
        .start();
    for (name, leads_to) in [
        ("db", "/$/weir.dns/db.example.com:5432"),
        ("db:5432", "/$/weir.dns/db.example.com:5432"),
        ("any", "/$/weir.dns/any.example.com"),
        ("any:8080", "/$/weir.dns/any.example.com:8080"),
        ("/%23/io.l5d.k8s/default/pg/db", "/$/weir.dns/db.example.com:5432"),
        ("/%23/io.l5d.k8s/default/8080/any", "/$/weir.dns/any.example.com:8080"),
    ] {
        let said = explained(&weir, name);
        assert!(said.contains(leads_to), "{name} to {leads_to}: {said}");
    }
    let said = explained(&weir, "db:81");
    assert!(said.contains("Service db has no port 81; its ports are: 5432 (pg)"), "{said}");
    let answer = weir.get("http://short/");
    answer.expect_status(502);
    assert!(answer.text().contains("nodot has no dot"), "{}", answer.text());
    let state = weir.state();
    let services = state["services"].as_array().unwrap();
    let db = services.iter().find(|it| it["service"] == "/#/io.l5d.k8s/default/db").unwrap();
    assert_eq!(db["externalName"], "db.example.com");
}

#[test]
fn an_external_name_is_no_way_round_the_guards() {
    let [a] = backends(["a"]);
    let port = a.addr().port();
    let weir = Weir::new()
        .file("self.yaml", &external("self", "127.0.1.1", &format!("{{ name: http, port: {port} }}")))
        .file("metadata.yaml", &external("metadata", "169.254.169.254", ""))
        .start();
    weir.get("http://self/").expect_status(403);
    weir.get("http://metadata/").expect_status(403);
    assert_eq!(a.count(), 0);
}

#[test]
fn external_names_in_a_circle_end_with_an_answer_that_shows_it() {
    let weir = Weir::new()
        .file("a.yaml", &external("a", "b.default.svc.cluster.local", ""))
        .file("b.yaml", &external("b", "a.default.svc.cluster.local", ""))
        .start();
    let answer = weir.get("http://a/");
    answer.expect_status(502);
    assert!(answer.text().contains("/$/weir.host/b.default.svc.cluster.local"), "{}", answer.text());
}

#[test]
fn a_service_that_becomes_an_external_name_is_bound_anew() {
    let [a, b] = backends(["a", "b"]);
    let weir = Weir::new()
        .file("real.yaml", &objects("real", PLAIN, &[(a.addr(), READY)]))
        .file("hello.yaml", &objects("hello", PLAIN, &[(b.addr(), READY)]))
        .start();
    weir.get("http://hello/").expect_body("b");
    weir.folder().replace("hello.yaml", &external("hello", "real.default.svc.cluster.local", ""));
    e2e::eventually("the other name", || weir.get("http://hello/").text() == "a");
    weir.folder().replace("hello.yaml", &objects("hello", PLAIN, &[(b.addr(), READY)]));
    e2e::eventually("its own endpoint", || weir.get("http://hello/").text() == "b");
}
