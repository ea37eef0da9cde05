//! weir's sockets in the pod's own network namespace.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use proxy_ebpf::Count;
use weir::intercept::{
    Destination, Fail, InterceptOptions, Interception, Numbers, PodOf, PodSockets, add_route, listen_in_pod,
    netns_of, own_addresses, remove_route, usual_number,
};

use crate::weir::{Beating, Direct, dial, eventually, ip, options, read, read_multipath, service};
use crate::world::{POD, SERVICE, World, configure, on_a_node};

pub const PORT: u16 = 4136;
const PREFIX: Ipv6Addr = Ipv6Addr::new(0xfd6a, 0x9c1e, 0x57b4, 0x4136, 0, 0, 0, 0);

pub fn in_pods(world: &World) -> InterceptOptions {
    let pods = Some(PodSockets { port: PORT, prefix6: PREFIX });
    InterceptOptions { addresses: Vec::new(), pods, ..options(world) }
}

/// The services' addresses at these ports.
pub fn at(ports: &[u16]) -> BTreeSet<Destination> {
    let of = |port: u16| SERVICE.map(|address| Destination { net: ip(address).into(), ports: port..=port });
    ports.iter().flat_map(|port| of(*port)).collect()
}

/// What stands for the destination, with IPv4.
pub fn shown4(destination: SocketAddr) -> SocketAddr {
    let address = std::net::Ipv4Addr::from_bits(0x7f40_0000 | usual_number(destination));
    SocketAddr::from((address, PORT))
}

/// What stands for the destination, with IPv6.
pub fn shown6(destination: SocketAddr) -> SocketAddr {
    let address = Ipv6Addr::from_bits(PREFIX.to_bits() | u128::from(usual_number(destination)));
    SocketAddr::from((address, PORT))
}

/// The destinations that [`Joined`] diverts at first.
pub fn diverted() -> Vec<SocketAddr> {
    [80, 81, 82, 443].into_iter().flat_map(|port| [service(0, port), service(1, port)]).collect()
}

/// An interception that diverts the services in the pod, and weir there.
pub struct Joined {
    pub interception: Beating,
    pub cookie: u64,
    weir: Option<Answering>,
}

impl Joined {
    pub fn new(world: &World, options: &InterceptOptions) -> Self {
        let mut interception = Beating::of(Interception::attach_in_pods(options).expect("attach"));
        interception.divert(&at(&[80, 81, 82, 443])).expect("divert");
        let (listener, own) = world.in_pod(|| {
            let listener = listen_in_pod(PORT).expect("listen");
            add_route(PREFIX).expect("the route");
            (listener, own_addresses().expect("addresses"))
        });
        let weir = Answering::start(&listener, interception.numbers().expect("numbers"));
        let cookie = interception.join(world.pod_netns().as_fd(), listener.as_fd()).expect("join");
        interception.tell_pod(cookie, own, [true; 2]).expect("tell");
        Self { interception, cookie, weir: Some(weir) }
    }

    pub fn count(&self, what: Count) -> u64 {
        self.interception.counters().get(what)
    }
}

