//! Settings for some names only.

use std::time::Duration;

use e2e::backend::Then;
use e2e::time::within;
use e2e::{Answer, Backend, Weir, eventually};

/// An endpoint that answers after half a second.
fn slow() -> Backend {
    Backend::http().answer(Answer::ok("late").after(Duration::from_millis(500))).start()
}

#[test]
fn a_short_answer_time_for_one_prefix_is_504_there_and_nowhere_else() {
    let (one, other) = (slow(), slow());
    let weir = Weir::new().service("hello", &[one.addr()]).service("world", &[other.addr()]);
    let rules =
        "{ services: [{ prefix: \"/svc/*\", response: 20s }, { prefix: /svc/hello, response: 100ms }] }";
    let weir = weir.set("policies", rules).start();
    let answer = weir.get("http://hello/");
    answer.expect_status(504);
    assert!(answer.l5d_err().contains("100ms"), "{}", answer.l5d_err());
    weir.get("http://world/").expect_body("late");
}

#[test]
fn a_longer_answer_time_than_the_limit_holds_for_the_clients_prefix() {
    let (one, other) = (slow(), slow());
    let weir = Weir::new().service("hello", &[one.addr()]).service("world", &[other.addr()]);
    let weir = weir.set("limits", "{ response: 150ms }");
    let weir = weir.set("policies", "{ clients: [{ prefix: \"/#/io.l5d.fs/{service}\", response: 20s }, { prefix: /#/io.l5d.fs/world, response: 150ms }] }");
    let weir = weir.set("dtab", "\"/svc/alias => /#/io.l5d.fs/hello ;\"").start();
    weir.get("http://alias/").expect_body("late");
    weir.get("http://world/").expect_status(504);
}

#[test]
fn one_failure_ejects_where_a_prefix_says_so_and_five_do_elsewhere() {
    let broken = || Backend::http().answer(Answer::status(500)).start();
    let [strict, strict_other, lax, lax_other] = [broken(), broken(), broken(), broken()];
    let weir = Weir::new().service("strict", &[strict.addr(), strict_other.addr()]);
    let weir = weir.service("lax", &[lax.addr(), lax_other.addr()]);
    let rule = "{ prefix: \"/#/*/strict\", breaker: { failures: 1, backoff: { min: 1h, max: 1h } } }";
    let weir = weir.set("policies", &format!("{{ clients: [{rule}] }}")).start();
    weir.get("http://strict/").expect_status(500);
    weir.get("http://lax/").expect_status(500);
    eventually("the ejection", || weir.is_ejected(strict.addr()) || weir.is_ejected(strict_other.addr()));
    assert!(!weir.is_ejected(lax.addr()) && !weir.is_ejected(lax_other.addr()));
}

#[test]
fn attempts_are_bounded_for_one_prefix() {
    // A GET that no answer came to goes to one more endpoint, where it may.
    let broken = [(); 4].map(|()| Backend::http().answer(Answer::raw("").then(Then::Reset)).start());
    let [a, b, c, d] = broken.each_ref().map(Backend::addr);
    let weir = Weir::new().service("once", &[a, b]).service("often", &[c, d]);
    let weir = weir.set("policies", "{ services: [{ prefix: /svc/once, attempts: 1 }] }").start();
    for (name, attempts) in [("once", 1.0), ("often", 2.0)] {
        weir.get(&format!("http://{name}/")).expect_status(502);
        let service = format!("/svc/{name}");
        assert_eq!(weir.metric("weir_attempts_total", &[("service", &service)]), attempts, "{name}");
    }
}

#[test]
fn policies_are_explained_shown_and_reloaded() {
    let backend = slow();
    let weir = Weir::new().service("hello", &[backend.addr()]);
    let weir = weir.set(
        "policies",
        "{ services: [{ prefix: /svc/hello, response: 100ms }], clients: [{ prefix: /, attempts: 2 }] }",
    );
    let weir = weir.start();
    let text = weir.admin_get("/api/explain?name=/svc/hello&format=text").text();
    for part in ["policy of /svc/hello: an answer within 100ms", "at most 2 attempts", "breaker: 5 failures"]
    {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    let cluster = weir.state()["services"][0]["clusters"][0]["policy"].clone();
    assert_eq!((&cluster["attempts"], &cluster["breaker"]["failures"]), (&2.into(), &5.into()), "{cluster}");
    weir.get("http://hello/").expect_status(504);
    let text = std::fs::read_to_string(weir.folder().path().join("weir.yaml")).unwrap();
    weir.folder().config(&text.replace("response: 100ms", "response: 20s"));
    within(Duration::from_secs(10), "the new policy", || weir.get("http://hello/").text() == "late");
}
