//! Beside a load balancer for sockets, such as network plug-ins attach: whoever comes first sees the service's address.
//! Programs run in the order of attaching in one cgroup, and those of a cgroup before those of the cgroups above it.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::IpNet;
use proxy_ebpf::Count;
use weir::intercept::{Destination, InterceptOptions};

use crate::bpf::{Balancer, expect_attached};
use crate::weir::{Answering, Beating, Direct, dial, intercept, ip, options, service};
use crate::world::{Cgroup, POD, SERVICE, World, on_a_node};

/// Where the balancer sends what is for [`SERVICE`].
const PORT: u16 = 8081;

fn balancer(cgroup: &Cgroup) -> Balancer {
    let (service, backend): (Ipv4Addr, _) = (SERVICE[0].parse().unwrap(), POD[0].parse().unwrap());
    Balancer::on(cgroup, service, SocketAddrV4::new(backend, PORT))
}

/// A backend where the balancer sends connections, and one where they go without it.
fn backends(world: &World) -> [Direct; 2] {
    [Direct::saying(world, PORT, "backend"), Direct::start(world)]
}

fn dialled(world: &World) -> String {
    world.run(|| dial(service(0, 80)))
}

const BY_WEIR: &str = "weir 10.96.0.10:80, peer 10.96.0.10:80";
const BY_BALANCER: &str = "backend, peer 10.77.0.2:8081";

/// weir's programs come first: it gets the service, the balancer sees the node's address and leaves that alone; and the
/// service is the balancer's whenever weir does not take it.
fn weir_goes_first(world: &World, interception: &mut Beating, balancer: Balancer) {
    assert_eq!(dialled(world), BY_WEIR);
    assert_eq!(world.run(|| dial(service(1, 80))), "weir [fd96::10]:80, peer [fd96::10]:80");
    interception.disarm();
    assert_eq!(dialled(world), BY_BALANCER);
    interception.arm().unwrap();
    assert_eq!(dialled(world), BY_WEIR);
    drop(balancer);
    assert_eq!(dialled(world), BY_WEIR);
}

/// The balancer's programs come first: weir sees a backend, which is none of its destinations, and leaves it alone.
fn balancer_goes_first(world: &World, interception: &mut Beating, balancer: Balancer) {
    assert_eq!(dialled(world), BY_BALANCER);
    assert_eq!(interception.counters().get(Count::OutOfScope), 1);
    assert_eq!(interception.counters().get(Count::Diverted), 0);
    // The other family is not balanced, so weir has it.
    assert_eq!(world.run(|| dial(service(1, 80))), "weir [fd96::10]:80, peer [fd96::10]:80");
    // With the pods' network among the destinations weir takes the connection, to the backend that was chosen.
    let pods = Destination { net: IpNet::from(ip(POD[0])), ports: PORT..=PORT };
    let all: BTreeSet<_> = crate::weir::services().chain([pods]).collect();
    interception.divert(&all).unwrap();
    assert_eq!(dialled(world), "weir 10.77.0.2:8081, peer 10.77.0.2:8081");
    interception.disarm();
    assert_eq!(dialled(world), BY_BALANCER);
    interception.arm().unwrap();
    drop(balancer);
    assert_eq!(dialled(world), BY_WEIR);
}

#[test]
fn of_a_balancer_on_a_cgroup_above_weir_goes_first_whoever_came_first() {
    for weir_came_first in [true, false] {
        on_a_node(move |world| {
            let _backends = backends(world);
            let below = InterceptOptions { cgroup: world.pod_cgroup.path.clone(), ..options(world) };
            let early = (!weir_came_first).then(|| balancer(&world.pods));
            let (mut interception, listeners) = intercept(&below);
            let _weir = Answering::start(&listeners, &interception.original_dsts());
            let balancer = early.unwrap_or_else(|| balancer(&world.pods));
            weir_goes_first(world, &mut interception, balancer);
        });
    }
}

#[test]
fn of_a_balancer_on_a_cgroup_below_weir_goes_last() {
    on_a_node(|world| {
        let _backends = backends(world);
        let (mut interception, listeners) = intercept(&options(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        let balancer = balancer(&world.pod_cgroup);
        balancer_goes_first(world, &mut interception, balancer);
    });
}

#[test]
fn of_a_balancer_on_the_same_cgroup_who_attached_first_goes_first() {
    on_a_node(|world| {
        let _backends = backends(world);
        let (mut interception, listeners) = intercept(&options(world));
        let weir = Answering::start(&listeners, &interception.original_dsts());
        let late = balancer(&world.pods);
        expect_attached(&world.pods, 6);
        weir_goes_first(world, &mut interception, late);
        drop((weir, interception));
        expect_attached(&world.pods, 0);
        let early = balancer(&world.pods);
        let mut interception = crate::weir::intercept_to(&options(world), &listeners);
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        balancer_goes_first(world, &mut interception, early);
    });
}