/// Accepts in the pod, and answers with what was dialled.
struct Answering {
    listener: TcpListener,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    fn start(listener: &TcpListener, numbers: Numbers) -> Self {
        listener.set_nonblocking(false).expect("blocking");
        let (listener, stop) = (listener.try_clone().expect("dup"), Arc::new(AtomicBool::new(false)));
        let (accepting, stopped) = (listener.try_clone().expect("dup"), stop.clone());
        let thread = std::thread::spawn(move || {
            while let Ok((mut stream, _)) = accepting.accept() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let dialled = numbers.dialled(stream.local_addr().expect("getsockname"));
                let line = match dialled {
                    Some((dialled, true)) => format!("weir opaque {dialled}"),
                    Some((dialled, false)) => format!("weir {dialled}"),
                    None => "unknown".to_owned(),
                };
                let _ = stream.write_all(line.as_bytes());
                // What came with the SYN: a close with unread bytes is a reset.
                let _ = stream.set_nonblocking(true).and_then(|()| stream.read(&mut [0; 64]));
            }
        });
        Self { listener, stop, thread: Some(thread) }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // SAFETY: an open socket. It ends the accept.
        unsafe { libc::shutdown(self.listener.as_raw_fd(), libc::SHUT_RDWR) };
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The address that the application is told as its own.
fn own(to: SocketAddr) -> String {
    let stream = TcpStream::connect(to).expect("connect");
    stream.local_addr().expect("getsockname").ip().to_string()
}

#[test]
fn in_the_pod_weir_and_the_application_see_what_was_dialled_and_the_pods_own_address() {
    on_a_node(|world| {
        let joined = Joined::new(world, &in_pods(world));
        assert_eq!(world.run(|| dial(service(0, 80))), "weir 10.96.0.10:80, peer 10.96.0.10:80");
        assert_eq!(world.run(|| dial(service(1, 443))), "weir [fd96::10]:443, peer [fd96::10]:443");
        let mapped: SocketAddr = "[::ffff:10.96.0.10]:81".parse().unwrap();
        assert_eq!(world.run(move || dial(mapped)), "weir 10.96.0.10:81, peer [::ffff:10.96.0.10]:81");
        assert_eq!(world.run(|| own(service(0, 80))), POD[0]);
        assert_eq!(world.run(|| own(service(1, 80))), POD[1]);
        assert_eq!(world.run(move || own(mapped)), format!("::ffff:{}", POD[0]));
        assert_eq!(
            [Count::Diverted, Count::PeerNamed, Count::SocketNamed].map(|it| joined.count(it)),
            [6, 3, 3]
        );
        assert!(joined.interception.status().is_armed());
        let own = world.pods.id();
        assert_eq!(joined.interception.pod_of(joined.cookie), PodOf::One(own), "all below are one here");
    });
}

#[test]
fn a_port_without_a_number_and_a_pod_without_a_listener_go_direct() {
    on_a_node(|world| {
        let mut joined = Joined::new(world, &in_pods(world));
        let _direct = Direct::start(world);
        assert_eq!(world.run(|| dial(service(0, 80))), "weir 10.96.0.10:80, peer 10.96.0.10:80");
        joined.interception.disarm();
        assert_eq!(world.run(|| dial(service(0, 80))), "direct, peer 10.96.0.10:80");
        joined.interception.arm().unwrap();
        assert_eq!(world.run(|| dial(service(1, 80))), "weir [fd96::10]:80, peer [fd96::10]:80");
        joined.interception.leave(joined.cookie);
        assert_eq!(world.run(|| dial(service(0, 80))), "direct, peer 10.96.0.10:80");
        assert_eq!(world.run(|| dial(service(1, 80))), "direct, peer [fd96::10]:80");
        assert_eq!(joined.count(Count::NoListener), 3);
    });
}

#[test]
fn a_listener_that_is_closed_or_shut_down_diverts_nobody() {
    on_a_node(|world| {
        let mut joined = Joined::new(world, &in_pods(world));
        let _direct = Direct::start(world);
        // Shut down, and still open.
        joined.weir.take();
        assert_eq!(world.run(|| dial(service(0, 80))), "direct, peer 10.96.0.10:80");
    });
}

#[test]
fn what_was_diverted_before_weir_stops_diverting_still_arrives() {
    on_a_node(|world| {
        let mut joined = Joined::new(world, &in_pods(world));
        // As a connect() whose program has run and whose SYN has not arrived: at the address of the number itself.
        let shown = world.run(|| {
            let stream = TcpStream::connect(service(0, 80)).unwrap();
            let raw = socket2::SockRef::from(&stream).peer_addr().unwrap().as_socket().unwrap();
            raw.to_string()
        });
        assert_eq!(shown, "10.96.0.10:80");
        joined.interception.disarm();
        let said = world.run(move || diverted().into_iter().map(|it| dial(shown4(it)) + "; ").collect());
        assert_eq!(said.matches("weir ").count(), 8, "{said}");
    });
}

#[test]
fn in_pods_fail_closed_refuses_what_weir_cannot_take() {
    on_a_node(|world| {
        let options = InterceptOptions { fail: Fail::Closed, ..in_pods(world) };
        let mut joined = Joined::new(world, &options);
        let _direct = Direct::start(world);
        assert_eq!(world.run(|| dial(service(0, 80))), "weir 10.96.0.10:80, peer 10.96.0.10:80");
        joined.interception.disarm();
        for family in 0..2 {
            assert_eq!(world.run(move || dial(service(family, 80))), "ConnectionRefused");
        }
        assert_eq!(joined.count(Count::RefusedNoListener), 2);
        joined.interception.arm().unwrap();
        joined.interception.stop_heart();
        eventually("ConnectionRefused", || world.run(|| dial(service(1, 80))));
        assert!(joined.count(Count::RefusedStaleHeart) > 0);
    });
}

#[test]
fn a_bound_socket_is_diverted_from_the_pods_own_address_only() {
    on_a_node(|world| {
        let joined = Joined::new(world, &in_pods(world));
        let _direct = Direct::start(world);
        let from = |source: &'static str, family: usize| {
            world.run(move || {
                let to = service(family, 80);
                let socket =
                    socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)
                        .unwrap();
                socket.bind(&SocketAddr::new(ip(source), 0).into()).unwrap();
                socket.connect(&to.into()).map_or_else(
                    |e| e.to_string(),
                    |()| {
                        let own = socket.local_addr().unwrap().as_socket().unwrap().ip();
                        format!("{} as {own}", read(socket.into()))
                    },
                )
            })
        };
        assert_eq!(from(POD[0], 0), "weir 10.96.0.10:80, peer 10.96.0.10:80 as 10.77.0.2");
        assert_eq!(from(POD[1], 1), "weir [fd96::10]:80, peer [fd96::10]:80 as fd77::2");
        assert_eq!(from("0.0.0.0", 0), "weir 10.96.0.10:80, peer 10.96.0.10:80 as 10.77.0.2");
        // Another address of the namespace is not known as the pod's.
        world.in_pod(|| configure("address add 10.77.0.99/32 dev lo"));
        assert_eq!(from("10.77.0.99", 0), "direct, peer 10.96.0.10:80 as 10.77.0.99");
        assert_eq!(joined.count(Count::BoundSource), 1);
        let bound = world.run(|| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.bind_device(Some(b"eth0")).unwrap();
            socket.connect_timeout(&service(0, 80).into(), Duration::from_millis(1)).is_ok().to_string()
        });
        assert_eq!((bound.as_str(), joined.count(Count::BoundDevice)), ("false", 1));
    });
}

