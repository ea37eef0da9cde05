//! When weir cannot take connections, they go on as if it had never been there.

use std::ffi::CString;
use std::fs;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Pid;
use proxy_ebpf::Count;
use weir::intercept::{Fail, InterceptOptions, Refusal};

use crate::weir::{
    Answering, Beating, Direct, dial, eventually, intercept, listeners, options, service, services,
};
use crate::world::{Cgroup, Process, World, keep_only, on_a_node, steal};

/// The links of a process: with copies of them held, its programs stay attached when it dies, and only
/// the empty slot can make connections go direct.
pub fn links_of(process: Pid) -> Vec<OwnedFd> {
    let folder = format!("/proc/{process}/fd");
    let fds = fs::read_dir(folder).unwrap().flatten();
    let links = fds.filter(|fd| {
        fs::read_link(fd.path()).is_ok_and(|target| target.to_string_lossy().contains("bpf_link"))
    });
    links.map(|fd| steal(process, fd.file_name().to_string_lossy().parse().unwrap())).collect()
}

/// A weir in a process of its own, that lives until it is killed.
fn separate_weir(world: &World, cgroup: &Cgroup) -> Process {
    let options = options(world);
    world.start_on_node(cgroup, move || {
        let (interception, listeners) = intercept(&options);
        let _answering = Answering::start(&listeners, &interception.original_dsts());
        loop {
            std::thread::park();
        }
    })
}

#[test]
fn a_killed_weir_costs_no_connection_although_its_programs_stay() {
    on_a_node(|world| {
        // Once in this process, so that the loader's lazy probing is not in the forked one.
        drop(intercept(&options(world)));
        let _direct = Direct::start(world);
        let own = Cgroup::new(world.pods.path.parent().unwrap());
        let weir = separate_weir(world, &own);
        eventually("weir", || world.run(|| dial(service(0, 80))));
        let links = links_of(weir.pid);
        assert_eq!(links.len(), 5);
        weir.kill();
        assert_eq!(world.run(|| dial(service(0, 80))), "direct, peer 10.96.0.10:80");
        assert_eq!(world.run(|| dial(service(1, 80))), "direct, peer [fd96::10]:80");
        drop(links);
    });
}

