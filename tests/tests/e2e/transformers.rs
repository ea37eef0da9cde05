//! Transformers of namers: what becomes of the endpoints they find.

use std::net::SocketAddr;

use e2e::{Answer, Backend, Request, Weir, eventually};

/// A weir whose files are transformed so.
fn weir(transformers: &str) -> e2e::weir::Builder {
    Weir::new().set("namers", &format!("[{{ kind: io.l5d.fs, transformers: [{transformers}] }}]"))
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

#[test]
fn a_port_takes_the_place_of_the_endpoints_and_they_are_followed() {
    let one = Backend::http().answers("one").start();
    let port = one.addr().port();
    let other = Backend::http().answers("other").on(at(&format!("127.0.0.2:{port}"))).start();
    let weir = weir(&format!("{{ kind: io.l5d.port, port: {port} }}")).service("hello", &[at("127.0.0.1:1")]);
    let weir = weir.start();
    weir.get("http://hello/").expect_body("one");
    let client = format!("/%/io.l5d.port/{port}/#/io.l5d.fs/hello");
    assert_eq!(one.only_request().head.get("l5d-dst-client"), Some(client.as_str()));
    weir.folder().service("hello", &[at("127.0.0.2:2")]);
    eventually("the new endpoint", || weir.get("http://hello/").text() == "other");
    drop(other);
    assert!(weir.metric("weir_attempts_total", &[("service", &client), ("outcome", "2xx")]) >= 2.0);
    assert_eq!(weir.state()["transformed"][0]["name"], client.as_str());
}

#[test]
fn localhost_keeps_the_endpoints_of_this_node() {
    let here = Backend::http().answers("here").start();
    // TEST-NET-1 (RFC 5737): nobody is there.
    let weir =
        weir("{ kind: io.l5d.localhost }").service("hello", &[at("192.0.2.1:80"), here.addr()]).start();
    for _ in 0..10 {
        weir.get("http://hello/").expect_body("here");
    }
    assert_eq!(
        weir.metric("weir_retries_total", &[("service", "/%/io.l5d.localhost/#/io.l5d.fs/hello")]),
        0.0
    );
    weir.folder().service("hello", &[at("192.0.2.1:80")]);
    eventually("no endpoint", || weir.get("http://hello/").head.status() == Some(503));
}

#[test]
fn a_specific_host_is_the_only_one_left() {
    let one = Backend::http().answers("one").start();
    let other = Backend::http().answers("other").on(at("127.0.0.3:0")).start();
    let weir = weir("{ kind: io.l5d.specificHost, host: 127.0.0.3 }");
    let weir = weir.service("hello", &[one.addr(), other.addr()]).start();
    for _ in 0..10 {
        weir.get("http://hello/").expect_body("other");
    }
    assert_eq!(one.count(), 0);
}

#[test]
fn a_replacement_is_the_operators_but_no_way_around_the_guards_for_a_requests_entries() {
    let secret = Backend::http().answers("secret").start();
    let path = format!("/$/inet/127.0.0.1/{}", secret.addr().port());
    let weir = weir(&format!("{{ kind: io.l5d.replace, path: {path} }}")).service("hello", &[secret.addr()]);
    let weir = weir.start();
    let own = Request::get("http://other/").with("l5d-dtab", "/svc/other => /#/io.l5d.fs/hello");
    weir.ask(&own).expect_status(403);
    weir.get("http://none/").expect_status(502);
    assert_eq!(secret.count(), 0);
    weir.get("http://hello/").expect_body("secret");
}

#[test]
fn a_constant_is_there_for_unknown_names_too() {
    let there = Backend::http().answers("there").start();
    let path = format!("/$/inet/127.0.0.1/{}", there.addr().port());
    let weir = weir(&format!("{{ kind: io.l5d.const, path: {path} }}")).service("hello", &[]).start();
    for name in ["hello", "none"] {
        weir.get(&format!("http://{name}/")).expect_body("there");
    }
}

#[test]
fn a_transformed_client_has_policies_by_its_own_name() {
    let slow =
        Backend::http().answer(Answer::ok("late").after(std::time::Duration::from_millis(500))).start();
    let port = slow.addr().port();
    let rule = "{ prefix: \"/%/io.l5d.port/*/#/io.l5d.fs/{service}\", response: 50ms }";
    let weir = weir(&format!("{{ kind: io.l5d.port, port: {port} }}")).service("hello", &[at("127.0.0.1:1")]);
    let weir = weir.set("policies", &format!("{{ clients: [{rule}] }}")).start();
    weir.get("http://hello/").expect_status(504);
}