#[test]
fn nobody_reaches_a_pods_listener_from_outside() {
    on_a_node(|world| {
        let joined = Joined::new(world, &in_pods(world));
        let shown = shown6(service(1, 80));
        assert!(world.run(move || dial(shown)).starts_with("weir "), "from inside it leads to weir");
        // The node routes the prefix to the pod: the packets arrive, and weir does not answer.
        configure(&format!("route add {PREFIX}/64 via {}", POD[1]));
        assert_eq!(dial(shown), "ConnectionRefused");
        configure(&format!("route add 127.64.0.0/10 via {}", POD[0]));
        // Such packets are no connection's: the kernel drops them, or answers that nobody listens.
        let shown = shown4(service(1, 80));
        let refused = TcpStream::connect_timeout(&shown, Duration::from_millis(300));
        assert!(refused.is_err() && joined.weir.is_some());
    });
}

#[test]
fn a_socket_used_again_and_a_multipath_one_tell_of_their_last_connection() {
    on_a_node(|world| {
        let _joined = Joined::new(world, &in_pods(world));
        let said = world.run(|| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.connect(&service(0, 81).into()).unwrap();
            crate::basics::dissolve(&socket);
            socket.connect(&service(0, 82).into()).unwrap();
            read(socket.into())
        });
        assert_eq!(said, "weir 10.96.0.10:82, peer 10.96.0.10:82");
        let multipath = world.run(|| {
            let protocol = socket2::Protocol::from(262); // IPPROTO_MPTCP
            match socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, Some(protocol)) {
                Err(error) => format!("none: {error}"),
                Ok(socket) => {
                    socket.connect(&service(0, 80).into()).unwrap();
                    read_multipath(socket.into())
                }
            }
        });
        let expected = "weir 10.96.0.10:80, peer 10.96.0.10:80";
        assert!(multipath.starts_with("none") || multipath == expected, "{multipath}");
    });
}

#[test]
fn a_pod_with_more_addresses_than_weir_reads_keeps_them_for_itself() {
    on_a_node(|world| {
        let [own, with_many] = world.in_pod(|| {
            let own = own_addresses().unwrap();
            let many: String = (0..16_384)
                .map(|n| format!("address add 10.{}.{}.1/32 dev lo\n", 128 + n / 256, n % 256))
                .collect();
            let batch = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(batch.path(), many).unwrap();
            configure(&format!("-batch {}", batch.path().display()));
            [own, own_addresses().unwrap()]
        });
        assert_eq!(own, POD.map(|it| Some(ip(it))));
        assert_eq!(with_many, [None, Some(ip(POD[1]))], "the list was read to its end");
    });
}

#[test]
fn a_listener_leads_to_its_network_namespace_and_the_route_can_be_taken_back() {
    on_a_node(|world| {
        let same = world.in_pod(|| {
            let listener = listen_in_pod(PORT).unwrap();
            assert_eq!(listen_in_pod(PORT).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
            add_route(PREFIX).unwrap();
            add_route(PREFIX).expect("twice is no error");
            let ours = TcpListener::bind((Ipv6Addr::from_bits(PREFIX.to_bits() | 5), 0));
            remove_route(PREFIX).unwrap();
            assert!(remove_route(PREFIX).is_err());
            drop(ours);
            netns_of(listener.as_fd()).unwrap()
        });
        let inode = |fd: &std::os::fd::OwnedFd| nix::sys::stat::fstat(fd).unwrap().st_ino;
        assert_eq!(inode(&same), inode(world.pod_netns()));
    });
}
