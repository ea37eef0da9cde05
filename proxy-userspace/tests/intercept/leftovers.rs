//! Entries of clients that gave up before weir accepted: they are forgotten when they are too old, and not before.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use proxy_ebpf::Count;

use crate::weir::{intercept, options, service, sweep, waiting};
use crate::world::{World, on_a_node};

/// More than a few batches of a walk.
const MANY: u16 = 2_000;

/// Clients that connect, each from its own port, and reset before anybody accepts.
fn come_and_go(world: &World, ports: std::ops::Range<u16>) {
    world.run(move || {
        for port in ports {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_reuse_address(true).unwrap();
            socket.set_linger(Some(Duration::ZERO)).unwrap();
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into()).unwrap();
            socket.connect(&service(0, 1 + port % 1000).into()).unwrap();
        }
        String::new()
    });
}

/// How many of the connections that wait at `listeners` are found.
fn accept_all(listeners: &[TcpListener], original_dsts: &weir::intercept::OriginalDsts) -> usize {
    let mut found = 0;
    for listener in listeners {
        listener.set_nonblocking(true).unwrap();
        while let Ok((stream, client)) = listener.accept() {
            found += usize::from(original_dsts.take(&stream, client, stream.local_addr().unwrap()).is_ok());
        }
    }
    found
}

#[test]
fn a_leftover_is_forgotten_when_it_is_too_old_and_a_connection_that_waits_keeps_its_entry() {
    on_a_node(|world| {
        let (interception, listeners) = intercept(&options(world));
        come_and_go(world, 5_000..5_000 + MANY);
        assert_eq!(waiting(&interception), usize::from(MANY));
        assert_eq!(interception.original_dsts().found().expired.value(), 0);
        assert_eq!(sweep(&interception, Duration::ZERO), 0);
        assert_eq!(interception.original_dsts().found().expired.value(), u64::from(MANY));
        assert_eq!(accept_all(&listeners, &interception.original_dsts()), 0);
        // From ports that had an entry, and from others; of all of them the age is below the bound.
        come_and_go(world, 5_000 + MANY / 2..5_000 + MANY + MANY / 2);
        assert_eq!(sweep(&interception, Duration::from_secs(100)), usize::from(MANY));
        assert_eq!(accept_all(&listeners, &interception.original_dsts()), usize::from(MANY));
        assert_eq!(waiting(&interception), 0);
        assert_eq!(interception.counters().get(Count::Filed), 2 * u64::from(MANY));
    });
}

#[test]
fn how_many_there_are_is_told_without_a_walk() {
    on_a_node(|world| {
        let (interception, _listeners) = intercept(&options(world));
        come_and_go(world, 5_000..5_100);
        // As of the last sweep, of which there was none yet.
        assert_eq!(interception.status().waiting, 0);
        assert_eq!(waiting(&interception), 100);
        assert_eq!(interception.status().waiting, 100);
    });
}
