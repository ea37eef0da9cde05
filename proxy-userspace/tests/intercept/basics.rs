//! What an application and weir see of a diverted connection.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

use proxy_ebpf::Count;
use weir::intercept::{Fail, InterceptOptions, Unknown};

use crate::weir::{Answering, Direct, dial, intercept, ip, options, read, service, waiting};
use crate::world::{NODE, SERVICE, on_a_node};

#[test]
fn weir_and_the_application_both_see_the_dialled_address_in_every_family() {
    on_a_node(|world| {
        let (interception, listeners) = intercept(&options(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        assert_eq!(world.run(|| dial(service(0, 80))), "weir 10.96.0.10:80, peer 10.96.0.10:80");
        assert_eq!(world.run(|| dial(service(1, 443))), "weir [fd96::10]:443, peer [fd96::10]:443");
        let mapped: SocketAddr = "[::ffff:10.96.0.10]:8080".parse().unwrap();
        assert_eq!(world.run(move || dial(mapped)), "weir 10.96.0.10:8080, peer [::ffff:10.96.0.10]:8080");
        let counters = interception.counters();
        let counted = [Count::Diverted, Count::Filed, Count::PeerNamed].map(|what| counters.get(what));
        assert_eq!(counted, [3, 3, 3], "{:?}", counters.iter().collect::<Vec<_>>());
        let status = interception.status();
        assert!(status.is_armed() && waiting(&interception) == 0, "{status:?}");
    });
}

#[test]
fn weir_learns_who_dialled() {
    on_a_node(|world| {
        let (interception, listeners) = intercept(&options(world));
        let container = world.container.id();
        world.run(|| {
            let port = listeners.len();
            TcpStream::connect(service(0, 80)).map_or_else(|e| e.to_string(), |_| port.to_string())
        });
        let found = listeners.iter().find_map(|listener| {
            listener.set_nonblocking(true).unwrap();
            let (stream, client) = listener.accept().ok()?;
            interception.original_dsts().take(&stream, client, stream.local_addr().unwrap()).ok()
        });
        let original = found.expect("the entry outlives the client");
        assert_eq!((original.dialled, original.cgroup), (service(0, 80), container));
        assert_ne!(original.netns_cookie, 0);
    });
}

#[test]
fn a_client_that_closes_before_accept_is_still_known() {
    on_a_node(|world| {
        let (interception, listeners) = intercept(&options(world));
        world.run(|| {
            for port in 1..=100 {
                let mut stream = TcpStream::connect(service(0, port)).unwrap();
                stream.write_all(b"and gone").unwrap();
            }
            String::new()
        });
        let mut ports: Vec<u16> = Vec::new();
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
            while let Ok((stream, client)) = listener.accept() {
                let original =
                    interception.original_dsts().take(&stream, client, stream.local_addr().unwrap());
                ports.push(original.expect("the dialled address").dialled.port());
            }
        }
        ports.sort_unstable();
        assert_eq!(ports, (1..=100).collect::<Vec<_>>());
        assert_eq!(waiting(&interception), 0);
    });
}

/// Reconnects a socket to nowhere (connect(2), AF_UNSPEC), so that it can be connected again.
pub fn dissolve(socket: &socket2::Socket) {
    let nowhere = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
    let length = size_of_val(&nowhere) as u32;
    // SAFETY: an open socket and a live variable with its length.
    let answer = unsafe { libc::connect(socket.as_raw_fd(), &raw const nowhere, length) };
    assert_eq!(answer, 0, "AF_UNSPEC");
}

#[test]
fn a_socket_used_again_tells_of_its_last_connection_only() {
    on_a_node(|world| {
        let (interception, listeners) = intercept(&options(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        let _direct = Direct::start(world);
        let said = world.run(|| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.connect(&service(0, 81).into()).unwrap();
            dissolve(&socket);
            socket.connect(&service(0, 82).into()).unwrap();
            let peer = socket.peer_addr().unwrap().as_socket().unwrap();
            dissolve(&socket);
            // Not a service: goes direct, and getpeername must not speak of port 82 any more.
            socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, 80)).into()).unwrap();
            format!("{peer}, then {}", read(socket.into()))
        });
        assert_eq!(said, "10.96.0.10:82, then direct, peer 127.0.0.1:80");
    });
}

#[test]
fn a_leftover_never_makes_a_plain_client_a_diverted_one() {
    on_a_node(|world| {
        let (interception, listeners) = intercept(&options(world));
        let from = |port: u16, to: SocketAddr| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_reuse_address(true).unwrap();
            socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into()).unwrap();
            socket.connect(&to.into()).unwrap();
        };
        // Resets before it is accepted; weir does not ask, so the entry stays.
        world.run(|| {
            from(5555, service(0, 80));
            String::new()
        });
        assert_eq!(waiting(&interception), 1);
        for listener in &listeners {
            let node = SocketAddr::new(ip(NODE[0]), listener.local_addr().unwrap().port());
            world.run(|| {
                from(5555, node);
                String::new()
            });
        }
        // One was diverted, and the entry that is left is its alone.
        let mut found = Vec::new();
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
            while let Ok((stream, client)) = listener.accept() {
                let original =
                    interception.original_dsts().take(&stream, client, stream.local_addr().unwrap());
                found.push(original.map(|it| it.dialled));
            }
        }
        found.sort_by_key(Result::is_ok);
        let (last, others) = found.split_last().unwrap();
        assert_eq!(*last, Ok(service(0, 80)));
        assert!(others.len() == 8 && others.iter().all(|it| *it == Err(Unknown::NotFiled)), "{others:?}");
    });
}

#[test]
fn a_mark_saves_nobody_from_being_diverted() {
    on_a_node(|world| {
        let (interception, listeners) = intercept(&options(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        let _direct = Direct::start(world);
        // 0x1000 is what weir itself used to set; 0x0fff and 0xffff_ffff are what others set.
        for mark in [0x1000, 0x0fff, u32::MAX, 1] {
            let said = world.run(move || {
                let socket =
                    socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
                socket.set_mark(mark).unwrap();
                socket.connect(&service(1, 80).into()).unwrap();
                read(socket.into())
            });
            assert_eq!(said, "weir [fd96::10]:80, peer [fd96::10]:80", "{mark:#x}");
        }
        assert_eq!(interception.counters().get(Count::Own), 0);
    });
}

#[test]
fn a_mark_does_not_get_past_a_weir_that_fails_closed() {
    on_a_node(|world| {
        let options = InterceptOptions { fail: Fail::Closed, ..options(world) };
        let (mut interception, _listeners) = intercept(&options);
        let _direct = Direct::start(world);
        interception.disarm();
        for mark in [0, 0x1000] {
            let said = world.run(move || {
                let socket =
                    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
                socket.set_mark(mark).unwrap();
                socket
                    .connect(&service(0, 80).into())
                    .map_or_else(|e| e.kind().to_string(), |()| "direct".into())
            });
            assert_ne!(said, "direct", "{mark:#x}");
        }
        assert_eq!(interception.counters().get(Count::RefusedNoListener), 2);
    });
}

#[test]
fn a_connection_that_does_not_block_is_diverted_too() {
    on_a_node(|world| {
        let (interception, listeners) = intercept(&options(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        let said = world.run(|| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let error = socket.connect(&service(0, 80).into()).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS));
            let end = std::time::Instant::now() + crate::world::STEP;
            crate::world::wait_readable(std::os::fd::AsFd::as_fd(&socket), end);
            socket.set_nonblocking(false).unwrap();
            read(socket.into())
        });
        assert_eq!(said, format!("weir {0}:80, peer {0}:80", SERVICE[0]));
    });
}
