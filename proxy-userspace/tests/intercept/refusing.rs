//! When interception cannot be had, one sentence says why and what to do.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use aya::programs::CgroupSockAddr;
use nix::unistd::{Uid, setresuid};
use weir::intercept::{InterceptError, Interception, Plan};

use crate::weir::{intercept, listeners, plan};
use crate::world::{Cgroup, World, on_a_node};

fn refusal(plan: &Plan) -> InterceptError {
    let listeners = listeners();
    Interception::attach(plan, listeners[0].as_fd()).err().expect("a refusal")
}

#[test]
fn a_missing_capability_is_named() {
    on_a_node(|world| {
        drop(intercept(&plan(world)));
        let plan = plan(world);
        let outside = Cgroup::new(world.pods.path.parent().unwrap());
        let said = world.start_on_node(&outside, move || {
            let nobody = Uid::from_raw(65534);
            setresuid(nobody, nobody, nobody).unwrap();
            refusal(&plan).to_string()
        });
        let said = said.result();
        assert!(said.contains("CAP_BPF and CAP_NET_ADMIN"), "{said}");
    });
}

#[test]
fn a_cgroup_that_is_not_there_is_named() {
    on_a_node(|world| {
        let mut plan = plan(world);
        plan.cgroup = world.pods.path.join("nothing");
        let said = refusal(&plan).to_string();
        assert!(said.contains("nothing") && said.contains("transparent.cgroup"), "{said}");
        plan.cgroup = "/tmp".into();
        let said = refusal(&plan).to_string();
        assert!(said.contains("/tmp is not on a cgroup2 file system"), "{said}");
    });
}

#[test]
fn a_socket_that_does_not_listen_is_refused() {
    on_a_node(|world| {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let refused = Interception::attach(&plan(world), socket.as_fd()).err();
        assert!(matches!(refused, Some(InterceptError::Listener(_))), "{refused:?}");
    });
}

#[test]
fn a_removed_cgroup_is_noticed() {
    on_a_node(|world| {
        let mut plan = plan(world);
        let gone = Cgroup::new(&world.pods.path);
        plan.cgroup = gone.path.clone();
        let (interception, _listeners) = intercept(&plan);
        assert!(interception.status().attached);
        fs::remove_dir(&gone.path).unwrap();
        assert!(!interception.status().attached);
        // The same name again is another cgroup.
        fs::create_dir(&gone.path).unwrap();
        assert!(!interception.status().attached);
    });
}

/// Attaches a program as tools of old did: flags 0, so that nobody else may.
fn attach_exclusively(world: &World) -> aya::Ebpf {
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        attach_type: u32,
        flags: u32,
    }
    let object = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../proxy-ebpf/prebuilt/weir.bpf.o")).unwrap();
    let mut ebpf = aya::Ebpf::load(&object).unwrap();
    let program: &mut CgroupSockAddr = ebpf.program_mut("weir_connect4").unwrap().try_into().unwrap();
    program.load().unwrap();
    let cgroup = fs::File::open(&world.pods.path).unwrap();
    let attr = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: program.fd().unwrap().as_fd().as_raw_fd() as u32,
        attach_type: 10,
        flags: 0,
    };
    // SAFETY: BPF_PROG_ATTACH with a live attribute of the size given.
    assert_eq!(unsafe { libc::syscall(libc::SYS_bpf, 8, &raw const attr, size_of_val(&attr)) }, 0);
    ebpf
}

#[test]
fn another_programs_exclusive_hold_is_named() {
    on_a_node(|world| {
        let _other = attach_exclusively(world);
        let error = refusal(&plan(world));
        assert!(matches!(error, InterceptError::Exclusive { hook: "cgroup/connect4", .. }), "{error:?}");
        let below = Plan { cgroup: world.pod_cgroup.path.clone(), ..plan(world) };
        assert!(refusal(&below).to_string().contains("exclusively"));
    });
}

#[test]
fn a_plan_that_cannot_work_is_refused_before_the_kernel_is_asked() {
    on_a_node(|world| {
        let good = plan(world);
        let bad = [
            Plan { addresses: vec![], ..good.clone() },
            Plan { addresses: vec![crate::weir::ip("0.0.0.0")], ..good.clone() },
            Plan { ports: 0, ..good.clone() },
            Plan { first_port: 65_530, ports: 8, ..good.clone() },
            Plan { mark: 0, ..good.clone() },
            Plan { tuples: 0, ..good },
        ];
        for plan in bad {
            assert!(matches!(refusal(&plan), InterceptError::Plan(_)), "{plan:?}");
        }
    });
}
