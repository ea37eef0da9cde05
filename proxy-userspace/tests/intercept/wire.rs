//! What the kernel does with connections that are told by their source port: the facts on which the wire between weirs is
//! designed (docs/identity.md). The program here is no part of weir. The node is the source, its pod the destination.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use aya_obj::generated::{bpf_attach_type, bpf_cmd, bpf_map_type, bpf_prog_type};
use socket2::{Domain, SockRef, Socket, Type};

use crate::bpf::{attributes, bpf, descriptor, instruction, load_as};
use crate::weir::{eventually, ip};
use crate::world::{NODE, POD, World, on_a_node};

/// The first source port of the wire; the last is 65535.
const FIRST: u16 = 61000;

/// Steers what has such a source port to one listener.
struct Steering {
    map: OwnedFd,
    _link: OwnedFd,
}

impl Steering {
    fn new(world: &World) -> Self {
        let mut attribute = attributes();
        attribute.__bindgen_anon_1.map_type = bpf_map_type::BPF_MAP_TYPE_SOCKMAP as u32;
        attribute.__bindgen_anon_1.key_size = 4;
        attribute.__bindgen_anon_1.value_size = 8;
        attribute.__bindgen_anon_1.max_entries = 1;
        let map = descriptor(bpf(bpf_cmd::BPF_MAP_CREATE, &mut attribute));
        let hook = bpf_attach_type::BPF_SK_LOOKUP as u32;
        let program = load_as(bpf_prog_type::BPF_PROG_TYPE_SK_LOOKUP, hook, &steer(&map));
        let mut attribute = attributes();
        attribute.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd().cast_unsigned();
        attribute.link_create.__bindgen_anon_2.target_fd = world.pod_netns().as_raw_fd().cast_unsigned();
        attribute.link_create.attach_type = hook;
        let link = descriptor(bpf(bpf_cmd::BPF_LINK_CREATE, &mut attribute));
        Self { map, _link: link }
    }

    fn to(&self, listener: &TcpListener) {
        let (key, value) = (0_u32, u64::from(listener.as_raw_fd().cast_unsigned()));
        let mut attribute = attributes();
        attribute.__bindgen_anon_2.map_fd = self.map.as_raw_fd().cast_unsigned();
        attribute.__bindgen_anon_2.key = &raw const key as u64;
        attribute.__bindgen_anon_2.__bindgen_anon_1.value = &raw const value as u64;
        bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attribute);
    }
}

/// The program, instruction by instruction: `struct bpf_sk_lookup` comes in r1, with the remote port (network order) at 36.
fn steer(map: &OwnedFd) -> [u64; 20] {
    let call = |function| instruction(0x85, 0, 0, 0, function);
    let copy = |to, from| instruction(0xbf, to, from, 0, 0);
    [
        copy(6, 1),
        instruction(0x69, 2, 6, 36, 0),
        instruction(0xdc, 2, 0, 0, 16),
        // if the port is below the range, go to the end
        instruction(0xa5, 2, 0, 14, FIRST.into()),
        // r0 = the map's socket 0; if there is none, go to the end
        instruction(0x62, 10, 0, -4, 0),
        instruction(0x18, 1, 1, 0, map.as_raw_fd().cast_unsigned()),
        0,
        copy(2, 10),
        instruction(0x07, 2, 0, 0, (-4_i32).cast_unsigned()),
        call(1),
        instruction(0x15, 0, 0, 7, 0),
        // bpf_sk_assign and bpf_sk_release
        copy(7, 0),
        copy(1, 6),
        copy(2, 7),
        instruction(0xb7, 3, 0, 0, 0),
        call(124),
        copy(1, 7),
        call(86),
        // return SK_PASS
        instruction(0xb7, 0, 0, 0, 1),
        instruction(0x95, 0, 0, 0, 0),
    ]
}

/// Accepts in the pod, says who it is and at which address it was reached, and closes when told to.
struct Says {
    listener: TcpListener,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Says {
    fn new(word: &'static str, listener: TcpListener) -> Self {
        let (accepting, stop) = (listener.try_clone().unwrap(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = accepting.accept() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let line = format!("{word} at {}", plain(stream.local_addr().unwrap()));
                let _ = stream.write_all(line.as_bytes());
                held.push(stream);
            }
            // As a server that is told that its peer is gone: nothing of the connection stays.
            held.iter().for_each(|it| SockRef::from(it).set_linger(Some(Duration::ZERO)).unwrap());
        });
        Self { listener, stop, thread: Some(thread) }
    }
}

impl Drop for Says {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // SAFETY: an open socket. It ends the accept.
        unsafe { libc::shutdown(self.listener.as_raw_fd(), libc::SHUT_RDWR) };
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// How an application takes its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Plainly,
    ReuseAddr,
}

