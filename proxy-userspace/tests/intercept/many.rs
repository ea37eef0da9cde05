//! Many connections at once: none wrong, none missing.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proxy_ebpf::Count;
use weir::intercept::{Destination, OriginalDsts};

use crate::weir::{Beating, FIRST, PORTS, listeners, options, waiting};
use crate::world::{NODE, STEP, on_a_node};

const THREADS: usize = 4;
const EACH: usize = 5_000;

/// What weir made of the connections.
#[derive(Debug, Default)]
struct Tally {
    right: AtomicUsize,
    wrong: AtomicUsize,
    missing: AtomicUsize,
}

/// Accepts, and compares the filed address with the one the client sends.
fn compare(listener: &TcpListener, original_dsts: &OriginalDsts, stop: &AtomicBool, tally: &Tally) {
    while let Ok((mut stream, client)) = listener.accept() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let original = original_dsts.take(&stream, client, stream.local_addr().unwrap());
        let mut sent = String::new();
        stream.read_to_string(&mut sent).unwrap();
        let counter = match original {
            Err(_) => &tally.missing,
            Ok(original) if original.dialled.to_string() == sent => &tally.right,
            Ok(_) => &tally.wrong,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A random address of 10.96.0.0/12, its mapped form, or one of fd96::/16, and a random port.
fn random(rng: &mut fastrand::Rng) -> SocketAddr {
    let v4 = Ipv4Addr::from(0x0a60_0000 | rng.u32(..1 << 20));
    let address = match rng.u8(..3) {
        0 => IpAddr::V4(v4),
        1 => IpAddr::V6(v4.to_ipv6_mapped()),
        _ => IpAddr::V6(Ipv6Addr::from((0xfd96_u128 << 112) | (rng.u128(..) >> 16))),
    };
    SocketAddr::new(address, rng.u16(1..))
}

/// Dials, sends the dialled address in its canonical form and waits for weir to close.
fn application(seed: u64) -> usize {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut done = 0;
    for _ in 0..EACH {
        let to = random(&mut rng);
        let mut stream = TcpStream::connect_timeout(&to, STEP).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), to);
        stream.write_all(SocketAddr::new(to.ip().to_canonical(), to.port()).to_string().as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        done += 1;
    }
    done
}

#[test]
fn of_20_000_connections_to_random_addresses_none_is_wrong_and_none_missing() {
    on_a_node(|world| {
        let listeners = listeners();
        let mut interception = Beating::attach(&options(world), &listeners[0]);
        let wanted: BTreeSet<_> = ["10.96.0.0/12", "fd96::/16"]
            .map(|net| Destination { net: net.parse().unwrap(), ports: 1..=65535 })
            .into();
        interception.divert(&wanted).unwrap();
        let (original_dsts, tally, stop) =
            (interception.original_dsts(), Tally::default(), AtomicBool::new(false));
        let done = std::thread::scope(|scope| {
            for listener in &listeners {
                scope.spawn(|| compare(listener, &original_dsts, &stop, &tally));
            }
            let done = world.run(|| {
                let threads = (0..THREADS as u64).map(|seed| std::thread::spawn(move || application(seed)));
                let threads: Vec<_> = threads.collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>().to_string()
            });
            stop.store(true, Ordering::Relaxed);
            for port in FIRST..FIRST + PORTS {
                let _ = TcpStream::connect((NODE[0], port));
            }
            done
        });
        let total = THREADS * EACH;
        assert_eq!(done, total.to_string());
        let tally = [&tally.right, &tally.wrong, &tally.missing].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(tally, [total, 0, 0], "right, wrong, missing");
        assert_eq!(waiting(&interception), 0);
        let counters = interception.counters();
        assert_eq!(counters.get(Count::Diverted), total as u64);
        assert_eq!(counters.get(Count::Filed), total as u64);
    });
}

#[test]
fn when_the_table_of_connections_overflows_an_entry_is_lost_but_never_wrong() {
    on_a_node(|world| {
        let listeners = listeners();
        let mut small = options(world);
        small.tuples = 64;
        let mut interception = Beating::attach(&small, &listeners[0]);
        interception
            .divert(&[Destination { net: "10.96.0.0/12".parse().unwrap(), ports: 1..=65535 }].into())
            .unwrap();
        world.run(|| {
            for port in 1..=1000 {
                let mut stream = TcpStream::connect((Ipv4Addr::new(10, 96, 0, 1), port)).unwrap();
                stream.write_all(port.to_string().as_bytes()).unwrap();
            }
            String::new()
        });
        let (mut right, mut lost) = (0, 0);
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
            while let Ok((mut stream, client)) = listener.accept() {
                let original =
                    interception.original_dsts().take(&stream, client, stream.local_addr().unwrap());
                let mut sent = String::new();
                stream.set_nonblocking(false).unwrap();
                stream.read_to_string(&mut sent).unwrap();
                match original {
                    Err(_) => lost += 1,
                    Ok(original) => {
                        assert_eq!(original.dialled.port().to_string(), sent);
                        right += 1;
                    }
                }
            }
        }
        assert_eq!(right + lost, 1000);
        assert!(right > 0 && right <= 64, "{right} found");
    });
}
