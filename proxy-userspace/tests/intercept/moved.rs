//! A process that moves between cgroups: what counts is where it is when it connects.

use std::net::{SocketAddr, TcpStream};

use proxy_ebpf::{Count, Policy};
use socket2::{Domain, Socket, Type};

use crate::weir::{Answering, Direct, dial, intercept, options, read, service, waiting};
use crate::world::{Cgroup, World, on_a_node};

/// A cgroup that nobody enrols.
fn outside(world: &World) -> Cgroup {
    Cgroup::new(world.pods.path.parent().unwrap())
}

fn stream(to: SocketAddr) -> Socket {
    Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap()
}

#[test]
fn a_process_is_diverted_between_two_moves_and_not_before_or_after() {
    on_a_node(|world| {
        let (interception, listeners) = intercept(&options(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        let _direct = Direct::start(world);
        let outside = outside(world);
        for family in [0, 1] {
            let said = world.run_in(&outside, || {
                let mut said = Vec::new();
                for cgroup in [&outside, &world.container, &outside, &world.pods, &outside] {
                    cgroup.enter();
                    said.push(dial(service(family, 80)).split(' ').next().unwrap().to_owned());
                }
                said.join(" ")
            });
            assert_eq!(said, "direct, weir direct, weir direct,");
        }
    });
}

#[test]
fn a_socket_made_before_a_move_follows_its_process_out_and_stays_direct_when_it_comes_in() {
    on_a_node(|world| {
        let (interception, listeners) = intercept(&options(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        let _direct = Direct::start(world);
        let outside = outside(world);
        for family in [0, 1] {
            let to = service(family, 80);
            // The hooks are those of the cgroup that a socket was made in, and ask where the process is.
            let moved = |from: &Cgroup, into: &Cgroup| {
                world.run_in(from, || {
                    let socket = stream(to);
                    into.enter();
                    socket.connect(&to.into()).unwrap();
                    read(socket.into())
                })
            };
            assert_eq!(moved(&world.container, &outside), format!("direct, peer {to}"));
            assert_eq!(moved(&outside, &world.container), format!("direct, peer {to}"));
        }
        assert_eq!(interception.counters().get(Count::NotEnrolled), 2);
        assert_eq!(waiting(&interception), 0);
    });
}

#[test]
fn a_connection_is_known_to_its_end_wherever_its_process_goes() {
    on_a_node(|world| {
        let (interception, listeners) = intercept(&options(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        let outside = outside(world);
        for family in [0, 1] {
            let to = service(family, 80);
            let said = world.run(|| {
                let stream = TcpStream::connect(to).unwrap();
                outside.enter();
                read(stream)
            });
            assert_eq!(said, format!("weir {to}, peer {to}"));
        }
    });
}

#[test]
fn a_process_that_moves_to_another_pod_is_taken_for_that_pods() {
    on_a_node(|world| {
        let (mut interception, listeners) = intercept(&options(world));
        let _direct = Direct::start(world);
        let (other, quiet) = (Cgroup::new(&world.pods.path), Cgroup::new(&world.pods.path));
        interception.enrol(quiet.id(), Policy::LeaveAlone).unwrap();
        let said = world.run(|| {
            let dialled = [81, 82, 80, 83].into_iter().zip([&world.container, &other, &quiet, &other]);
            let connections: Vec<_> = dialled
                .map(|(port, cgroup)| {
                    cgroup.enter();
                    TcpStream::connect(service(0, port)).unwrap()
                })
                .collect();
            let quiet = connections.into_iter().nth(2).unwrap();
            read(quiet)
        });
        assert_eq!(said, "direct, peer 10.96.0.10:80");
        let mut found = Vec::new();
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
            while let Ok((stream, client)) = listener.accept() {
                let original =
                    interception.original_dsts().take(&stream, client, stream.local_addr().unwrap()).unwrap();
                found.push((original.dialled.port(), original.cgroup));
            }
        }
        found.sort_unstable();
        assert_eq!(found, [(81, world.container.id()), (82, other.id()), (83, other.id())]);
    });
}
