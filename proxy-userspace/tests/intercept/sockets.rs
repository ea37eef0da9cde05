//! Every way to make a TCP connection: each is diverted, and weir learns what was dialled.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use proxy_ebpf::Count;
use socket2::{Domain, Protocol, Socket, Type};

use crate::in_pods::{Joined, in_pods};
use crate::uring;
use crate::weir::{
    Answering, Beating, intercept, intercept_to, ip, listen, options, read, read_multipath, service, waiting,
};
use crate::world::{NODE, POD, SERVICE, STEP, on_a_node};

/// What has been accepted: what each client dialled, as weir learns it, and what it sent.
fn accepted(listeners: &[TcpListener], interception: &Beating) -> Vec<(Option<SocketAddr>, String)> {
    let mut all = Vec::new();
    for listener in listeners {
        listener.set_nonblocking(true).unwrap();
        while let Ok((mut stream, client)) = listener.accept() {
            let original = interception.original_dsts().take(&stream, client, stream.local_addr().unwrap());
            let mut sent = String::new();
            stream.set_nonblocking(false).unwrap();
            stream.read_to_string(&mut sent).unwrap();
            all.push((original.ok().map(|it| it.dialled), sent));
        }
    }
    all
}

pub fn sysctl(name: &str, value: &str) {
    fs::write(format!("/proc/sys/net/ipv4/{name}"), value).unwrap_or_else(|error| panic!("{name}: {error}"));
}

fn stream(domain: Domain) -> Socket {
    Socket::new(domain, Type::STREAM, None).unwrap()
}

/// Whether data went out with the SYN and was taken (`TCPI_OPT_SYN_DATA`).
fn opened_fast(socket: &Socket) -> bool {
    let mut info = [0u8; 8];
    let mut length = size_of_val(&info) as u32;
    // SAFETY: an open socket, and a live buffer with its length; the kernel fills as much of tcp_info as fits.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    assert_eq!(answer, 0, "TCP_INFO");
    info[5] & 32 != 0
}

/// Dials with `sendto(MSG_FASTOPEN)`: there is no connect().
fn send_open(to: SocketAddr) -> String {
    let socket = stream(Domain::for_address(to));
    let sent = socket.send_to_with_flags(b"in the SYN", &to.into(), libc::MSG_FASTOPEN).unwrap();
    assert_eq!(sent, 10);
    told(&socket)
}

/// Dials with `TCP_FASTOPEN_CONNECT`: connect() returns at once, and the first write connects.
fn lazy_open(to: SocketAddr) -> String {
    const TCP_FASTOPEN_CONNECT: i32 = 30;
    let socket = stream(Domain::for_address(to));
    let on: libc::c_int = 1;
    // SAFETY: an open socket, and a live variable with its length.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_FASTOPEN_CONNECT,
            (&raw const on).cast(),
            size_of_val(&on) as u32,
        )
    };
    assert_eq!(answer, 0, "TCP_FASTOPEN_CONNECT");
    socket.connect(&to.into()).unwrap();
    (&socket).write_all(b"in the SYN").unwrap();
    told(&socket)
}

fn told(socket: &Socket) -> String {
    // The handshake must be over before the kernel says what became of the data.
    let end = Instant::now() + STEP;
    let mut peer = socket.peer_addr();
    while peer.is_err() && Instant::now() < end {
        std::thread::yield_now();
        peer = socket.peer_addr();
    }
    let fast = opened_fast(socket);
    format!("{}, fast: {fast}", peer.unwrap().as_socket().unwrap())
}

#[test]
fn both_forms_of_fast_open_are_diverted() {
    on_a_node(|world| {
        // Servers take data in a SYN on every listener, and nobody wants a cookie (tcp_fastopen, ip-sysctl).
        sysctl("tcp_fastopen", "1538");
        world.in_pod(|| sysctl("tcp_fastopen", "5"));
        let (interception, listeners) = intercept(&options(world));
        for family in [0, 1] {
            for open in [send_open, lazy_open] {
                let said = world.run(|| open(service(family, 80)));
                assert_eq!(said, format!("{}, fast: true", service(family, 80)));
                let accepted = accepted(&listeners, &interception);
                assert_eq!(accepted, [(Some(service(family, 80)), "in the SYN".to_owned())]);
            }
        }
        assert_eq!(waiting(&interception), 0);
    });
}

#[test]
fn fast_open_within_a_pod_is_diverted_and_shows_what_was_dialled() {
    on_a_node(|world| {
        // The listener is in the pod as well.
        world.in_pod(|| sysctl("tcp_fastopen", "1543"));
        let joined = Joined::new(world, &in_pods(world));
        for family in [0, 1] {
            for open in [send_open, lazy_open] {
                let said = world.run(move || open(service(family, 80)));
                assert_eq!(said, format!("{}, fast: true", service(family, 80)));
            }
        }
        assert_eq!(joined.interception.counters().get(Count::Diverted), 4);
    });
}

