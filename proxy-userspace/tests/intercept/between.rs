//! Connections of other weirs, by the programs as they are: which are steered to weir, and whom the pod's program sees behind
//! those that weir makes. The node is the other weir.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};
use weir::intercept::{Callers, WIRE_PORTS, listen_on_wire};

use crate::in_pods::{Joined, PORT, in_pods};
use crate::weir::{eventually, ip, read};
use crate::world::{NODE, POD, STEP, World, on_a_node};

/// weir's listener, which takes connections of other weirs.
struct Taking {
    joined: Joined,
    listener: TcpListener,
}

impl Taking {
    fn new(world: &World) -> Self {
        let mut joined = Joined::new(world, &in_pods(world));
        let listener = world.in_pod(|| listen_on_wire(PORT).expect("listen"));
        listener.set_nonblocking(false).unwrap();
        let sources = NODE.map(|it| ip(it).into());
        joined.interception.wire_sources(&sources).expect("sources");
        joined.interception.take_wire(joined.cookie, Some(listener.as_fd())).expect("take");
        Self { joined, listener }
    }

    /// Has weir answer one connection with the address at which it was reached.
    fn answer(&self) {
        let (mut stream, _) = self.listener.accept().unwrap();
        let at = stream.local_addr().unwrap();
        let at = SocketAddr::new(at.ip().to_canonical(), at.port());
        write!(stream, "weir at {at}").unwrap();
        SockRef::from(&stream).shutdown(std::net::Shutdown::Write).unwrap();
    }
}

/// A connection from this port of this machine's own address, 0 for any.
fn dial(own: IpAddr, port: u16, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::new(own, port).into())?;
    socket.connect_timeout(&to.into(), Duration::from_secs(20))?;
    // It leaves nothing behind that is in the way of the next one.
    socket.set_linger(Some(Duration::ZERO))?;
    Ok(socket.into())
}

