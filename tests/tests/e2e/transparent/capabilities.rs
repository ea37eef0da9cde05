//! The capabilities that the manifests give: with them everything works, and one that is not given is named.

use super::{Stage, V4, V6, dialler};
use e2e::load::Reuse;
use e2e::net::place::Capability::{self, Bpf, NetAdmin, Perfmon};
use e2e::{Load, Request, Weir};

/// What `deploy/` adds with weir's sockets on the node; that it does is shown in the tests of the manifests.
const DEPLOYED: &[Capability] = &[Bpf, NetAdmin];

#[test]
fn the_deployed_capabilities_are_enough_for_all_of_interception() {
    let Some(mut stage) = Stage::running_with(|builder| builder.with_only(DEPLOYED)) else { return };
    let bounds = status_of(stage.weir(), "CapEff");
    let expected = DEPLOYED.iter().fold(0, |set, capability| set | 1 << (*capability as u32));
    assert_eq!(bounds, expected, "weir has other capabilities than a deployed one: {bounds:#x}");
    assert_eq!(status_of(stage.weir(), "NoNewPrivs"), 1);
    let _backends = stage.backends();
    for to in [V4, V6] {
        assert!(["a", "b"].contains(&stage.get(to).as_str()), "{to}");
    }
    let get = Request::get("/").with("Host", "hello");
    let load = Load::start(2, Reuse::Never, &get, dialler(&stage.client, V4));
    load.answered(200);
    load.stop().expect_no_failure();
    assert!(stage.diverted() >= 202.0);
}

#[test]
fn each_of_the_deployed_capabilities_is_missed_by_name() {
    for (rest, missing) in [(&[Bpf, Perfmon], "CAP_NET_ADMIN"), (&[NetAdmin, Perfmon], "CAP_BPF")] {
        let Some(stage) = Stage::set() else { return };
        let weir = Weir::new().on_node(&stage.net).kubernetes(&stage.hello()).with_only(rest).start();
        let ready = weir.admin_get("/ready");
        ready.expect_status(503);
        assert!(ready.text().contains(missing), "{}", ready.text());
    }
}

/// A number of `/proc/PID/status`; sets of capabilities are hexadecimal.
fn status_of(weir: &Weir, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", weir.pid())).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t")).unwrap();
    u64::from_str_radix(value, 16).unwrap()
}
