//! The configuration changes while weir runs: by itself within seconds, at once on SIGHUP, and never to a wrong one.

use std::time::Duration;

use e2e::time::within;
use e2e::{Backend, Load, Weir, eventually};
use nix::sys::signal::Signal;

/// Adds a line to the running weir's configuration file.
fn append(weir: &Weir, line: &str) -> String {
    let before = std::fs::read_to_string(weir.folder().path().join("weir.yaml")).unwrap();
    weir.folder().config(&format!("{before}{line}\n"));
    before
}

#[test]
fn a_changed_file_takes_effect_and_costs_no_request() {
    let backend = Backend::http().answers("hello").start();
    let weir = Weir::new().set("workers", "1").service("hello", &[backend.addr()]).start();
    weir.get("http://hello.shop/").expect_status(502);
    let load = Load::get(weir.outgoing(), "http://hello/");
    load.answered(50);
    append(&weir, "names: { namespace: shop }");
    within(Duration::from_secs(5), "the new settings", || weir.get("http://hello.shop/").status == 200);
    load.answered(50);
    load.stop().expect_no_failure();
    assert_eq!(weir.metric("weir_config_reloads_total", &[]), 1.0);
}

#[test]
fn sighup_reads_the_file_at_once() {
    let backend = Backend::http().answers("hello").start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    append(&weir, "names: { namespace: shop }");
    weir.signal(Signal::SIGHUP);
    within(Duration::from_millis(500), "the new settings", || weir.get("http://hello.shop/").status == 200);
}

#[test]
fn a_file_with_mistakes_changes_nothing_and_is_reported() {
    let backend = Backend::http().answers("hello").start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let good = append(&weir, "names: { namespcae: shop }");
    eventually("the report", || {
        weir.state()["reload"]["mistakes"].as_str().is_some_and(|m| m.contains("namespcae"))
    });
    weir.expect_log("namespcae");
    assert_eq!(weir.metric("weir_config_reload_failures_total", &[]), 1.0);
    weir.get("http://hello/").expect_body("hello");
    weir.admin_get("/ready").expect_status(200);
    weir.folder().config(&good);
    eventually("its end", || weir.state()["reload"]["mistakes"].is_null());
}

#[test]
fn a_change_that_needs_a_restart_says_so() {
    let weir = Weir::new().start();
    append(&weir, "drain: { grace: 1s }");
    weir.signal(Signal::SIGHUP);
    let text = std::fs::read_to_string(weir.folder().path().join("weir.yaml")).unwrap();
    weir.folder().config(&text.replace("workers: 2", "workers: 1"));
    eventually("the report", || weir.state()["reload"]["waitForRestart"].to_string().contains("workers"));
}
