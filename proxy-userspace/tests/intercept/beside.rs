//! Two weirs on one node, as when an installation is replaced by another; and clients bound to a device.

use proxy_ebpf::Count;
use socket2::{Domain, Socket, Type};
use weir::intercept::InterceptOptions;

use crate::weir::{Answering, Beating, Direct, dial, intercept, listen, options, read, service, services};
use crate::world::on_a_node;

#[test]
fn a_socket_bound_to_its_device_is_diverted() {
    on_a_node(|world| {
        let (interception, listeners) = intercept(&options(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        for family in [0, 1] {
            let said = world.run(move || {
                let socket =
                    Socket::new(Domain::for_address(service(family, 80)), Type::STREAM, None).unwrap();
                socket.bind_device(Some(b"eth0")).unwrap();
                socket.connect(&service(family, 80).into()).unwrap();
                read(socket.into())
            });
            assert_eq!(said, format!("weir {0}, peer {0}", service(family, 80)));
        }
    });
}

#[test]
fn of_two_weirs_one_diverts_and_the_other_takes_over() {
    on_a_node(|world| {
        let first = options(world);
        let (mut one, listeners) = intercept(&first);
        let _one = Answering::start(&listeners, &one.original_dsts());
        let second = InterceptOptions { first_port: 5142, ports: 1, ..first };
        let others = [listen(5142, 128)];
        let mut two = Beating::attach(&second, &others[0]);
        two.divert(&services().collect()).unwrap();
        let _two = Answering::start(&others, &two.original_dsts());
        let _direct = Direct::start(world);
        for family in [0, 1] {
            assert_eq!(
                world.run(|| dial(service(family, 80))),
                format!("weir {0}, peer {0}", service(family, 80))
            );
        }
        assert_eq!((one.counters().get(Count::Diverted), two.counters().get(Count::Diverted)), (2, 0));
        one.disarm();
        for family in [0, 1] {
            assert_eq!(
                world.run(|| dial(service(family, 80))),
                format!("weir {0}, peer {0}", service(family, 80))
            );
        }
        assert_eq!((one.counters().get(Count::Diverted), two.counters().get(Count::Diverted)), (2, 2));
        drop(one);
        assert!(world.run(|| dial(service(0, 80))).starts_with("weir"));
        drop(two);
        assert!(world.run(|| dial(service(0, 80))).starts_with("direct"));
    });
}
