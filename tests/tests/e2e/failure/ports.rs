//! A node that has no source port left for an endpoint: the answer names the cause.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use e2e::backend::Then;
use e2e::net::NODE_V4;
use e2e::raw::TcpServer;
use e2e::time::PATIENCE;
use e2e::{Answer, Backend, Client, Net, Pod, Request, Weir, eventually, folder};

use crate::transparent::{Stage, TARGET, V4, address};

#[test]
fn a_node_without_a_free_source_port_says_so() {
    if !e2e::net::is_root() {
        return;
    }
    let mut net = Net::new();
    let (client, a) = (net.pod("client"), net.pod("a"));
    let few = "echo 40000 40003 > /proc/sys/net/ipv4/ip_local_port_range";
    assert!(net.node().command("sh").args(["-c", few]).status().unwrap().success());
    let backend = Backend::http().answer(Answer::raw("").then(Then::Hang));
    let backend = backend.inside(&a).on(a.at(8080)).start();
    let weir = Weir::new().set("outgoing", "{ listen: \"[::]:4140\" }").service("hello", &[backend.addr()]);
    let weir = weir.beside(&net).start();
    let to = (net.node().v4(), 4140).into();
    let ask = || {
        let mut client = Client::over(client.connect(to).unwrap());
        client.start(&Request::get("http://hello/"));
        client
    };
    let mut held = Vec::new();
    let answer = loop {
        let mut client = ask();
        let before = held.len();
        eventually("the request at the endpoint, or an answer", || {
            backend.count() > before || !client.silent_for(Duration::from_millis(20))
        });
        if backend.count() <= before {
            break client.response();
        }
        held.push(client);
    };
    assert!(held.len() <= 4, "{} connections from four ports", held.len());
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.text().contains("every source port of this node is in use"), "{}", answer.text());
    // One connection: the node has few ports for these, too.
    let metrics = weir.metrics();
    let failures = metrics.iter().filter(|it| it.name == "weir_endpoint_failures_total");
    assert_eq!(failures.map(|it| it.value).sum::<f64>(), 0.0, "no fault of the endpoint");
}

/// A tunnel from `pod` to the endpoint of `hello`; `None`, with the answer checked, when no port is left.
fn tunnel(pod: &Pod, weir: SocketAddr) -> Option<Client> {
    let mut client = Client::over(pod.connect(weir).unwrap());
    client.send("CONNECT hello:80 HTTP/1.1\r\nHost: hello:80\r\n\r\n");
    let head = client.head();
    if head.status() == Some(200) {
        return Some(client);
    }
    assert_eq!(head.status(), Some(503), "{head:?}");
    None
}

/// Whether this kernel divides the ports of connections (IP_LOCAL_PORT_RANGE, Linux 6.3).
fn divides_ports() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|it| it.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(3))
}

#[test]
fn the_connections_that_one_client_has_closed_do_not_take_the_ports_of_another() {
    if !e2e::net::is_root() {
        return;
    }
    let mut net = Net::new();
    let (greedy, a, other) = (net.pod("greedy"), net.pod("a"), net.pod("other"));
    // 768 for all, and 16 shares of 16.
    net.node().sysctl("net/ipv4/ip_local_port_range", "40000 41023");
    let server =
        TcpServer::on(
            a.listen(a.at(8080)).unwrap(),
            |mut stream| {
                while let Ok(1..) = stream.read(&mut [0; 64]) {}
            },
        );
    let weir = Weir::new().set("outgoing", "{ listen: \"[::]:4140\" }").service("hello", &[server.addr()]);
    let weir = weir.beside(&net).start();
    let to = (net.node().v4(), 4140).into();
    // Each is closed by its client, so that its port is in TIME_WAIT for a minute.
    let made = (0..1_100).take_while(|_| tunnel(&greedy, to).is_some()).count();
    assert!(made < 1_100, "the ports were never used up");
    let served = (0..10).filter(|_| tunnel(&other, to).is_some()).count();
    eprintln!("{made} connections of one client, and then {served} of 10 of another");
    if divides_ports() {
        assert_eq!(served, 10);
    }
    let failed = weir.metrics().into_iter().find(|it| it.name == "weir_no_source_port_total").unwrap();
    assert!(failed.value >= 1.0);
}

/// Whether a connection to the service, and a greeting on it, comes about; its client closes it.
fn is_greeted(pod: &Pod) -> bool {
    let Ok(mut stream) = pod.connect(address(V4)) else { return false };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_exact(&mut [0; 3]).is_ok()
}

/// How many of `number` connections come about, of which one begins each `step`.
fn greeted(pod: &Pod, number: u32, step: Duration) -> u32 {
    let begun = Instant::now();
    let count = (0..number).filter(|at| {
        thread::sleep((step * *at).saturating_sub(begun.elapsed()));
        is_greeted(pod)
    });
    count.count() as u32
}

#[test]
fn one_pod_that_dials_550_times_a_second_takes_no_ports_of_another() {
    let Some(mut stage) = Stage::set() else { return };
    let service = folder::service("hello", &["10.96.0.10"]).port("tcp-any", 80, TARGET);
    let service = service.endpoints(&[stage.a.v4()]).app_protocol("tcp");
    let _server = TcpServer::greets(stage.a.listen(stage.a.at(TARGET)).unwrap(), "+OK");
    // Where a busy machine leaves weir without a turn, connections go direct.
    let _direct = stage.greets_beyond(V4, "+OK");
    // 768 for all, and 16 shares of 16: used up in less than two seconds.
    stage.net.node().sysctl("net/ipv4/ip_local_port_range", "40000 41023");
    stage.start(Weir::new().on_node(&stage.net).kubernetes(&service));
    let greedy: Vec<_> = (0..10)
        .map(|_| {
            let pod = stage.client.clone();
            thread::spawn(move || greeted(&pod, 220, Duration::from_secs(10) / 550))
        })
        .collect();
    let other = greeted(&stage.b, 12, Duration::from_millis(330));
    let made: u32 = greedy.into_iter().map(|it| it.join().unwrap()).sum();
    eprintln!("{made} of 2200 connections of one pod, and {other} of 12 of another");
    assert!(made < 2_200, "the ports were never used up");
    if divides_ports() {
        assert_eq!(other, 12);
    }
}

