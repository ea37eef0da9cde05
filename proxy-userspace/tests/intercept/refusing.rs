//! When interception cannot be had, one sentence says why and what to do.

use std::fs;
use std::os::fd::AsFd;

use aya::maps::PerCpuArray;
use aya::programs::CgroupSockAddr;
use libc::sock_filter;
use nix::unistd::{Uid, setresuid};
use proxy_ebpf::Count;
use weir::intercept::{InterceptError, InterceptOptions, Interception};

use crate::weir::{Direct, dial, intercept, listeners, options, service};
use crate::world::{Cgroup, World, on_a_node};

fn refusal(options: &InterceptOptions) -> InterceptError {
    let listeners = listeners();
    Interception::attach(options, listeners[0].as_fd()).err().expect("a refusal")
}

#[test]
fn a_missing_capability_is_named() {
    on_a_node(|world| {
        drop(intercept(&options(world)));
        let options = options(world);
        let outside = Cgroup::new(world.pods.path.parent().unwrap());
        let said = world.start_on_node(&outside, move || {
            let nobody = Uid::from_raw(65534);
            setresuid(nobody, nobody, nobody).unwrap();
            refusal(&options).to_string()
        });
        let said = said.result();
        assert!(said.contains("CAP_BPF and CAP_NET_ADMIN"), "{said}");
    });
}

#[test]
fn a_cgroup_that_is_not_there_is_named() {
    on_a_node(|world| {
        let mut options = options(world);
        options.cgroup = world.pods.path.join("nothing");
        let said = refusal(&options).to_string();
        assert!(said.contains("nothing") && said.contains("transparent.cgroup"), "{said}");
        options.cgroup = "/tmp".into();
        let said = refusal(&options).to_string();
        assert!(said.contains("/tmp is not on a cgroup2 file system"), "{said}");
    });
}

#[test]
fn a_socket_that_does_not_listen_is_refused() {
    on_a_node(|world| {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let refused = Interception::attach(&options(world), socket.as_fd()).err();
        assert!(matches!(refused, Some(InterceptError::Listener(_))), "{refused:?}");
    });
}

#[test]
fn a_removed_cgroup_is_noticed() {
    on_a_node(|world| {
        let mut options = options(world);
        let gone = Cgroup::new(&world.pods.path);
        options.cgroup = gone.path.clone();
        let (interception, _listeners) = intercept(&options);
        assert!(interception.status().attached);
        fs::remove_dir(&gone.path).unwrap();
        assert!(!interception.status().attached);
        // The same name again is another cgroup.
        fs::create_dir(&gone.path).unwrap();
        assert!(!interception.status().attached);
    });
}

/// Refuses the calling process a system call, for good: where the argument at `index` has `value`, it fails with `errno`.
fn refuse(call: libc::c_long, index: u32, value: u32, errno: i32) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const UNLESS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let of = |code, jf, k| sock_filter { code, jt: 0, jf, k };
    // `struct seccomp_data`: the call's number at 0, its arguments from 16 on, eight bytes each.
    let mut filter = [
        of(LOAD, 0, 0),
        of(UNLESS, 3, call as u32),
        of(LOAD, 0, 16 + 8 * index),
        of(UNLESS, 1, value),
        of(RETURN, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        of(RETURN, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: prctl(2) with a live filter of the length given.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program, 0, 0), 0, "seccomp");
    }
}

