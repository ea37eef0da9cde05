//! Many connections with random dialled addresses: none wrong, none missing.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Stage;
use e2e::net::place::Place;
use e2e::raw::TcpServer;
use e2e::{Client, Pod, Weir, eventually, folder};

const CONNECTS: usize = 20_000;
const PORTS: std::ops::Range<u16> = 7000..7016;

#[test]
fn twenty_thousand_connects_reach_exactly_the_address_they_dialled() {
    let everything = |b: e2e::weir::builder::Builder| b.set_in("transparent", "divert", "[10.96.0.0/16]");
    let Some(mut stage) = Stage::running_with(everything) else { return };
    // Beyond the node every address of the range is local, and says which one was reached.
    stage.beyond.ip("route add local 10.96.0.0/16 dev lo\n");
    let says_its_address = |port| {
        TcpServer::on(
            stage.beyond.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).unwrap(),
            |mut stream| {
                if stream.read(&mut [0]).is_ok_and(|n| n == 1) {
                    let _ = write!(stream, "{}", stream.local_addr().unwrap());
                }
            },
        )
    };
    let servers: Vec<_> = PORTS.map(says_its_address).collect();
    let before = stage.diverted();
    let next = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (next, pod) = (next.clone(), stage.client.clone());
            std::thread::spawn(move || {
                let mut wrong = Vec::new();
                while let number @ 0..CONNECTS = next.fetch_add(1, Ordering::SeqCst) {
                    let to = dialled(number);
                    let got = match pod.connect(to) {
                        // Not HTTP, so that nothing waits for more.
                        Ok(stream) => {
                            String::from_utf8_lossy(&Client::over(stream).send([0]).rest().0).into_owned()
                        }
                        Err(e) => e.to_string(),
                    };
                    if got != to.to_string() {
                        wrong.push(format!("{to} reached {got:?}"));
                    }
                }
                wrong
            })
        })
        .collect();
    let wrong: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    assert!(wrong.is_empty(), "{} wrong: {:?}", wrong.len(), &wrong[..wrong.len().min(10)]);
    assert_eq!(servers.iter().map(TcpServer::accepted).sum::<usize>(), CONNECTS);
    let diverted = stage.diverted() - before;
    assert_eq!(diverted, CONNECTS as f64, "{:#}", stage.weir().state()["interception"]);
    assert_eq!(stage.weir().turned_away("transparent", "no_original"), 0.0);
}

/// A scattered address of 10.96.0.0/16 and a port, different for each number (a bijection of 16 bits).
fn dialled(number: usize) -> SocketAddr {
    let mixed = u16::try_from(number).unwrap().wrapping_mul(40_503).to_be_bytes();
    let port = PORTS.start + u16::try_from(number % PORTS.len()).unwrap();
    (Ipv4Addr::new(10, 96, mixed[0], mixed[1]), port).into()
}

/// How many Services there are, and how many connections of each other pod stay open.
const SERVICES: u16 = 40;

/// Dials 120,000 destinations and waits for none; one in twenty is a Service, and of all others there is none.
const DIALS: &str = r#"
import socket
for number in range(120000):
    service = 1 + number // 20 % 40
    to = ("10.96.7.%d" % service, 1000 + service)
    if number % 20:
        to = ("10.%d.%d.%d" % (97 + number // 65536, number // 256 % 256, number % 256), 1000 + number % 9000)
    dialling = socket.socket()
    dialling.setblocking(False)
    try:
        dialling.connect(to)
    except OSError:
        pass
    dialling.close()
"#;

/// The address and port of the Service of this number.
fn service(number: u16) -> SocketAddr {
    SocketAddr::new(format!("10.96.7.{number}").parse().unwrap(), 1000 + number)
}

/// What is not right of an open connection of `pod` to that Service: its peer's address, and which endpoint answers.
fn mistake(stream: &mut TcpStream, number: u16) -> Option<String> {
    let (to, mut told) = (service(number), [0; 2]);
    let answered = stream.write_all(&[0]).and_then(|()| stream.read_exact(&mut told));
    let peer = stream.peer_addr();
    let is_right =
        answered.is_ok() && u16::from_be_bytes(told) == 7000 + number && peer.as_ref().ok() == Some(&to);
    (!is_right).then(|| format!("{to}: {answered:?} of {}, as {peer:?}", u16::from_be_bytes(told)))
}

#[test]
fn a_pod_that_dials_120_000_destinations_changes_nothing_for_its_neighbours() {
    let Some(mut stage) = Stage::set() else { return };
    let other = stage.net.pod("other");
    let mut builder = Weir::new().in_pods(&stage.net);
    for number in 1..=SERVICES {
        let of = folder::service(&format!("s{number}"), &[&service(number).ip().to_string()]);
        let of = of.port("x", service(number).port(), 7000 + number).endpoints(&[stage.a.v4()]);
        builder = builder.kubernetes(&of);
    }
    stage.start(builder);
    stage.until_listening(5);
    let says_its_port = |number: u16| {
        let own = 7000 + number;
        TcpServer::on(stage.a.listen(stage.a.at(own)).unwrap(), move |mut stream| {
            while stream.read_exact(&mut [0]).is_ok() && stream.write_all(&own.to_be_bytes()).is_ok() {}
        })
    };
    let _servers: Vec<_> = (1..=SERVICES).map(says_its_port).collect();
    let pods = [stage.client.clone(), other];
    let open = |pod: &Pod, number| pod.connect(service(number)).unwrap();
    let numbers = || pods.iter().flat_map(|pod| (1..=SERVICES).map(move |number| (pod, number)));
    let mut all: Vec<_> = numbers().map(|(pod, number)| (open(pod, number), number)).collect();
    let before = stage.diverted();
    let mut dials = Place::from(&stage.b).command("python3").args(["-c", DIALS]).spawn().unwrap();
    let (mut rounds, mut is_over) = (0, false);
    while !is_over {
        // Once more after its end.
        is_over = dials.try_wait().unwrap().is_some();
        for (stream, number) in &mut all {
            assert_eq!(mistake(stream, *number), None, "round {rounds}");
        }
        // And one is opened anew.
        let (pod, number) = (&pods[rounds % 2], 1 + u16::try_from(rounds).unwrap() % SERVICES);
        assert_eq!(mistake(&mut open(pod, number), number), None, "round {rounds}");
        rounds += 1;
    }
    assert!(dials.wait().unwrap().success() && rounds > 2, "{rounds} rounds");
    let diverted = stage.diverted() - before;
    assert!(diverted >= 6_000.0, "the pod dialled {diverted} connections to Services");
    drop(all);
    eventually("weir's connections to end", || {
        stage.weir().metric("weir_listener_open_connections", &[("listener", "transparent")]) == 0.0
    });
}
