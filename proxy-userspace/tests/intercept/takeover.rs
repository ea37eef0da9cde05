//! A pod that pretends to have its neighbour's address files entries about the neighbour's connections. None is believed.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::unistd::gettid;
use proxy_ebpf::{Count, Pod, Policy};
use socket2::{Domain, Socket, Type};
use weir::intercept::{Enrol, InterceptOptions, Pods, Unknown};

use crate::sockets::{sysctl, tcp_ext};
use crate::weir::{Answering, Beating, FIRST, intercept_to, ip, listen, options, read, service};
use crate::world::{self, Cgroup, NODE, POD, Process, STEP, World, keep_only, on_a_node};

/// The neighbour's own addresses, in networks of their own.
const OWN: [&str; 2] = ["10.78.0.2", "fd78::2"];
/// `CAP_NET_RAW` of capabilities(7), which containers have by default.
const NET_RAW: u32 = 13;
/// `CAP_NET_ADMIN`, which whoever may make a user namespace has in it.
const NET_ADMIN: u32 = 12;

/// `CAP_BPF`, without which older kernels let nobody look into a map.
const BPF: u32 = 39;

/// Another pod of the node.
struct Neighbour {
    netns: OwnedFd,
    // Dropped in this order.
    container: Cgroup,
    pod: Cgroup,
}

impl Neighbour {
    fn of(world: &World) -> Self {
        let node_thread = gettid();
        let netns = std::thread::spawn(move || {
            let netns = world::new_namespace();
            world::configure(&format!("link add eth0 type veth peer name pod1 netns {node_thread}"));
            world::configure("link set eth0 up");
            world::addresses("eth0", &[(OWN[0], 24), (OWN[1], 64)]);
            netns
        });
        let netns = netns.join().expect("the neighbour's namespace");
        world::configure("link set pod1 up");
        world::addresses("pod1", &[("10.78.0.1", 24), ("fd78::1", 64)]);
        // Packets with a false source come in: this node does not filter them.
        for interface in ["all", "pod1"] {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter"), "0").unwrap();
        }
        let pod = Cgroup::new(&world.pods.path);
        let this = Self { netns, container: Cgroup::new(&pod.path), pod };
        world.run_at(&this.netns, &this.container, || {
            world::configure("route add default via 10.78.0.1");
            world::configure("-6 route add default via fd78::1");
            String::new()
        });
        this
    }

    /// Runs what a process of the neighbour does with these capabilities.
    fn does(&self, world: &World, capabilities: &[u32], what: impl FnOnce()) {
        world.run_at(&self.netns, &self.container, || {
            keep_only(capabilities);
            what();
            String::new()
        });
    }
}

/// A socket bound to an address that its namespace may not have.
fn pretending(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    if address.is_ipv4() {
        socket.set_ip_transparent_v4(true).expect("IP_TRANSPARENT");
    } else {
        socket.set_freebind_v6(true).expect("IPV6_FREEBIND");
    }
    socket.bind(&address.into()).expect("bind");
    socket
}

/// Begins to connect from a socket; where that is bound to somebody else's address, the answers go there.
fn begin(socket: Socket, to: SocketAddr) -> Socket {
    socket.set_nonblocking(true).unwrap();
    let begun = socket.connect(&to.into()).unwrap_err();
    assert_eq!(begun.raw_os_error(), Some(libc::EINPROGRESS), "{begun}");
    socket
}

/// Sets the sequence number that a socket's SYN will have, which takes `CAP_NET_ADMIN` (`TCP_REPAIR`).
fn choose_number(socket: &Socket, number: u32) {
    // TCP_REPAIR; TCP_REPAIR_QUEUE, that of what is sent; TCP_QUEUE_SEQ; and off again.
    for (option, value) in [(19, 1), (20, 2), (21, number.cast_signed()), (19, -1)] {
        let (level, size) = (libc::IPPROTO_TCP, size_of_val(&value) as u32);
        // SAFETY: an open socket, and a live variable with its length.
        let answer =
            unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size) };
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    }
    socket.set_reuse_address(true).unwrap();
}