#[test]
fn a_stopped_weir_costs_connections_for_two_seconds_only() {
    on_a_node(|world| {
        let (mut interception, listeners) = intercept(&options(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        let _direct = Direct::start(world);
        interception.stop_heart();
        interception.heart().beat().unwrap();
        let silent = eventually("direct", || world.run(|| dial(service(0, 80))));
        assert!(silent > Duration::from_millis(1_900), "given up after {silent:?}");
        assert!(!interception.status().is_armed());
        assert!(interception.counters().get(Count::StaleHeart) > 0);
        interception.heart().beat().unwrap();
        assert!(world.run(|| dial(service(0, 80))).starts_with("weir"));
    });
}

#[test]
fn a_listener_that_was_shut_down_takes_no_connections() {
    on_a_node(|world| {
        let (interception, listeners) = intercept(&options(world));
        let _direct = Direct::start(world);
        shutdown(&listeners[0]);
        assert_eq!(world.run(|| dial(service(0, 80))), "direct, peer 10.96.0.10:80");
        assert!(interception.status().attached, "the programs are still there");
        assert!(interception.counters().get(Count::NoListener) > 0);
    });
}

#[test]
fn one_workers_listener_may_close_while_weir_lives() {
    on_a_node(|world| {
        let options = options(world);
        let mut listeners = listeners();
        let mut interception = Beating::attach(&options, &listeners[0]);
        interception.divert(&services().collect()).unwrap();
        let others = listeners.split_off(1);
        drop(listeners);
        let _weir = Answering::start(&others, &interception.original_dsts());
        assert!(interception.status().is_armed(), "{:?}", interception.status());
    });
}

#[test]
fn a_planned_stop_sends_connections_direct_at_once_and_can_be_undone() {
    on_a_node(|world| {
        let (mut interception, listeners) = intercept(&options(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        let _direct = Direct::start(world);
        interception.disarm();
        assert!(!interception.status().is_armed());
        assert_eq!(world.run(|| dial(service(0, 80))), "direct, peer 10.96.0.10:80");
        interception.disarm();
        interception.arm().unwrap();
        assert!(world.run(|| dial(service(0, 80))).starts_with("weir"));
        drop(interception);
        assert_eq!(world.run(|| dial(service(0, 80))), "direct, peer 10.96.0.10:80");
    });
}

#[test]
fn with_closed_failures_a_connection_without_weir_is_refused_in_both_families() {
    on_a_node(|world| {
        let mut options = options(world);
        options.fail = Fail::Closed;
        let (mut interception, listeners) = intercept(&options);
        let refused = match interception.refusal() {
            Refusal::ConnectionRefused if kernel() >= (5, 18) => "ConnectionRefused",
            Refusal::NotPermitted if kernel() < (5, 18) => "PermissionDenied",
            other => panic!("{other:?} on Linux {:?}", kernel()),
        };
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        let _direct = Direct::start(world);
        assert!(world.run(|| dial(service(0, 80))).starts_with("weir"));
        interception.disarm();
        assert_eq!(world.run(|| dial(service(0, 80))), refused);
        assert_eq!(world.run(|| dial(service(1, 80))), refused);
        assert_eq!(interception.counters().get(Count::RefusedNoListener), 2);
        interception.arm().unwrap();
        interception.stop_heart();
        eventually(refused, || world.run(|| dial(service(0, 80))));
        assert!(interception.counters().get(Count::RefusedStaleHeart) > 0);
    });
}

/// The running kernel's version.
fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|it| it.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// weir's object as a kernel sees it that has no `bpf_set_retval`: it calls a function with a number that no kernel knows.
fn without_set_retval(folder: &Path) -> PathBuf {
    const CALL: [u8; 8] = [0x85, 0, 0, 0, 187, 0, 0, 0];
    const UNKNOWN: [u8; 8] = [0x85, 0, 0, 0, 0xff, 0x7f, 0, 0];
    let object = concat!(env!("CARGO_MANIFEST_DIR"), "/../proxy-ebpf/prebuilt/weir.bpf.o");
    let mut object = fs::read(object).unwrap();
    let calls: Vec<usize> = (0..object.len() - 8).filter(|at| object[*at..*at + 8] == CALL).collect();
    assert_eq!(calls.len(), 4, "one in the program of each family, with sockets on the node and in pods");
    for at in calls {
        object[at..at + 8].copy_from_slice(&UNKNOWN);
    }
    let path = folder.join("weir.bpf.o");
    fs::write(&path, object).unwrap();
    path
}

#[test]
fn a_kernel_that_cannot_set_what_connect_returns_diverts_and_denies_all_the_same() {
    on_a_node(|world| {
        drop(intercept(&options(world)));
        let _direct = Direct::start(world);
        let folder = tempfile::tempdir().unwrap();
        let object = without_set_retval(folder.path());
        let own = Cgroup::new(world.pods.path.parent().unwrap());
        for (fail, armed, expected) in [
            (Fail::Open, true, "weir"),
            (Fail::Open, false, "direct"),
            (Fail::Closed, true, "weir"),
            (Fail::Closed, false, "PermissionDenied"),
        ] {
            let (options, object) = (InterceptOptions { fail, ..options(world) }, object.clone());
            let weir = world.start_on_node(&own, move || of_object(&object, &options, armed));
            eventually(expected, || {
                weir.expect_running();
                world.run(|| dial(service(0, 80)))
            });
            assert!(world.run(|| dial(service(1, 80))).starts_with(expected));
            weir.kill();
        }
    });
}

/// As a weir that runs with this object and the DaemonSet's capabilities, until it is killed. Without CAP_PERFMON the
/// verifier also walks branches that are never taken.
fn of_object(object: &Path, options: &InterceptOptions, armed: bool) -> String {
    keep_only(&[12, 39]);
    let object = CString::new(object.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: a forked process with this one thread; std's own lock on the environment may be held for ever in it.
    unsafe { libc::setenv(c"WEIR_BPF_OBJECT".as_ptr(), object.as_ptr(), 1) };
    let (mut interception, listeners) = intercept(options);
    let _answering = Answering::start(&listeners, &interception.original_dsts());
    if !armed {
        interception.disarm();
    }
    loop {
        std::thread::park();
    }
}

fn shutdown(listener: &TcpListener) {
    // SAFETY: an open socket.
    assert_eq!(unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) }, 0);
}
