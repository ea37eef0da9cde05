//! Pods one by one: found by their UIDs, each with its own ports.

use std::collections::BTreeMap;

use proxy_ebpf::{Count, Pod, Policy};
use weir::domain::ports::PortWishes;
use weir::intercept::{Enrol, InterceptOptions, diverted};

use crate::weir::{Answering, Beating, Direct, dial, intercept, intercept_to, listeners, options, service};
use crate::world::{Cgroup, World, keep_only, on_a_node};

const UID: &str = "0b7f1c1e-0000-4000-8000-000000000001";
const OTHER: &str = "0b7f1c1e-0000-4000-8000-000000000002";

fn by_pod(world: &World) -> InterceptOptions {
    InterceptOptions { enrol: Enrol::Pods, ..options(world) }
}

fn ports(skip: &str, opaque: &str) -> Pod {
    diverted(&PortWishes::read(Some(skip), Some(opaque)).0)
}

/// Enrols these pods as they are found by their UIDs.
fn enrol(interception: &mut Beating, pods: &[(&str, Pod)]) {
    let cgroups = interception.pod_cgroups().unwrap();
    let wanted: BTreeMap<u64, Pod> = pods.iter().map(|(uid, pod)| (cgroups[*uid], *pod)).collect();
    assert!(interception.enrol_pods(&wanted).unwrap().is_empty());
}

/// The folder that a driver makes for a class: none for Guaranteed.
fn pod_in(world: &World, class: &str, pod: &str) -> (Option<Cgroup>, Cgroup) {
    let class = (!class.is_empty()).then(|| Cgroup::named(&world.pods.path, class));
    let parent = class.as_ref().map_or(&world.pods.path, |it| &it.path);
    let pod = Cgroup::named(parent, pod);
    (class, pod)
}