/// The victim: connects from this port to a service, and says what it heard and from whom.
fn victim(world: &World, family: usize, port: u16, number: Option<u32>) -> Process {
    world.start(move || {
        let from = SocketAddr::new(ip(POD[family]), port);
        let socket = Socket::new(Domain::for_address(from), Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        if let Some(number) = number {
            choose_number(&socket, number);
        }
        socket.bind(&from.into()).unwrap();
        socket.connect(&service(family, 81).into()).unwrap();
        read(socket.into())
    })
}

/// Waits for something that the kernel or another process does.
#[track_caller]
fn until(what: &str, happened: impl Fn() -> bool) {
    let end = Instant::now() + STEP;
    while !happened() {
        assert!(Instant::now() < end, "{what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// A weir with one transparent port and a short queue, which has not begun to accept, and both pods enrolled.
fn waiting_weir(world: &World, neighbour: &Neighbour) -> (Beating, [TcpListener; 1]) {
    let options = InterceptOptions { ports: 1, enrol: Enrol::Pods, ..options(world) };
    let listeners = [listen(FIRST, 8)];
    let mut interception = intercept_to(&options, &listeners);
    let pods = [&world.pod_cgroup, &neighbour.pod].map(|it| (it.id(), Pod::all(Policy::Divert)));
    interception.enrol_pods(&BTreeMap::from(pods)).unwrap();
    (interception, listeners)
}

#[test]
fn a_neighbour_that_floods_and_files_under_a_pods_address_gets_none_of_its_requests() {
    on_a_node(|world| {
        let neighbour = Neighbour::of(world);
        for (family, capabilities) in [(0, &[NET_RAW][..]), (1, &[])] {
            let (interception, listeners) = waiting_weir(world, &neighbour);
            let node = SocketAddr::new(ip(NODE[family]), FIRST);
            // Half-open connections from addresses that nobody has, more than the queue has room for: from now on the
            // kernel answers with SYN cookies, and keeps no SYN.
            let sent = tcp_ext("SyncookiesSent");
            let flooding = world.start_at(&neighbour.netns, &neighbour.container, || {
                keep_only(capabilities);
                let nobody = |host: u8| match family {
                    0 => IpAddr::from([10, 78, 0, 100 + host]),
                    _ => IpAddr::from([0xfd78, 0, 0, 0, 0, 0, 1, u16::from(host)]),
                };
                let from = |host| SocketAddr::new(nobody(host), 5000);
                let _begun: Vec<Socket> = (0..32).map(|host| begin(pretending(from(host)), node)).collect();
                loop {
                    std::thread::park();
                }
            });
            until("no SYN cookie was sent", || tcp_ext("SyncookiesSent") > sent);
            let cookies = tcp_ext("SyncookiesRecv");
            let ports = 6000..6005_u16;
            let victims: Vec<Process> = ports.clone().map(|port| victim(world, family, port, None)).collect();
            // Now they wait in the accept queue.
            until("not all of them brought cookies", || tcp_ext("SyncookiesRecv") >= cookies + 5);
            let before = interception.counters();
            neighbour.does(world, capabilities, || {
                for port in ports {
                    let from = SocketAddr::new(ip(POD[family]), port);
                    drop(begin(pretending(from), service(family, 82)));
                }
            });
            let counters = interception.counters();
            let done = [Count::Diverted, Count::Filed].map(|what| counters.get(what) - before.get(what));
            assert_eq!(done, [5, 5], "the attack itself");
            let _weir = Answering::start(&listeners, &interception.original_dsts());
            for victim in victims {
                assert_eq!(victim.result(), format!("weir {0}, peer {0}", service(family, 81)));
            }
            flooding.kill();
        }
    });
}

/// With the number of the victim's SYN, too, which takes luck: it counts time, four billion in 275 s.
#[test]
fn a_neighbour_that_guesses_a_syns_number_gets_no_request_either_told_or_not_whose_the_address_is() {
    on_a_node(|world| {
        let neighbour = Neighbour::of(world);
        let whose: HashMap<IpAddr, Pods> =
            POD.map(|address| (ip(address), Pods::from_elem(world.pod_cgroup.id(), 1))).into();
        for (family, told) in [(0, true), (0, false), (1, true), (1, false)] {
            let (interception, listeners) = waiting_weir(world, &neighbour);
            if told {
                interception.original_dsts().owners().tell(whose.clone());
            }
            let file = |port: u16| {
                neighbour.does(world, &[NET_ADMIN], || {
                    let socket = pretending(SocketAddr::new(ip(POD[family]), port));
                    choose_number(&socket, u32::from(port));
                    drop(begin(socket, service(family, 82)));
                });
            };
            let counted = |what| interception.counters().get(what);
            let right = format!("weir {0}, peer {0}", service(family, 81));
            // After the victim: what is filed stays.
            let first = victim(world, family, 6000, Some(6000));
            until("the victim did not dial", || counted(Count::Filed) == 1);
            file(6000);
            assert_eq!(counted(Count::NotFiled), 1);
            let _weir = Answering::start(&listeners, &interception.original_dsts());
            assert_eq!(first.result(), right);
            // Before it: the victim's connection is closed.
            file(6001);
            assert_eq!(counted(Count::Filed), 2);
            let second = victim(world, family, 6001, Some(6001)).result();
            assert!(second.starts_with("foreign"), "{told}: {second}");
            assert_eq!(counted(Count::NotFiled), 2);
            // And nothing but that one is.
            assert_eq!(victim(world, family, 6002, None).result(), right);
            let own = world
                .run_at(&neighbour.netns, &neighbour.container, || crate::weir::dial(service(family, 82)));
            assert_eq!(own, format!("weir {0}, peer {0}", service(family, 82)));
        }
    });
}

#[test]
fn a_connection_whose_number_cannot_be_told_is_closed() {
    on_a_node(|world| {
        // No SYN is kept.
        sysctl("tcp_syncookies", "2");
        let neighbour = Neighbour::of(world);
        let (interception, [listener]) = waiting_weir(world, &neighbour);
        for (capabilities, expected) in [(&[BPF][..], Err(Unknown::NoNumber)), (&[BPF, NET_ADMIN], Ok(()))] {
            let client = victim(world, 0, 6000, None);
            let known = std::thread::scope(|scope| {
                let accepting = scope.spawn(|| {
                    keep_only(capabilities);
                    let (stream, client) = listener.accept().unwrap();
                    let local = stream.local_addr().unwrap();
                    interception.original_dsts().take(&stream, client, local).map(drop)
                });
                accepting.join().unwrap()
            });
            assert_eq!(known, expected);
            client.result();
        }
    });
}
