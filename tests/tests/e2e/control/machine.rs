//! The machine around weir has a bad day: what that costs stays where it is, and no pod's traffic.

use std::fs::File;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::weir::binary;
use e2e::{Backend, Weir};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

const SOON: Duration = Duration::from_secs(10);

fn crowd(address: std::net::SocketAddr, size: usize) -> Vec<TcpStream> {
    (0..size).map(|_| TcpStream::connect(address).unwrap()).collect()
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