/// Dials a service of each family in the way `dial` does, and has `check` look at the family and at what it said.
fn in_each_family(dial: fn(SocketAddr) -> String, check: fn(usize, &str)) {
    on_a_node(move |world| {
        let (interception, listeners) = intercept(&options(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        for family in [0, 1] {
            check(family, &world.run(|| dial(service(family, 80))));
        }
    });
}

#[test]
fn multipath_tcp_is_diverted() {
    let dial = |to: SocketAddr| {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::MPTCP)).unwrap();
        socket.connect(&to.into()).unwrap();
        read_multipath(socket.into())
    };
    in_each_family(dial, |family, said| {
        // A known limit: the kernel asks no program about the peer of such a socket, so it shows where weir listens.
        let shown = SocketAddr::new(ip(NODE[family]), 0).to_string();
        let shown = shown.trim_end_matches('0');
        assert!(said.starts_with(&format!("weir {}, peer {shown}", service(family, 80))), "{said}");
    });
}

#[test]
fn a_connect_by_io_uring_is_diverted() {
    let dial = |to: SocketAddr| {
        let socket = stream(Domain::for_address(to));
        match uring::connect(socket.as_raw_fd(), &to.into()) {
            0 => read(socket.into()),
            error => format!("io_uring says {error}"),
        }
    };
    in_each_family(dial, |family, said| assert_eq!(said, format!("weir {0}, peer {0}", service(family, 80))));
}

#[test]
fn a_bound_source_stays_what_it_is() {
    on_a_node(|world| {
        let (interception, listeners) = intercept(&options(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        let said = world.run(|| {
            let socket = stream(Domain::IPV4);
            socket.bind(&SocketAddr::new(ip(POD[0]), 4321).into()).unwrap();
            socket.connect(&service(0, 80).into()).unwrap();
            let own = socket.local_addr().unwrap().as_socket().unwrap();
            format!("{own}: {}", read(socket.into()))
        });
        assert_eq!(said, format!("{}:4321: weir {1}, peer {1}", POD[0], service(0, 80)));
    });
}

/// A counter of the namespace the calling thread is in (`TcpExt` of /proc/net/netstat).
pub fn tcp_ext(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|it| it == name).unwrap_or_else(|| panic!("no counter {name}"));
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

/// Dials so many ports of a service at once; says how many heard that they dialled what they did, and how many heard
/// anything else. Who hears nothing is in neither.
fn crowd(size: u16) -> String {
    let dial = |port| {
        std::thread::spawn(move || {
            let mut stream = TcpStream::connect_timeout(&service(0, port), Duration::from_secs(10)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).ok()?;
            Some(said == format!("weir {}:{port}", SERVICE[0]))
        })
    };
    let threads: Vec<_> = (1..=size).map(dial).collect();
    let heard: Vec<bool> = threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect();
    let right = heard.iter().filter(|right| **right).count();
    format!("{right} right, {} wrong", heard.len() - right)
}

#[test]
fn clients_whose_syn_was_dropped_by_a_full_queue_are_known_when_they_come_again() {
    on_a_node(|world| {
        let mut short = options(world);
        short.ports = 1;
        let listeners = [listen(short.first_port, 2)];
        let interception = intercept_to(&short, &listeners);
        let original_dsts = interception.original_dsts();
        let said = std::thread::scope(|scope| {
            let answering = scope.spawn(|| {
                // Long enough for the queue to fill.
                let end = Instant::now() + Duration::from_secs(10);
                while tcp_ext("ListenOverflows") == 0 && Instant::now() < end {
                    std::thread::sleep(Duration::from_millis(10));
                }
                (Answering::start(&listeners, &original_dsts), tcp_ext("ListenOverflows"))
            });
            let said = world.run(|| crowd(24));
            let (_weir, overflows) = answering.join().unwrap();
            assert!(overflows > 0, "the queue was never full, so this shows nothing");
            said
        });
        // The kernel may give a handshake up that it had no room for; but nobody is taken for somebody else.
        let (right, wrong) = said.split_once(" right, ").unwrap();
        assert_eq!(wrong, "0 wrong");
        assert!(
            right.parse::<usize>().unwrap() > 3,
            "{said}: as many as the queue holds, so nobody came again"
        );
    });
}

#[test]
fn syn_cookies_change_nothing() {
    on_a_node(|world| {
        // Always, not only under attack.
        sysctl("tcp_syncookies", "2");
        let (interception, listeners) = intercept(&options(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        assert_eq!(world.run(|| crowd(50)), "50 right, 0 wrong");
        assert!(tcp_ext("SyncookiesRecv") >= 50, "{}", tcp_ext("SyncookiesRecv"));
        assert_eq!(interception.counters().get(Count::Diverted), 50);
    });
}

#[test]
fn other_protocols_than_tcp_are_left_alone() {
    on_a_node(|world| {
        let interception = intercept(&options(world)).0;
        let said = world.run(|| {
            let socket = std::net::UdpSocket::bind((POD[0], 0)).unwrap();
            socket.connect(service(0, 80)).unwrap();
            socket.peer_addr().unwrap().to_string()
        });
        assert_eq!(said, service(0, 80).to_string());
        assert_eq!(interception.counters().get(Count::Diverted), 0);
    });
}

#[test]
fn a_connection_that_was_open_before_interception_goes_on_as_it_was() {
    on_a_node(|world| {
        let _direct = crate::weir::Direct::start(world);
        let mut before = world.in_pod(|| TcpStream::connect(service(0, 80)).unwrap());
        let (interception, listeners) = intercept(&options(world));
        let _weir = Answering::start(&listeners, &interception.original_dsts());
        let mut said = String::new();
        before.read_to_string(&mut said).unwrap();
        assert_eq!((said.as_str(), before.peer_addr().unwrap()), ("direct", service(0, 80)));
    });
}