#[test]
fn each_source_address_has_ports_of_its_own_to_each_endpoint() {
    let Some(mut stage) = Stage::set() else { return };
    let node = stage.net.node();
    node.ip("addr add 10.1.0.2/24 dev br0\n");
    let seen = Arc::<Mutex<BTreeMap<(IpAddr, IpAddr), usize>>>::default();
    let _servers = [&stage.a, &stage.b].map(|pod| {
        let (seen, own) = (seen.clone(), pod.v4());
        TcpServer::on(pod.listen(pod.at(TARGET)).unwrap(), move |mut stream| {
            let from = stream.peer_addr().unwrap().ip().to_canonical();
            *seen.lock().unwrap().entry((own, from)).or_default() += 1;
            let _ = stream.write_all(b"+OK");
            while let Ok(1..) = stream.read(&mut [0; 64]) {}
        })
    });
    let service = |name: &str, address: &str, pod: &Pod| {
        let service = folder::service(name, &[address]).port("tcp-any", 80, TARGET);
        service.endpoints(&[pod.v4()]).app_protocol("tcp")
    };
    let weir = Weir::new().on_node(&stage.net).kubernetes(&service("hello", "10.96.0.10", &stage.a));
    let weir = weir.kubernetes(&service("other", "10.96.0.11", &stage.b));
    let both = format!("[{NODE_V4}, 10.1.0.2]");
    stage.start(weir.set_in("transparent", "sourceAddresses", &both));
    // weir's own listeners are to have none of these.
    node.sysctl("net/ipv4/ip_local_port_range", "30000 30003");
    let mut held = Vec::new();
    // Four ports, two addresses, two endpoints.
    for to in [V4, "10.96.0.11:80"] {
        for _ in 0..8 {
            let mut client = stage.dial(to);
            client.expect("+OK");
            held.push(client);
        }
        // Closed without a word, maybe before connect() returns.
        let one_more = stage.client.connect(address(to)).map(|it| Client::over(it).rest().0);
        assert!(one_more.unwrap_or_default().is_empty(), "a ninth connection from eight ports");
    }
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.into_values().collect::<Vec<_>>(), [4; 4]);
    drop(held);
}

#[test]
fn a_connection_that_weir_closes_first_frees_its_port_and_is_an_end_to_its_endpoint() {
    if !e2e::net::is_root() {
        return;
    }
    for (connection, idle) in [("keep-alive", "1s"), ("close", "1h")] {
        let mut net = Net::new();
        let (client, a) = (net.pod("client"), net.pod("a"));
        let ends = Arc::<Mutex<Vec<bool>>>::default();
        let (noted, answers) = (ends.clone(), Arc::new(AtomicBool::new(false)));
        let may_answer = answers.clone();
        let server = TcpServer::on(a.listen(a.at(8080)).unwrap(), move |mut stream| {
            let mut piece = [0; 4096];
            let ended = loop {
                match stream.read(&mut piece) {
                    Ok(0) => break true,
                    Err(_) => break false,
                    Ok(_) => {
                        eventually("the word to answer", || may_answer.load(Ordering::SeqCst));
                        let head = format!("Content-Length: 2\r\nConnection: {connection}");
                        let _ = write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n\r\nok");
                    }
                }
            };
            // As far away as another node: its own FIN must not be quicker than weir's reset.
            thread::sleep(Duration::from_millis(200));
            drop(stream);
            noted.lock().unwrap().push(ended);
        });
        let weir = Weir::new().set("outgoing", "{ listen: \"[::]:4140\" }");
        let weir = weir.set("limits", &format!("{{ poolIdle: {idle} }}"));
        let weir = weir.service("hello", &[server.addr()]).beside(&net).start();
        let to = (net.node().v4(), 4140).into();
        // All before the first is answered, so that each has a connection.
        let mut clients: Vec<_> = (0..20).map(|_| Client::over(client.connect(to).unwrap())).collect();
        for client in &mut clients {
            client.start(&Request::get("http://hello/"));
        }
        eventually("every connection", || server.accepted() == clients.len());
        answers.store(true, Ordering::SeqCst);
        for client in &mut clients {
            client.response().expect_body("ok");
        }
        eventually("every connection's end", || ends.lock().unwrap().len() == clients.len());
        assert!(ends.lock().unwrap().iter().all(|ended| *ended), "{connection}: a reset, not an end");
        let table = net.node().command("cat").arg("/proc/net/tcp").output().unwrap().stdout;
        let table = String::from_utf8(table).unwrap();
        // Port 8080 at the other end, in TIME_WAIT.
        let waiting = table.lines().filter(|line| line.contains(":1F90 06 ")).count();
        eprintln!("{connection}: {waiting} of {} in TIME_WAIT", clients.len());
        // On a busy machine the endpoint's own FIN may be quicker than the reset all the same.
        assert!(waiting * 2 <= clients.len(), "{connection}: {waiting}\n{table}");
        drop(weir);
    }
}
