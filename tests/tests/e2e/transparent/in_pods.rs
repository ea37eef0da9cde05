//! weir's sockets in the pods' own network namespaces: endpoints see the pod.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{MAPPED, Stage, TARGET, V4, V6, address, answered};
use e2e::raw::TcpServer;
use e2e::{Backend, Client, Pod, Weir, folder};

/// A server at `at` in `pod` that says, after one byte, who connected and where to.
pub(super) fn says_who(pod: &Pod, at: SocketAddr) -> TcpServer {
    TcpServer::on(pod.listen(at).unwrap(), |mut stream| {
        if stream.read(&mut [0]).is_ok_and(|n| n == 1) {
            let (peer, own) = (stream.peer_addr().unwrap().ip(), stream.local_addr().unwrap());
            let _ = write!(stream, "{} at {own}", peer.to_canonical());
        }
    })
}

/// What [`says_who`] says to this pod; empty if the connection ends without a word.
pub(super) fn who(pod: &Pod, to: &str) -> String {
    let stream = pod.connect(address(to)).unwrap_or_else(|e| panic!("no connection to {to}: {e}"));
    let mut client = Client::over(stream);
    String::from_utf8_lossy(&client.send([0]).rest().0).into_owned()
}

#[test]
fn in_pods_a_get_is_answered_by_an_endpoint_whatever_the_family() {
    let Some(mut stage) = Stage::in_pods() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    for to in [V4, V6, MAPPED] {
        for _ in 0..5 {
            let mut client = stage.dial(to);
            let body = client.get("/").text();
            assert!(body == "a" || body == "b", "{to} was answered by {body:?}");
            assert_eq!(client.stream().peer_addr().unwrap(), address(to));
            let own = client.stream().local_addr().unwrap().ip().to_canonical();
            assert_eq!(own, if to == V6 { stage.client.v6() } else { stage.client.v4() });
        }
    }
    assert_eq!(stage.diverted(), 15.0);
    assert_eq!(stage.weir().accepted("transparent"), 15.0);
}

#[test]
fn an_endpoint_sees_the_pod_and_not_the_node() {
    let Some(stage) = Stage::in_pods() else { return };
    let _servers = [&stage.a, &stage.b]
        .map(|pod| [pod.v4(), pod.v6()].map(|ip| says_who(pod, SocketAddr::new(ip, TARGET))));
    for _ in 0..6 {
        let said = who(&stage.client, V4);
        let from = said.split(' ').next().unwrap().parse::<IpAddr>().unwrap();
        assert!(from == stage.client.v4() || from == stage.client.v6(), "{said}");
    }
}

#[test]
fn two_pods_share_no_connection_to_an_endpoint() {
    let Some(mut stage) = Stage::set() else { return };
    let hello = folder::service("hello", &["10.96.0.10"]).port("http", 80, TARGET).endpoints(&[stage.a.v4()]);
    // A worker uses only its own connections.
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&hello).set("workers", "1");
    stage.start(builder);
    stage.until_listening(4);
    let backend = Backend::http().answers("a").inside(&stage.a).on(stage.a.at(TARGET)).start();
    for (pod, connections) in [(&stage.client, 1), (&stage.b, 2), (&stage.client, 2), (&stage.b, 2)] {
        for _ in 0..3 {
            assert_eq!(answered(pod), "a");
        }
        assert_eq!(backend.connections(), connections, "after {}", pod.name());
    }
}

#[test]
fn a_pods_idle_connections_take_no_place_of_another_pods() {
    let Some(mut stage) = Stage::set() else { return };
    let hello = folder::service("hello", &["10.96.0.10"]).port("http", 80, TARGET).endpoints(&[stage.a.v4()]);
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&hello).set("workers", "1");
    stage.start(builder.set("limits", "{ poolConnections: 1 }"));
    stage.until_listening(4);
    let backend = Backend::http().answers("a").inside(&stage.a).on(stage.a.at(TARGET)).start();
    // The first one has the only place; the other gets it, and uses its connection again.
    for (pod, connections) in [(&stage.client, 1), (&stage.b, 2)] {
        for _ in 0..4 {
            assert_eq!(answered(pod), "a");
        }
        assert_eq!(backend.connections(), connections, "after {}", pod.name());
    }
}

