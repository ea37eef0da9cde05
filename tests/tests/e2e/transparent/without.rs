//! What interception needs is missing: one sentence says what, and the explicit proxy works all the same.

use e2e::{Backend, Weir};

#[test]
fn without_the_capability_a_sentence_says_so_and_the_explicit_proxy_works() {
    let backend = Backend::http().start();
    let transparent = "{ listen: 127.0.0.1:0, ports: 1, required: false }";
    let builder = Weir::new().set("transparent", transparent).service("hello", &[backend.addr()]);
    let weir = builder.without_capabilities().start();
    weir.get("http://hello/").expect_body("ok");
    weir.admin_get("/ready").expect_status(200);
    let log = weir.log();
    let said: Vec<_> = log.lines().filter(|l| l.contains("CAP_BPF") || l.contains("CAP_SYS_ADMIN")).collect();
    assert_eq!(said.len(), 1, "one sentence that names the capability:\n{log}");
}

#[test]
fn without_the_capability_required_interception_makes_weir_unready() {
    let transparent = "{ listen: 127.0.0.1:0, ports: 1, required: true }";
    let weir = Weir::new().set("transparent", transparent).without_capabilities().start();
    let answer = weir.admin_get("/ready");
    answer.expect_status(503);
    assert!(answer.text().contains("CAP_"), "{:?}", answer.text());
}