#[test]
fn what_a_kernel_is_too_old_for_and_what_a_container_forbids_is_named() {
    const SO_NETNS_COOKIE: u32 = 71;
    // The kernel's own number for "not supported", which libc has no name for.
    const ENOTSUPP: i32 = 524;
    // enum bpf_cmd
    let [create, load, take] = [0, 5, 21].map(|command| (libc::SYS_bpf, 0, command));
    let cookie = (libc::SYS_getsockopt, 2, SO_NETNS_COOKIE);
    on_a_node(move |world| {
        drop(intercept(&options(world)));
        for (refused, parts) in [
            // Before 5.14. The running kernel is not that old, so weir does not say that it is.
            (&[(cookie, libc::ENOPROTOOPT)][..], ["has no SO_NETNS_COOKIE", "since 5.15"]),
            (&[(take, ENOTSUPP)], ["has no look-up-and-delete", "since 5.15"]),
            // Before 5.11 maps count as locked memory, and are refused for that; but the cookie is the reason.
            (&[(cookie, libc::ENOPROTOOPT), (create, libc::EPERM)], ["has no SO_NETNS_COOKIE", "since 5.15"]),
            // A container runtime's profile.
            (&[(create, libc::EPERM)], ["seccomp", "bpf"]),
            (&[(load, libc::EPERM)], ["seccomp", "bpf"]),
            (&[(create, libc::ENOSYS)], ["no bpf(2)", "needs Linux 5.15 or newer"]),
        ] {
            let options = options(world);
            let outside = Cgroup::new(world.pods.path.parent().unwrap());
            let said = world.start_on_node(&outside, move || {
                for &((call, index, value), errno) in refused {
                    refuse(call, index, value, errno);
                }
                refusal(&options).to_string()
            });
            let said = said.result();
            assert!(parts.iter().all(|part| said.contains(part)), "{refused:?}: {said}");
        }
    });
}

/// Attaches a program as tools of old did, with these flags: 0, nobody else may; 1 (`BPF_F_ALLOW_OVERRIDE`), whoever comes
/// below takes its place.
fn attach_as_of_old(world: &World, flags: u32) -> aya::Ebpf {
    let object = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../proxy-ebpf/prebuilt/weir.bpf.o")).unwrap();
    let mut ebpf = aya::Ebpf::load(&object).unwrap();
    let program: &mut CgroupSockAddr = ebpf.program_mut("weir_connect4").unwrap().try_into().unwrap();
    program.load().unwrap();
    let cgroup = fs::File::open(&world.pods.path).unwrap();
    crate::bpf::attach(&cgroup, program.fd().unwrap().as_fd(), flags);
    ebpf
}

#[test]
fn another_programs_exclusive_hold_is_named() {
    on_a_node(|world| {
        let _other = attach_as_of_old(world, 0);
        let error = refusal(&options(world));
        assert!(matches!(error, InterceptError::Exclusive { hook: "cgroup/connect4", .. }), "{error:?}");
        let below = InterceptOptions { cgroup: world.pod_cgroup.path.clone(), ..options(world) };
        assert!(refusal(&below).to_string().contains("exclusively"));
    });
}

/// How many connections a program of [`attach_as_of_old`] has seen.
fn seen(other: &aya::Ebpf) -> u64 {
    let counts = PerCpuArray::<_, u64>::try_from(other.map("COUNTS").unwrap()).unwrap();
    counts.get(&(Count::OutOfScope as u32), 0).unwrap().iter().sum()
}

#[test]
fn a_program_that_weir_would_switch_off_for_the_pods_stays_and_is_named() {
    on_a_node(|world| {
        let _direct = Direct::start(world);
        let other = attach_as_of_old(world, 1);
        let below = InterceptOptions { cgroup: world.pod_cgroup.path.clone(), ..options(world) };
        let error = refusal(&below);
        let named = matches!(error, InterceptError::Displaced { hook: "cgroup/connect4", .. });
        assert!(named, "{error:?}");
        assert!(error.to_string().contains("BPF_F_ALLOW_MULTI"), "{error}");
        let before = seen(&other);
        assert_eq!(world.run(|| dial(service(0, 80))), "direct, peer 10.96.0.10:80");
        assert_eq!(seen(&other) - before, 1);
    });
}

#[test]
fn a_plan_that_cannot_work_is_refused_before_the_kernel_is_asked() {
    on_a_node(|world| {
        let good = options(world);
        let bad = [
            InterceptOptions { addresses: vec![], ..good.clone() },
            InterceptOptions { addresses: vec![crate::weir::ip("0.0.0.0")], ..good.clone() },
            InterceptOptions { ports: 0, ..good.clone() },
            InterceptOptions { first_port: 65_530, ports: 8, ..good.clone() },
            InterceptOptions { tuples: 0, ..good },
        ];
        for options in bad {
            assert!(matches!(refusal(&options), InterceptError::Options(_)), "{options:?}");
        }
    });
}