/// The same, as soon as somebody listens there.
fn dial_in_time(own: IpAddr, port: u16, to: SocketAddr) -> TcpStream {
    let end = Instant::now() + STEP;
    loop {
        match dial(own, port, to) {
            Ok(stream) => return stream,
            Err(cause) => assert!(Instant::now() < end, "{to}: {cause}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Which of the two listeners a connection from the port reaches: that of the pod's program, or weir's.
fn reaches(program: &TcpListener, weir: &TcpListener, from: (usize, u16), to: SocketAddr) -> &'static str {
    let (family, port) = from;
    [program, weir].iter().for_each(|it| it.set_nonblocking(true).unwrap());
    let connected = dial(ip(NODE[family]), port, to);
    // What connects is in the queue by then.
    let [program, weir] = [program, weir].map(|it| it.accept().is_ok());
    match (connected.is_ok(), program, weir) {
        (true, true, false) => "program",
        (true, false, true) => "weir",
        (true, ..) => "both or none",
        (false, ..) => "nobody",
    }
}

#[test]
fn the_programs_steer_ports_of_other_weirs_from_the_meshs_addresses_alone() {
    on_a_node(|world| {
        let mut taking = Taking::new(world);
        for (family, own) in POD.map(ip).into_iter().enumerate() {
            let to = SocketAddr::new(own, 80);
            let program = world.in_pod(|| TcpListener::bind(to).unwrap());
            let weir = taking.listener.try_clone().unwrap();
            let who = |port| reaches(&program, &weir, (family, port), to);
            for (port, expected) in
                [(0, "program"), (WIRE_PORTS - 1, "program"), (WIRE_PORTS, "weir"), (65535, "weir")]
            {
                assert_eq!(who(port), expected, "{to} from {port}");
            }
            // From elsewhere, whatever the port is; and nothing at all without a listener of weir's.
            taking.joined.interception.wire_sources(&["192.0.2.0/24".parse().unwrap()]).unwrap();
            assert_eq!(who(WIRE_PORTS), "program", "{to}");
            let all = ["0.0.0.0/0", "::/0"].map(|it| it.parse().unwrap());
            taking.joined.interception.wire_sources(&all).unwrap();
            assert_eq!(who(WIRE_PORTS), "weir", "{to}");
            taking.joined.interception.take_wire(taking.joined.cookie, None).unwrap();
            assert_eq!(who(WIRE_PORTS), "program", "{to}");
            let listener = taking.listener.as_fd();
            taking.joined.interception.take_wire(taking.joined.cookie, Some(listener)).unwrap();
            // While weir stops; and a pod's connections to itself are its own.
            taking.joined.interception.disarm();
            assert_eq!(who(WIRE_PORTS), "program", "{to}");
            taking.joined.interception.arm().unwrap();
            assert_eq!(who(WIRE_PORTS), "weir", "{to}");
            program.set_nonblocking(false).unwrap();
            let own = world.in_pod(|| dial(to.ip(), WIRE_PORTS, to));
            assert!(own.is_ok() && program.accept().is_ok(), "{to}");
        }
    });
}

#[test]
fn weir_is_reached_at_the_endpoints_own_address_and_a_dead_one_takes_nothing() {
    on_a_node(|world| {
        let taking = Taking::new(world);
        let to = SocketAddr::new(ip(POD[0]), 80);
        taking.listener.set_nonblocking(false).unwrap();
        let stream = dial(ip(NODE[0]), WIRE_PORTS, to).unwrap();
        taking.answer();
        assert!(read(stream).starts_with(&format!("weir at {to}")));
        let program = world.in_pod(|| TcpListener::bind(to).unwrap());
        program.set_nonblocking(true).unwrap();
        let Taking { mut joined, listener } = taking;
        joined.interception.take_wire(joined.cookie, None).unwrap();
        drop(listener);
        eventually("program", || {
            let _stream = dial(ip(NODE[0]), WIRE_PORTS + 1, to);
            if program.accept().is_ok() { "program".to_owned() } else { String::new() }
        });
    });
}

/// What a program of the pod sees of one connection to `at`: of accept(), and then of getpeername().
fn seen_at(at: SocketAddr) -> String {
    let listener = TcpListener::bind(at).unwrap();
    let (stream, accepted) = listener.accept().unwrap();
    format!("{accepted} {}", stream.peer_addr().unwrap())
}

#[test]
fn behind_weirs_connection_the_pods_program_sees_the_caller_and_behind_its_own_itself() {
    on_a_node(|world| {
        let joined = Joined::new(world, &in_pods(world));
        let callers: Callers = joined.interception.callers().unwrap();
        let any = "::".parse().unwrap();
        for (family, who) in ["198.51.100.7:5555", "[2001:db8::7]:5555"].into_iter().enumerate() {
            let own = ip(POD[family]);
            let mapped = |text: &str| {
                if family == 0 {
                    text.replace("198", "[::ffff:198").replace(":5555", "]:5555")
                } else {
                    text.to_owned()
                }
            };
            for (at, seen) in [(own, who.to_owned()), (any, mapped(who))] {
                let at = SocketAddr::new(at, 80);
                let to = SocketAddr::new(own, 80);
                let port = WIRE_PORTS + 7;
                for told in [true, false] {
                    let program = world.start(move || seen_at(at));
                    let caller = told.then(|| {
                        callers.tell(joined.cookie, port, family == 0, who.parse().unwrap()).unwrap()
                    });
                    let again = callers.tell(joined.cookie, port, family == 0, who.parse().unwrap());
                    assert_eq!(again.is_err(), told, "one entry for one connection");
                    drop(again);
                    let _stream = world.in_pod(|| dial_in_time(own, port, to));
                    let said = program.result();
                    match told {
                        true => assert_eq!(said, format!("{seen} {seen}"), "{at}"),
                        false => assert!(
                            said.contains(&format!("{own}")) && said.contains(&port.to_string()),
                            "{said}"
                        ),
                    }
                    drop(caller);
                }
            }
        }
    });
}
