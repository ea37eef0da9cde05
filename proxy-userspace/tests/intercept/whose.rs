//! Which pod a network namespace is, by the cgroups of the processes that connect from it.

use proxy_ebpf::{Count, Pod, Policy};
use weir::intercept::{Enrol, InterceptOptions, PodOf};

use crate::in_pods::{Joined, in_pods};
use crate::weir::{Direct, dial, service};
use crate::world::{Cgroup, on_a_node};

#[test]
fn two_pods_in_one_network_namespace_are_both_left_alone() {
    on_a_node(|world| {
        let options = InterceptOptions { enrol: Enrol::Pods, ..in_pods(world) };
        let mut joined = Joined::new(world, &options);
        let _direct = Direct::start(world);
        let other = Cgroup::new(&world.pods.path);
        let pods = [world.pod_cgroup.id(), other.id()].map(|id| (id, Pod::all(Policy::Divert)));
        joined.interception.enrol_pods(&pods.into()).unwrap();
        assert_eq!(joined.interception.pod_of(joined.cookie), PodOf::Unknown);
        assert_eq!(world.run(|| dial(service(0, 80))), "weir 10.96.0.10:80, peer 10.96.0.10:80");
        assert_eq!(joined.interception.pod_of(joined.cookie), PodOf::One(world.pod_cgroup.id()));
        // The other's is never diverted; from then on the first's is not, either.
        assert_eq!(world.run_in(&other, || dial(service(0, 80))), "direct, peer 10.96.0.10:80");
        assert_eq!(world.run(|| dial(service(0, 80))), "direct, peer 10.96.0.10:80");
        assert_eq!(joined.interception.pod_of(joined.cookie), PodOf::Several);
        assert_eq!(joined.count(Count::SharedNetns), 2);
    });
}

#[test]
fn a_pod_that_another_one_entered_once_is_diverted_again() {
    on_a_node(|world| {
        let options = InterceptOptions { enrol: Enrol::Pods, ..in_pods(world) };
        let mut joined = Joined::new(world, &options);
        let _direct = Direct::start(world);
        let other = Cgroup::new(&world.pods.path);
        let pods = [world.pod_cgroup.id(), other.id()].map(|id| (id, Pod::all(Policy::Divert)));
        joined.interception.enrol_pods(&pods.into()).unwrap();
        let weir = "weir 10.96.0.10:80, peer 10.96.0.10:80";
        assert_eq!(world.run(|| dial(service(0, 80))), weir);
        joined.interception.forget_shared();
        assert_eq!(
            joined.interception.pod_of(joined.cookie),
            PodOf::One(world.pod_cgroup.id()),
            "only what is shared is forgotten"
        );
        assert_eq!(world.run_in(&other, || dial(service(0, 80))), "direct, peer 10.96.0.10:80");
        assert_eq!(world.run(|| dial(service(0, 80))), "direct, peer 10.96.0.10:80");
        joined.interception.forget_shared();
        assert_eq!(joined.interception.pod_of(joined.cookie), PodOf::Unknown);
        assert_eq!(world.run(|| dial(service(0, 80))), weir);
        assert_eq!(joined.interception.pod_of(joined.cookie), PodOf::One(world.pod_cgroup.id()));
    });
}

#[test]
fn a_pod_whose_cgroup_is_made_anew_is_not_taken_for_two() {
    on_a_node(|world| {
        let root = Cgroup::new(&world.pods.path);
        let options = InterceptOptions { cgroup: root.path.clone(), ..in_pods(world) };
        let mut joined = Joined::new(world, &options);
        let weir = "weir 10.96.0.10:80, peer 10.96.0.10:80";
        let dials = |name: &str| world.run_in(&Cgroup::named(&root.path, name), || dial(service(0, 80)));
        assert_eq!(dials("first"), weir);
        let before = joined.interception.pod_of(joined.cookie);
        root.make_anew();
        assert!(joined.interception.follow_cgroup().unwrap());
        assert_eq!(dials("second"), weir);
        let now = joined.interception.pod_of(joined.cookie);
        assert!(matches!(now, PodOf::One(_)) && now != before, "{now:?}");
    });
}
