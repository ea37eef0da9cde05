//! The numbers by which weir in a pod knows what was dialled.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};

use proxy_ebpf::Count;
use weir::intercept::{InterceptOptions, Interception};

use crate::in_pods::{Joined, at, diverted, in_pods, shown4, shown6};
use crate::weir::{Direct, dial, service};
use crate::world::on_a_node;

#[test]
fn a_destination_keeps_its_number_while_connections_to_it_may_be_open() {
    on_a_node(|world| {
        let mut joined = Joined::new(world, &in_pods(world));
        let numbers = joined.interception.numbers().unwrap();
        let shown = |it: SocketAddr| numbers.dialled(shown4(it)).map(|it| it.0);
        let stand = || diverted().into_iter().all(|it| shown(it) == Some(it));
        assert!(stand());
        let gone: Vec<_> = at(&[80]).into_iter().collect();
        joined.interception.amend(&gone, &[]).unwrap();
        assert!(stand(), "what it stood for is still told");
        let new: Vec<_> = at(&[90]).into_iter().collect();
        joined.interception.amend(&[], &new).unwrap();
        assert!(stand(), "a new one gets another number");
        assert_eq!(shown(service(0, 90)), Some(service(0, 90)));
        joined.interception.amend(&[], &gone).unwrap();
        assert!(stand(), "the one that came back has its own again");
        assert_eq!(world.run(|| dial(service(0, 80))), "weir 10.96.0.10:80, peer 10.96.0.10:80");
    });
}

/// A SYN that the kernel sends again reaches the next weir by the number that the last one gave.
#[test]
fn after_a_restart_every_destination_has_the_number_that_it_had() {
    on_a_node(|world| {
        let others: BTreeSet<_> = at(&[8080, 9090]);
        for at_once in [true, false] {
            let mut interception = Interception::attach_in_pods(&in_pods(world)).expect("attach");
            let all: BTreeSet<_> = at(&[80, 81, 82, 443]).union(&others).cloned().collect();
            if at_once {
                interception.divert(&all).expect("divert");
            } else {
                interception.divert(&others).expect("divert");
                interception.divert(&all).expect("divert");
            }
            let numbers = interception.numbers().unwrap();
            for destination in diverted() {
                for shown in [shown4(destination), shown6(destination)] {
                    assert_eq!(numbers.dialled(shown), Some((destination, false)), "at once: {at_once}");
                }
            }
        }
    });
}

#[test]
fn a_full_table_of_destinations_leaves_the_rest_direct() {
    on_a_node(|world| {
        let options = InterceptOptions { destinations: 8, ..in_pods(world) };
        let mut joined = Joined::new(world, &options);
        let _direct = Direct::start(world);
        let more: Vec<_> = at(&[90]).into_iter().collect();
        let applied = joined.interception.amend(&[], &more).unwrap();
        assert_eq!(applied.left_out, 2, "{applied:?}");
        assert_eq!(world.run(|| dial(service(0, 80))), "weir 10.96.0.10:80, peer 10.96.0.10:80");
        assert_eq!(joined.count(Count::NoNumber), 0);
        let direct = world.run(|| {
            TcpStream::connect(service(0, 90))
                .map_or_else(|e| format!("{:?}", e.kind()), |_| "connected".into())
        });
        assert_eq!(direct, "ConnectionRefused", "nobody listens there, and weir was not asked");
        assert_eq!(joined.count(Count::NoNumber), 1);
    });
}