#[test]
fn a_pod_is_diverted_once_it_is_enrolled_whatever_its_driver_and_class() {
    on_a_node(|world| {
        let (mut interception, listeners) = intercept(&by_pod(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        let _direct = Direct::start(world);
        let systemd = UID.replace('-', "_");
        for (class, pod) in [
            ("", format!("pod{UID}")),
            ("burstable", format!("pod{UID}")),
            ("besteffort", format!("pod{UID}")),
            ("", format!("kubepods-pod{systemd}.slice")),
            ("kubepods-burstable.slice", format!("kubepods-burstable-pod{systemd}.slice")),
            ("kubepods-besteffort.slice", format!("kubepods-besteffort-pod{systemd}.slice")),
        ] {
            let (_class, pod) = pod_in(world, class, &pod);
            let other = Cgroup::named(pod.path.parent().unwrap(), &format!("pod{OTHER}"));
            let container = Cgroup::named(&pod.path, "cri-containerd-1.scope");
            let dialled = || world.run_in(&container, || dial(service(0, 80)));
            assert!(dialled().starts_with("direct"), "{}", pod.path.display());
            enrol(&mut interception, &[(UID, ports("", ""))]);
            assert!(dialled().starts_with("weir 10.96.0.10:80"), "{}", pod.path.display());
            assert!(world.run_in(&other, || dial(service(0, 80))).starts_with("direct"));
            enrol(&mut interception, &[]);
            assert!(dialled().starts_with("direct"), "{}", pod.path.display());
        }
    });
}

#[test]
fn a_pod_made_anew_under_its_name_is_found_again() {
    on_a_node(|world| {
        let (mut interception, listeners) = intercept(&by_pod(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        let _direct = Direct::start(world);
        let (_class, pod) = pod_in(world, "burstable", &format!("pod{UID}"));
        let dialled = || world.run_in(&pod, || dial(service(0, 80)));
        let wish = [(UID, ports("", ""))];
        enrol(&mut interception, &wish);
        assert!(dialled().starts_with("weir"));
        pod.make_anew();
        assert!(dialled().starts_with("direct"), "another cgroup, which nobody told of");
        enrol(&mut interception, &wish);
        assert!(dialled().starts_with("weir"));
    });
}

#[test]
fn the_pod_of_another_weir_is_left_alone_whoever_is_enrolled() {
    on_a_node(|world| {
        let (mut interception, listeners) = intercept(&options(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        let _direct = Direct::start(world);
        let (_class, pod) = pod_in(world, "burstable", &format!("pod{UID}"));
        let container = Cgroup::named(&pod.path, "cri-containerd-1.scope");
        let other = Cgroup::named(pod.path.parent().unwrap(), &format!("pod{OTHER}"));
        let dialled = |cgroup: &Cgroup| world.run_in(cgroup, || dial(service(0, 80)));
        enrol(&mut interception, &[(UID, ports("", ""))]);
        assert!(dialled(&container).starts_with("weir"));
        assert!(interception.own_pod(UID).unwrap());
        assert!(dialled(&container).starts_with("direct"));
        assert_eq!(interception.counters().get(Count::Own), 1);
        for enrolled in [&[(UID, ports("", ""))][..], &[]] {
            enrol(&mut interception, enrolled);
            assert!(dialled(&container).starts_with("direct") && dialled(&other).starts_with("weir"));
        }
        assert!(!interception.own_pod("0b7f1c1e-0000-4000-8000-000000000003").unwrap());
    });
}

#[test]
fn a_pods_skipped_ports_go_direct_and_its_opaque_ones_are_marked() {
    on_a_node(|world| {
        let (mut interception, listeners) = intercept(&by_pod(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        let _direct = Direct::start(world);
        let (_class, pod) = pod_in(world, "", &format!("pod{UID}"));
        let on = |port: u16| world.run_in(&pod, move || dial(service(0, port)));
        enrol(&mut interception, &[(UID, ports("80,9000-9010", "25,3306-3310"))]);
        assert!(on(80).starts_with("direct"));
        assert_eq!(interception.counters().get(Count::SkippedPort), 1);
        for (port, said) in [
            (81, "weir 10"),
            (25, "weir opaque"),
            (3310, "weir opaque"),
            (3311, "weir 10"),
            (8999, "weir 10"),
        ] {
            assert!(on(port).starts_with(said), "{port}");
        }
        // Nobody listens there.
        assert_eq!(on(9010), "ConnectionRefused");
        // All eight ranges count, and both families.
        enrol(&mut interception, &[(UID, ports("1,3,5,7,9,11,13,80", "1,3,5,7,9,11,13,81"))]);
        assert!(on(80).starts_with("direct"));
        assert!(world.run_in(&pod, || dial(service(1, 80))).starts_with("direct"));
        assert!(world.run_in(&pod, || dial(service(1, 81))).starts_with("weir opaque"));
        enrol(&mut interception, &[(UID, Pod::all(Policy::Divert))]);
        assert!(on(80).starts_with("weir 10"));
    });
}

#[test]
fn pods_beyond_the_tables_room_are_named_and_the_rest_is_enrolled() {
    on_a_node(|world| {
        let (mut interception, listeners) = intercept(&by_pod(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        let wish = ports("", "");
        // Ids far beyond those of cgroups that there are.
        let pods = |from: u64, count: u64| (from..from + count).map(|id| (id << 48, wish)).collect();
        assert!(interception.enrol_pods(&pods(1, 4096)).unwrap().is_empty());
        let left_out = interception.enrol_pods(&pods(1, 4100)).unwrap();
        assert_eq!(left_out.len(), 4);
        // Others in their place, in one step.
        assert!(interception.enrol_pods(&pods(5000, 4096)).unwrap().is_empty());
        let mut wanted: BTreeMap<u64, Pod> = pods(5000, 4095);
        wanted.insert(world.pod_cgroup.id(), wish);
        assert!(interception.enrol_pods(&wanted).unwrap().is_empty());
        assert!(world.run(|| dial(service(0, 80))).starts_with("weir"));
    });
}

#[test]
fn the_programs_follow_the_pods_cgroup_when_it_is_made_anew() {
    on_a_node(|world| {
        let listeners = listeners();
        let _direct = Direct::start(world);
        for enrolled in [Enrol::All, Enrol::Pods] {
            let root = Cgroup::new(&world.pods.path);
            let options = InterceptOptions { cgroup: root.path.clone(), enrol: enrolled, ..options(world) };
            let mut interception = intercept_to(&options, &listeners);
            let _weir = Answering::start(&listeners, &interception.original_dsts());
            assert!(!interception.follow_cgroup().unwrap());
            root.make_anew();
            assert!(!interception.status().attached);
            assert!(interception.follow_cgroup().unwrap());
            assert!(interception.status().is_armed());
            let pod = Cgroup::named(&root.path, &format!("pod{UID}"));
            if enrolled == Enrol::Pods {
                enrol(&mut interception, &[(UID, ports("", ""))]);
            }
            assert!(world.run_in(&pod, || dial(service(0, 80))).starts_with("weir"));
            drop(pod);
            std::fs::remove_dir(&root.path).unwrap();
            assert!(interception.follow_cgroup().is_err());
            assert!(!interception.status().attached);
            std::fs::create_dir(&root.path).unwrap();
            assert!(interception.follow_cgroup().unwrap());
        }
    });
}

#[test]
fn no_resource_limit_needs_to_be_raised() {
    on_a_node(|world| {
        let options = by_pod(world);
        let own = Cgroup::new(world.pods.path.parent().unwrap());
        let said = world.start_on_node(&own, move || {
            // As in a container that has CAP_BPF and CAP_NET_ADMIN and nothing else.
            keep_only(&[12, 39]);
            let limit = libc::rlimit { rlim_cur: 65_536, rlim_max: 65_536 };
            // SAFETY: a live struct.
            let set = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
            assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
            let (mut interception, _listeners) = intercept(&options);
            interception.enrol_pods(&BTreeMap::from([(1 << 48, Pod::all(Policy::Divert))])).expect("enrol");
            let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: a live struct.
            unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut now) };
            format!("armed {}, limit {}", interception.status().is_armed(), now.rlim_cur)
        });
        assert_eq!(said.result(), "armed true, limit 65536");
    });
}
