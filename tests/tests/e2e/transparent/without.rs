//! What interception needs is missing: one sentence says what, and the explicit proxy works all the same.

use e2e::{Backend, Weir};

#[test]
fn without_the_capability_a_sentence_says_so_and_the_explicit_proxy_works() {
    let backend = Backend::http().start();
    let builder = Weir::new().set("transparent", &transparent(false)).service("hello", &[backend.addr()]);
    let weir = builder.without_capabilities().start();
    weir.get("http://hello/").expect_body("ok");
    weir.admin_get("/ready").expect_status(200);
    weir.expect_log("CAP_");
    let log = weir.log();
    let said: Vec<_> = log.lines().filter(|l| l.contains("CAP_BPF") || l.contains("CAP_SYS_ADMIN")).collect();
    assert_eq!(said.len(), 1, "one sentence that names the capability:\n{log}");
}

#[test]
fn without_the_capability_required_interception_makes_weir_unready() {
    let weir = Weir::new().set("transparent", &transparent(true)).without_capabilities().start();
    let answer = weir.admin_get("/ready");
    answer.expect_status(503);
    assert!(answer.text().contains("CAP_"), "{:?}", answer.text());
}

#[test]
fn who_relies_on_fail_closed_gets_no_weir_that_is_ready_without_it() {
    let transparent = transparent(false).replace("required", "fail: closed, required");
    let weir = Weir::new().set("transparent", &transparent).without_capabilities().start();
    weir.admin_get("/ready").expect_status(503);
    assert_eq!(weir.metric("weir_interception_armed", &[]), 0.0);
    weir.expect_log("fail: closed holds while weir lives");
}

#[test]
fn a_listener_that_pods_cannot_reach_is_said_and_nothing_is_diverted_to_it() {
    let transparent = transparent(true).replace("[::]:0", "127.0.0.1:0");
    let weir = Weir::new().set("transparent", &transparent).start();
    let answer = weir.admin_get("/ready");
    answer.expect_status(503);
    // On a machine without any network there is not even an address to reach.
    let said = answer.text();
    assert!(said.contains("transparent.listen") || said.contains("transparent.addresses"), "{said}");
}

/// Interception of everything below the cgroup2 mount: what is missing is only the right to do it.
fn transparent(required: bool) -> String {
    let cgroup = e2e::net::cgroup::mount().display().to_string();
    format!("{{ sockets: node, listen: \"[::]:0\", ports: 1, required: {required}, cgroup: {cgroup} }}")
}
