//! The machine around weir has a bad day: what that costs stays where it is, and no pod's traffic.

use std::fs::File;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::weir::binary;
use e2e::{Backend, Client, Request, Weir, eventually};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

const SOON: Duration = Duration::from_secs(10);

/// Clients that ask nothing. One that is turned away at once may not even have been connected.
fn crowd(address: std::net::SocketAddr, size: usize) -> Vec<TcpStream> {
    (0..size).filter_map(|_| TcpStream::connect(address).ok()).collect()
}

#[test]
fn a_crowd_that_asks_nothing_keeps_neither_kubelet_nor_an_operator_out() {
    let weir = Weir::new().start();
    for listener in [weir.probes(), weir.admin()] {
        // Each 64 of them would hold the listener for ten seconds.
        let crowd = crowd(listener, 320);
        weir.get_from(listener, "/live").expect_status(200);
        drop(crowd);
    }
}

#[test]
fn idle_clients_leave_descriptors_for_whoever_asks_whether_weir_lives() {
    let backend = Backend::http().answers("hello").start();
    let weir = Weir::new().service("hello", &[backend.addr()]).with_descriptors(300, 300).start();
    weir.expect_log("RLIMIT_NOFILE");
    let crowd = crowd(weir.outgoing(), 400);
    eventually("a full listener", || weir.metric("weir_listener_closed_total", &[("reason", "full")]) > 0.0);
    weir.get_from(weir.probes(), "/live").expect_status(200);
    drop(crowd);
    // Those who still waited have to be seen to have left: until then there is no room to wait for another one.
    eventually("an answer", || {
        let Ok(stream) = TcpStream::connect(weir.outgoing()) else { return false };
        let answer = Client::over(stream).start(&Request::get("http://hello/")).try_response();
        answer.is_ok_and(|it| it.text() == "hello")
    });
    assert_eq!(weir.metric("weir_listener_closed_total", &[("reason", "accept_failed")]), 0.0);
    // The setting itself is as it was written.
    weir.signal(Signal::SIGHUP);
    eventually("the reload", || weir.metric("weir_config_reloads_total", &[]) > 0.0);
    assert_eq!(weir.state()["reload"]["waitForRestart"].to_string(), "[]");
}

#[test]
fn weir_takes_as_many_descriptors_as_it_may_have() {
    let weir = Weir::new().with_descriptors(256, 2048).start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", weir.pid())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("2048"), "{files}");
}

#[test]
fn a_weir_without_descriptors_to_serve_with_does_not_start_and_says_why() {
    for most in [40, 100] {
        let exit = Weir::new().with_descriptors(most, most).fails();
        assert_eq!(exit.code, Some(1), "{}", exit.stderr);
        assert!(exit.stderr.contains("RLIMIT_NOFILE") && exit.stdout.is_empty(), "{}", exit.stderr);
    }
}

#[test]
fn a_configuration_that_has_become_a_pipe_changes_nothing_and_weir_still_stops() {
    let backend = Backend::http().answers("hello").start();
    let mut weir = Weir::serving("hello", &[backend.addr()]);
    let file = weir.folder().path().join("weir.yaml");
    std::fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, Mode::S_IRWXU).unwrap();
    weir.signal(Signal::SIGHUP);
    weir.expect_log("it is not a regular file");
    assert_eq!(weir.metric("weir_config_reload_failures_total", &[]), 1.0);
    weir.get("http://hello/").expect_body("hello");
    weir.signal(Signal::SIGTERM);
    assert!(weir.wait(SOON).success());
}

#[test]
fn a_standard_output_that_nobody_reads_holds_nothing_up() {
    let backend = Backend::http().answers("hello").start();
    let mut weir = Weir::new().service("hello", &[backend.addr()]).with_its_output_unread().start();
    weir.get("http://hello/").expect_body("hello");
    weir.admin_get("/ready").expect_status(200);
    weir.signal(Signal::SIGTERM);
    assert!(weir.wait(SOON).success());
}

#[test]
fn a_configuration_that_a_full_disk_cut_short_is_no_success() {
    let folder = Weir::new();
    let file = folder.folder().path().join("l5d.yaml");
    std::fs::write(&file, "routers: [{ protocol: http }]\n").unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut weir = Command::new(binary::weir());
    let output = weir.arg("import").arg(file).stdout(full).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
}
