//! The log is for whoever reads it; nobody else waits for them.

use std::time::Duration;

use e2e::{Backend, Weir, eventually};
use nix::sys::signal::Signal;

/// Has `weir` read a configuration with a mistake, which it logs.
fn log_a_line(weir: &Weir) {
    weir.folder().config("nmaes: {}");
    let before = weir.metric("weir_config_reload_failures_total", &[]);
    weir.signal(Signal::SIGHUP);
    eventually("the reload", || weir.metric("weir_config_reload_failures_total", &[]) > before);
}

#[test]
fn a_log_that_nobody_reads_holds_up_neither_requests_nor_the_end() {
    let backend = Backend::http().answers("hello").start();
    let weir = Weir::new().service("hello", &[backend.addr()]).set("log", "{ queue: 4 }");
    let mut weir = weir.with_its_log_unread().start();
    assert_eq!(weir.metric("weir_log_lines_dropped_total", &[]), 0.0);
    weir.fill_unread_log();
    eventually("a full queue", || {
        log_a_line(&weir);
        weir.metric("weir_log_lines_dropped_total", &[]) > 0.0
    });
    weir.get("http://hello/").expect_body("hello");
    weir.admin_get("/ready").expect_status(200);
    weir.signal(Signal::SIGTERM);
    assert!(weir.wait(Duration::from_secs(10)).success());
}

#[test]
fn a_full_disk_under_the_log_ends_nothing() {
    let backend = Backend::http().answers("hello").start();
    let weir = Weir::new().service("hello", &[backend.addr()]);
    let mut weir = weir.with_its_log_on_a_full_disk().start();
    log_a_line(&weir);
    eventually("a line that was not written", || weir.metric("weir_log_lines_dropped_total", &[]) > 0.0);
    weir.get("http://hello/").expect_body("hello");
    weir.admin_get("/ready").expect_status(200);
    weir.signal(Signal::SIGTERM);
    assert!(weir.wait(Duration::from_secs(10)).success());
}
