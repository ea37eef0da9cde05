//! The folder of services changes while weir runs: no request notices, and a broken file breaks nothing.

use std::time::Duration;

use e2e::time::{holds_for, within};
use e2e::{Backend, Load, Weir, eventually, folder};

const A_SECOND: Duration = Duration::from_secs(1);

fn backends<const N: usize>(names: [&str; N]) -> [Backend; N] {
    names.map(|name| Backend::http().answers(name).start())
}

#[test]
fn a_line_added_is_an_endpoint_within_a_second_and_costs_no_request() {
    let [a, b] = backends(["a", "b"]);
    let weir = Weir::serving("hello", &[a.addr()]);
    let load = Load::get(weir.outgoing(), "http://hello/");
    load.answered(100);
    weir.folder().append("hello", &folder::line(b.addr()));
    within(A_SECOND, "an answer of the new endpoint", || load.tally().from("b") > 0);
    load.answered(200);
    load.stop().expect_no_failure();
}

#[test]
fn a_line_removed_is_no_endpoint_any_more_and_costs_no_request() {
    let [a, b] = backends(["a", "b"]);
    let weir = Weir::serving("hello", &[a.addr(), b.addr()]);
    let load = Load::get(weir.outgoing(), "http://hello/");
    eventually("answers of both", || load.tally().from("a") > 0 && load.tally().from("b") > 0);
    weir.folder().replace("hello", &folder::line(a.addr()));
    within(A_SECOND, "its removal", || !weir.knows(b.addr()));
    // What was in flight at that moment may still be on its way.
    load.answered(20);
    let last = load.tally().from("b");
    load.answered(200);
    assert_eq!(load.tally().from("b"), last);
    load.stop().expect_no_failure();
    eventually("the end of its connections", || b.open() == 0);
}

#[test]
fn files_come_and_go_as_services() {
    let [a] = backends(["a"]);
    let weir = Weir::new().start();
    weir.get("http://hello/").expect_status(502);
    weir.folder().service("hello", &[a.addr()]);
    within(A_SECOND, "the new service", || weir.get("http://hello/").status == 200);
    weir.folder().remove("hello");
    within(A_SECOND, "its end", || weir.get("http://hello/").status == 502);
    weir.folder().kubernetes(
        &folder::service("hello", &[]).port("http", 80, a.addr().port()).endpoints(&[a.addr().ip()]),
    );
    within(A_SECOND, "its return as Kubernetes objects", || weir.get("http://hello/").status == 200);
}

#[test]
fn an_unchanged_endpoint_keeps_its_connections_when_another_is_added() {
    let [a, b] = backends(["a", "b"]);
    let weir = Weir::new().set("workers", "1").service("hello", &[a.addr()]).start();
    weir.get("http://hello/").expect_body("a");
    weir.folder().append("hello", &folder::line(b.addr()));
    within(A_SECOND, "the new endpoint", || weir.knows(b.addr()));
    for _ in 0..20 {
        weir.get("http://hello/").expect_status(200);
    }
    assert_eq!(a.connections(), 1);
}

#[test]
fn a_broken_file_keeps_its_last_good_state_and_is_reported() {
    let [a, b] = backends(["a", "b"]);
    let weir = Weir::new().service("hello", &[a.addr()]).service("other", &[b.addr()]).start();
    let load = Load::get(weir.outgoing(), "http://hello/");
    load.answered(50);
    assert!(!weir.reports("hello"));
    weir.folder().file("hello", "127.0.0.1 not-a-port\n");
    eventually("the report in state.json", || weir.reports("hello"));
    assert_eq!(weir.metric("weir_file_problems", &[]), 1.0);
    weir.expect_log("hello");
    load.answered(100);
    // The other files live on meanwhile.
    weir.folder().service("other", &[a.addr()]);
    within(A_SECOND, "a change of another file", || weir.get("http://other/").text() == "a");
    weir.folder().service("hello", &[b.addr()]);
    eventually("the mended file", || weir.get("http://hello/").text() == "b");
    assert!(!weir.reports("hello"));
    assert_eq!(weir.metric("weir_file_problems", &[]), 0.0);
    load.stop().expect_no_failure();
}

#[test]
fn a_broken_kubernetes_file_keeps_its_last_good_state_too() {
    let [a] = backends(["a"]);
    let service = folder::service("hello", &[]).port("http", 80, a.addr().port()).endpoints(&[a.addr().ip()]);
    let weir = Weir::new().file("hello.yaml", &service.yaml()).start();
    weir.get("http://hello/").expect_body("a");
    for broken in ["kind: [", "apiVersion: v1\nkind: Service\nmetadata: {}\n", "\u{0}"] {
        weir.folder().replace("hello.yaml", broken);
        eventually("the report", || weir.reports("hello.yaml"));
        // The report may be there before the services are.
        let serves = || weir.get("http://hello/").status == 200;
        assert!(holds_for(Duration::from_millis(300), serves), "{broken:?} took the service away");
        weir.folder().replace("hello.yaml", &service.yaml());
        eventually("its end", || !weir.reports("hello.yaml"));
    }
}

#[test]
fn a_file_broken_from_the_start_is_reported_and_the_others_serve() {
    let [a] = backends(["a"]);
    let weir = Weir::new().file("broken", "what is this\n").service("hello", &[a.addr()]).start();
    assert!(weir.reports("broken"));
    weir.get("http://hello/").expect_body("a");
}

#[test]
fn comments_weights_and_blank_lines_are_read_as_linkerd_reads_them() {
    let [a, b] = backends(["a", "b"]);
    let text = format!(
        "# a comment\n\n{} {} * 2.5   # another\n  {}  {}\n",
        a.addr().ip(),
        a.addr().port(),
        b.addr().ip(),
        b.addr().port()
    );
    let weir = Weir::new().file("hello", &text).start();
    eventually("answers of both", || {
        weir.get("http://hello/").expect_status(200);
        a.count() > 0 && b.count() > 0
    });
    assert_eq!(weir.endpoint(a.addr())["weight"], 2.5);
}

#[test]
fn hidden_and_foreign_files_are_no_services() {
    let [a] = backends(["a"]);
    let weir = Weir::new().service("hello", &[a.addr()]).file("notes.txt", "hi").file(".swp", "x").start();
    weir.get("http://hello/").expect_body("a");
    assert_eq!(
        weir.state()["fileProblems"].as_array().map(Vec::len),
        Some(0),
        "{:#}",
        weir.state()["fileProblems"]
    );
}

#[test]
fn many_changes_at_once_end_in_the_last_state() {
    let [a, b] = backends(["a", "b"]);
    let weir = Weir::serving("hello", &[a.addr()]);
    let load = Load::get(weir.outgoing(), "http://hello/");
    for n in 0..100 {
        weir.folder().replace("hello", &folder::line(if n % 2 == 0 { a.addr() } else { b.addr() }));
    }
    within(Duration::from_secs(3), "the last state", || weir.knows(b.addr()) && !weir.knows(a.addr()));
    let tally = load.stop();
    tally.expect_no_failure();
}