fn listen(world: &World, at: SocketAddr, takes: Takes) -> std::io::Result<TcpListener> {
    world.in_pod(|| {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
        socket.set_reuse_address(takes == Takes::ReuseAddr)?;
        socket.bind(&at.into())?;
        socket.listen(64)?;
        Ok(socket.into())
    })
}

/// weir's listener: one address of its own, for both families.
fn weir(world: &World) -> Says {
    let at: SocketAddr = "[::ffff:127.127.255.254]:4136".parse().unwrap();
    let listener = world.in_pod(|| {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        socket.set_only_v6(false).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&at.into()).unwrap();
        socket.listen(4096).unwrap();
        socket.into()
    });
    Says::new("weir", listener)
}

/// A connection from this port of the node's, 0 for any.
fn dial(to: SocketAddr, port: u16) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.set_reuse_address(port != 0)?;
    let own = NODE.map(ip)[usize::from(to.is_ipv6())];
    socket.bind(&SocketAddr::new(own, port).into())?;
    socket.connect_timeout(&to.into(), Duration::from_secs(20))?;
    Ok(socket.into())
}

/// Who answers a connection from this port.
fn who(to: SocketAddr, port: u16) -> String {
    let answered = dial(to, port).and_then(|mut stream| {
        let mut line = [0; 64];
        let length = stream.read(&mut line)?;
        // Nothing stays that would be in the way of the next one.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        Ok(String::from_utf8_lossy(&line[..length]).into_owned())
    });
    answered.unwrap_or_else(|error| error.kind().to_string())
}

fn pod(family: usize, port: u16) -> SocketAddr {
    SocketAddr::new(ip(POD[family]), port)
}

#[test]
fn a_source_port_steers_to_weir_whatever_the_application_listens_on() {
    on_a_node(|world| {
        let (steering, weir) = (Steering::new(world), weir(world));
        steering.to(&weir.listener);
        for (family, own) in POD.map(ip).into_iter().enumerate() {
            let any: IpAddr = ["0.0.0.0", "::"].map(ip)[family];
            for (port, at) in [(80, Some(own)), (81, Some(any)), (82, None)] {
                let to = pod(family, port);
                let listener =
                    at.map(|at| listen(world, SocketAddr::new(at, port), Takes::ReuseAddr).unwrap());
                let _application = listener.map(|it| Says::new("application", it));
                let plain = match at {
                    Some(_) => format!("application at {to}"),
                    None => "connection refused".to_owned(),
                };
                let steered = format!("weir at {to}");
                for (source, expected) in
                    [(0, &plain), (FIRST - 1, &plain), (FIRST, &steered), (65535, &steered)]
                {
                    assert_eq!(&who(to, source), expected, "{to} from {source}");
                }
            }
        }
        // A listener that is gone takes nothing.
        let _application = Says::new("application", listen(world, pod(0, 83), Takes::ReuseAddr).unwrap());
        assert_eq!(who(pod(0, 83), FIRST), format!("weir at {}", pod(0, 83)));
        drop(weir);
        eventually(&format!("application at {}", pod(0, 83)), || who(pod(0, 83), FIRST + 1));
    });
}

#[test]
fn while_weir_has_a_steered_connection_an_application_needs_so_reuseaddr_for_its_port() {
    on_a_node(|world| {
        let (steering, weir) = (Steering::new(world), weir(world));
        steering.to(&weir.listener);
        let at = SocketAddr::new(ip("0.0.0.0"), 80);
        let taken =
            |takes| listen(world, at, takes).map_or_else(|it| it.kind().to_string(), |_| "ok".to_owned());
        assert_eq!(taken(Takes::Plainly), "ok");
        let mut open = dial(pod(0, 80), FIRST).unwrap();
        assert!(open.read(&mut [0; 64]).unwrap() > 0);
        assert_eq!(taken(Takes::ReuseAddr), "ok");
        assert_eq!(taken(Takes::Plainly), "address in use");
        // weir resets what it has: the port is free at once.
        drop(weir);
        eventually("ok", || taken(Takes::Plainly));
    });
}

#[test]
fn a_port_beyond_the_namespaces_range_has_to_be_bound() {
    on_a_node(|world| {
        let _application = Says::new("application", listen(world, pod(0, 80), Takes::ReuseAddr).unwrap());
        let range = u32::from(u16::MAX) << 16 | u32::from(FIRST);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        const IP_LOCAL_PORT_RANGE: libc::c_int = 51;
        // SAFETY: a live number of the size given.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IP,
                IP_LOCAL_PORT_RANGE,
                (&raw const range).cast(),
                size_of::<u32>() as libc::socklen_t,
            )
        };
        socket.connect(&pod(0, 80).into()).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        assert!(port < FIRST, "{port}; the option is {}", if set == 0 { "set" } else { "not known" });
        assert_eq!(dial(pod(0, 80), FIRST).unwrap().local_addr().unwrap().port(), FIRST);
    });
}
