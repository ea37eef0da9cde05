//! When weir cannot take connections, they go on as if it had never been there.

use std::fs;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::unistd::Pid;
use proxy_ebpf::Count;
use weir::intercept::Fail;

use crate::weir::{
    Answering, Beating, Direct, dial, eventually, intercept, listeners, plan, service, services,
};
use crate::world::{Cgroup, Process, World, on_a_node, steal};

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
    let plan = plan(world);
    world.start_on_node(cgroup, move || {
        let (interception, listeners) = intercept(&plan);
        let _answering = Answering::start(&listeners, &interception.originals());
        loop {
            std::thread::park();
        }
    })
}

#[test]
fn a_killed_weir_costs_no_connection_although_its_programs_stay() {
    on_a_node(|world| {
        // Once in this process, so that the loader's lazy probing is not in the forked one.
        drop(intercept(&plan(world)));
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
        let (mut interception, listeners) = intercept(&plan(world));
        let _weir = Answering::start(&listeners, &interception.originals());
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
        let (interception, listeners) = intercept(&plan(world));
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
        let plan = plan(world);
        let mut listeners = listeners();
        let mut interception = Beating::attach(&plan, &listeners[0]);
        interception.divert(&services().collect()).unwrap();
        let others = listeners.split_off(1);
        drop(listeners);
        let _weir = Answering::start(&others, &interception.originals());
        assert!(interception.status().is_armed(), "{:?}", interception.status());
    });
}

#[test]
fn a_planned_stop_sends_connections_direct_at_once_and_can_be_undone() {
    on_a_node(|world| {
        let (mut interception, listeners) = intercept(&plan(world));
        let _weir = Answering::start(&listeners, &interception.originals());
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
        let mut plan = plan(world);
        plan.fail = Fail::Closed;
        let (mut interception, listeners) = intercept(&plan);
        let _weir = Answering::start(&listeners, &interception.originals());
        let _direct = Direct::start(world);
        assert!(world.run(|| dial(service(0, 80))).starts_with("weir"));
        interception.disarm();
        assert_eq!(world.run(|| dial(service(0, 80))), "ConnectionRefused");
        assert_eq!(world.run(|| dial(service(1, 80))), "ConnectionRefused");
        assert_eq!(interception.counters().get(Count::RefusedNoListener), 2);
        interception.arm().unwrap();
        interception.stop_heart();
        eventually("ConnectionRefused", || world.run(|| dial(service(0, 80))));
        assert!(interception.counters().get(Count::RefusedStaleHeart) > 0);
    });
}

fn shutdown(listener: &TcpListener) {
    // SAFETY: an open socket.
    assert_eq!(unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) }, 0);
}
