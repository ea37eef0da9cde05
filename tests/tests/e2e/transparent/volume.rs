//! Many connections with random dialled addresses: none wrong, none missing.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Stage;
use e2e::Client;
use e2e::raw::TcpServer;

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
                use std::io::{Read, Write};
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
    assert_eq!(stage.diverted() - before, CONNECTS as f64);
    assert_eq!(stage.weir().turned_away("transparent", "no_original"), 0.0);
}

/// A scattered address of 10.96.0.0/16 and a port, different for each number (a bijection of 16 bits).
fn dialled(number: usize) -> SocketAddr {
    let mixed = u16::try_from(number).unwrap().wrapping_mul(40_503).to_be_bytes();
    let port = PORTS.start + u16::try_from(number % PORTS.len()).unwrap();
    (Ipv4Addr::new(10, 96, mixed[0], mixed[1]), port).into()
}