#[test]
fn a_pod_that_adds_its_neighbours_address_is_still_itself() {
    let Some(mut stage) = Stage::in_pods() else { return };
    let thief = stage.net.pod("thief");
    stage.until_listening(5);
    thief.ip(&format!("addr add {}/32 dev lo\n", stage.client.v4()));
    let _servers = [&stage.a, &stage.b].map(|pod| says_who(pod, pod.at(TARGET)));
    let _servers6 = [&stage.a, &stage.b].map(|pod| says_who(pod, SocketAddr::new(pod.v6(), TARGET)));
    for (pod, other) in [(&thief, &stage.client), (&stage.client, &thief)] {
        for _ in 0..5 {
            let said = who(pod, V4);
            assert!(!said.starts_with(&format!("{} ", other.v4())), "{said}");
            assert!(!said.is_empty());
        }
    }
}

#[test]
fn a_pod_calls_a_service_of_which_it_is_an_endpoint() {
    let Some(mut stage) = Stage::set() else { return };
    let hello =
        folder::service("hello", &["10.96.0.10"]).port("http", 80, TARGET).endpoints(&[stage.client.v4()]);
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&hello);
    stage.start(builder);
    stage.until_listening(4);
    let _server = says_who(&stage.client, stage.client.at(TARGET));
    let own = stage.client.v4();
    assert_eq!(who(&stage.client, V4), format!("{own} at {own}:{TARGET}"));
}

#[test]
fn random_destinations_in_pods_reach_exactly_what_was_dialled() {
    const SERVICES: u16 = 40;
    const CONNECTS: usize = 2_000;
    let Some(mut stage) = Stage::set() else { return };
    let mut builder = Weir::new().in_pods(&stage.net);
    let at = |number: u16| SocketAddr::new(format!("10.96.7.{number}").parse().unwrap(), 1000 + number);
    for number in 1..=SERVICES {
        let to = at(number);
        let service = folder::service(&format!("s{number}"), &[&to.ip().to_string()]);
        builder = builder.kubernetes(&service.port("x", to.port(), 7000 + number).endpoints(&[stage.a.v4()]));
    }
    stage.start(builder);
    stage.until_listening(4);
    let _servers: Vec<_> = (1..=SERVICES).map(|it| says_who(&stage.a, stage.a.at(7000 + it))).collect();
    let next = Arc::new(AtomicUsize::new(0));
    let pods = [stage.client.clone(), stage.b.clone()];
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let (next, pod, endpoint) = (next.clone(), pods[thread % 2].clone(), stage.a.v4());
            std::thread::spawn(move || {
                let mut wrong = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= CONNECTS {
                        return wrong;
                    }
                    let service = u16::try_from(number * 7919 % usize::from(SERVICES)).unwrap() + 1;
                    let mut client = Client::over(pod.connect(at(service)).unwrap());
                    let peer = client.stream().peer_addr().unwrap();
                    let said = String::from_utf8_lossy(&client.send([0]).rest().0).into_owned();
                    let expected = format!("{} at {endpoint}:{}", pod.v4(), 7000 + service);
                    if said != expected || peer != at(service) {
                        wrong.push(format!("{} as {peer}: {said}", at(service)));
                    }
                }
            })
        })
        .collect();
    let wrong: Vec<_> = threads.into_iter().flat_map(|it| it.join().unwrap()).collect();
    assert!(wrong.is_empty(), "{} wrong: {:?}", wrong.len(), &wrong[..wrong.len().min(10)]);
    assert_eq!(stage.diverted(), CONNECTS as f64);
}
