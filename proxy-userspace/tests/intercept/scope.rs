//! Who is diverted, and on the way to what.

use std::collections::BTreeSet;

use ipnet::IpNet;
use proxy_ebpf::{Count, Policy};
use weir::intercept::{Destination, InterceptError, Interception};

use crate::weir::{
    Answering, Direct, dial, intercept, intercept_to, ip, listeners, options, service, services,
};
use crate::world::{Cgroup, NODE, on_a_node};

#[test]
fn only_enrolled_cgroups_are_diverted_and_the_nearest_policy_wins() {
    on_a_node(|world| {
        let (mut interception, listeners) = intercept(&options(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        let _direct = Direct::start(world);
        let outside = Cgroup::new(world.pods.path.parent().unwrap());
        assert!(world.run_in(&world.pods, || dial(service(0, 80))).starts_with("weir"));
        assert!(world.run_in(&world.container, || dial(service(0, 80))).starts_with("weir"));
        assert!(world.run_in(&outside, || dial(service(0, 80))).starts_with("direct"));
        // A pod that opted out, one container of which did not.
        interception.enrol(world.pod_cgroup.id(), Policy::LeaveAlone).unwrap();
        assert!(world.run_in(&world.container, || dial(service(0, 80))).starts_with("direct"));
        interception.enrol(world.container.id(), Policy::Divert).unwrap();
        assert!(world.run_in(&world.container, || dial(service(0, 80))).starts_with("weir"));
        interception.forget(world.container.id()).unwrap();
        interception.forget(world.container.id()).unwrap();
        assert!(world.run_in(&world.container, || dial(service(0, 80))).starts_with("direct"));
        assert_eq!(interception.counters().get(Count::LeftAlone), 2);
        // As if individual pods were enrolled instead of their parent.
        interception.forget(world.pods.id()).unwrap();
        assert!(world.run_in(&world.pods, || dial(service(0, 80))).starts_with("direct"));
        assert_eq!(interception.counters().get(Count::NotEnrolled), 1);
    });
}

#[test]
fn clients_on_the_node_itself_are_diverted_only_when_asked_for() {
    on_a_node(|world| {
        let mut options = options(world);
        let (interception, listeners) = intercept(&options);
        let on_node = || world.start_on_node(&world.container, || dial(service(0, 80))).result();
        // The node has no route to the service: a direct connection fails.
        assert_eq!(on_node(), "NetworkUnreachable");
        assert_eq!(interception.counters().get(Count::Host), 1);
        drop(interception);
        options.host = true;
        let interception = intercept_to(&options, &listeners);
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        assert_eq!(on_node(), "weir 10.96.0.10:80, peer 10.96.0.10:80");
        assert!(world.run(|| dial(service(0, 80))).starts_with("weir"), "and pods as before");
    });
}

#[test]
fn a_family_without_a_node_address_goes_direct_and_mapped_addresses_are_ipv4() {
    on_a_node(|world| {
        let mut options = options(world);
        options.addresses.retain(std::net::IpAddr::is_ipv4);
        let (interception, listeners) = intercept(&options);
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        let _direct = Direct::start(world);
        assert_eq!(world.run(|| dial(service(1, 80))), "direct, peer [fd96::10]:80");
        assert_eq!(interception.counters().get(Count::NoNodeAddress), 1);
        let mapped = "[::ffff:10.96.0.10]:80".parse().unwrap();
        assert!(world.run(move || dial(mapped)).starts_with("weir 10.96.0.10:80"));
    });
}

#[test]
fn a_weir_inside_the_pods_cgroup_never_diverts_itself() {
    on_a_node(|world| {
        drop(intercept(&options(world)));
        let mut options = options(world);
        options.host = true;
        let own = Cgroup::new(&world.pods.path);
        let said = world.start_on_node(&own, {
            let options = options.clone();
            move || {
                let (interception, _listeners) = intercept(&options);
                format!("{}, {}", dial(service(0, 80)), interception.counters().get(Count::Own))
            }
        });
        assert_eq!(said.result(), "NetworkUnreachable, 1");
        let said = world.start_on_node(&world.pods, move || {
            let listeners = listeners();
            let error = Interception::attach(&options, std::os::fd::AsFd::as_fd(&listeners[0])).err();
            assert!(matches!(error, Some(InterceptError::OwnCgroup(_))), "{error:?}");
            error.unwrap().to_string()
        });
        assert!(said.result().contains("start weir in a cgroup of its own"));
    });
}

#[test]
fn destinations_change_by_their_differences_and_ports_count() {
    on_a_node(|world| {
        let (mut interception, listeners) = intercept(&options(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        let _direct = Direct::start(world);
        let applied = interception.divert(&services().collect()).unwrap();
        assert_eq!((applied.added, applied.changed, applied.removed), (0, 0, 0));
        let one = |ports| Destination { net: IpNet::from(ip("10.96.0.10")), ports };
        let applied = interception.divert(&[one(1..=79), one(81..=90)].into()).unwrap();
        assert_eq!((applied.added, applied.changed, applied.removed), (0, 1, 1));
        assert!(world.run(|| dial(service(0, 80))).starts_with("direct"));
        assert!(world.run(|| dial(service(1, 80))).starts_with("direct"));
        assert!(world.run(|| dial(service(0, 79))).starts_with("weir"));
        assert!(world.run(|| dial(service(0, 81))).starts_with("weir"));
    });
}

#[test]
fn what_is_excluded_is_never_diverted_whatever_is_wanted() {
    on_a_node(|world| {
        let (mut interception, listeners) = intercept(&options(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        let _direct = Direct::start(world);
        let wanted: BTreeSet<_> = ["0.0.0.0/0", "::/0", "127.0.0.0/8"]
            .map(|net| Destination { net: net.parse().unwrap(), ports: 1..=65535 })
            .into();
        let except = [IpNet::from(ip("10.96.0.10"))].into();
        let applied = interception.divert_except(&wanted, &except, &NODE.map(ip)).unwrap();
        assert_eq!((applied.excluded, applied.left_out), (1, 0));
        assert!(world.run(|| dial(service(0, 80))).starts_with("direct"));
        assert!(world.run(|| dial(service(1, 80))).starts_with("weir"));
        for loopback in ["127.0.0.1:80", "[::1]:80"] {
            assert!(world.run(move || dial(loopback.parse().unwrap())).starts_with("direct"), "{loopback}");
        }
        // The node's own addresses: nobody listens there on port 80.
        for node in NODE {
            let node = std::net::SocketAddr::new(ip(node), 80);
            assert_eq!(world.run(move || dial(node)), "ConnectionRefused");
        }
        assert_eq!(interception.counters().get(Count::Excluded), 5);
    });
}

#[test]
fn destinations_beyond_the_tables_room_are_left_out_and_said_so() {
    on_a_node(|world| {
        let mut options = options(world);
        options.destinations = 10;
        let listeners = listeners();
        let mut interception =
            Interception::attach(&options, std::os::fd::AsFd::as_fd(&listeners[0])).unwrap();
        let wanted = |from: u32| {
            let one =
                |i: u32| Destination { net: IpNet::from(std::net::IpAddr::V4(i.into())), ports: 80..=80 };
            (from..from + 12).map(|i| one(0x0a60_0000 + i)).collect::<BTreeSet<_>>()
        };
        let applied = interception.divert(&wanted(0)).unwrap();
        assert_eq!((applied.added, applied.left_out), (10, 2));
        // Others in their place, in one step, although the table is full.
        let applied = interception.divert(&wanted(100)).unwrap();
        assert_eq!((applied.added, applied.removed, applied.left_out), (10, 10, 2));
        assert_eq!(interception.status().destinations, 10);
    });
}
