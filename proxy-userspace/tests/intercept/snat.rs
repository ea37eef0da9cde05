//! Addresses translated between an application and weir: containers inside a pod, behind its address, as Docker in Docker
//! has them. What the programs filed is not what weir sees, so weir does not know where such a connection was going.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use nix::unistd::gettid;
use proxy_ebpf::Policy;
use socket2::{Domain, Socket, Type};
use weir::intercept::InterceptOptions;

use crate::netfilter::masquerade;
use crate::weir::{Answering, Direct, dial, intercept, ip, options, read, service};
use crate::world::{self, POD, World, on_a_node};

/// The address of a container inside the pod.
const INNER: &str = "172.30.0.2";

/// A network namespace behind the pod's, which forwards for it and masquerades.
fn behind(world: &World) -> OwnedFd {
    world.in_pod(|| {
        let pod_thread = gettid();
        let inner = std::thread::spawn(move || {
            let inner = world::new_namespace();
            world::configure(&format!("link add eth0 type veth peer name inner0 netns {pod_thread}"));
            world::configure("link set eth0 up");
            world::addresses("eth0", &[(INNER, 24)]);
            world::configure("route add default via 172.30.0.1");
            inner
        });
        let inner = inner.join().expect("the inner namespace");
        world::configure("link set inner0 up");
        world::addresses("inner0", &[("172.30.0.1", 24)]);
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        masquerade();
        inner
    })
}

/// Dials from a port of one's own choice.
fn dial_from(address: IpAddr, port: u16, to: SocketAddr) -> String {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::new(address, port).into()).unwrap();
    match socket.connect(&to.into()) {
        Ok(()) => read(socket.into()),
        Err(error) => format!("{:?}", error.kind()),
    }
}

#[test]
fn a_connection_behind_a_masquerade_is_closed_and_never_taken_for_one_of_the_pods() {
    on_a_node(|world| {
        let inner = behind(world);
        // One port for all services, so that translated connections and the pod's own compete for source ports.
        let (mut interception, listeners) = intercept(&InterceptOptions { ports: 1, ..options(world) });
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        let _direct = Direct::start(world);
        let behind =
            |port| world.run_at(&inner, &world.container, || dial_from(ip(INNER), port, service(0, 81)));
        for port in 6000..6010 {
            // Before and after the pod itself has used the port that the translation would prefer.
            assert_eq!(behind(port), "lost, peer 10.96.0.10:81");
            let own = world.run(|| dial_from(ip(POD[0]), port, service(0, 82)));
            // Lost where the translation has its port; never another's.
            assert!(own == "weir 10.96.0.10:82, peer 10.96.0.10:82" || own.starts_with("lost"), "{own}");
            assert_eq!(behind(port), "lost, peer 10.96.0.10:81");
        }
        interception.enrol(world.container.id(), Policy::LeaveAlone).unwrap();
        let opted_out = world.run_at(&inner, &world.container, || dial(service(0, 80)));
        assert_eq!(opted_out, "direct, peer 10.96.0.10:80");
    });
}
