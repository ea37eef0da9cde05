//! The connections of a listener: who has less than its share gets room at once, who has more gives way.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use e2e::raw::{self, TcpServer};
use e2e::{Answer, Backend, Client, Http2, Pod, Weir, eventually, folder};

use super::{client, connect, share, until_known, with_pods};
use crate::transparent::{Stage, TARGET, V4, address};

/// Idle connections of `pod`, more than there is room for: some may be turned away. They are silent, as what carries
/// bytes may be for an hour.
fn attack(pod: &Pod, count: usize) -> Vec<TcpStream> {
    (0..count).filter_map(|_| pod.connect(address(V4)).ok()).collect()
}

/// An answer to a GET from `pod`, on a connection that stays open.
#[track_caller]
fn answered(pod: &Pod) -> Client {
    let stream = pod.connect(address(V4)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut client = Client::over(stream);
    client.get("/").expect_body("a");
    client
}

/// A node whose listener has room for 40 connections, with weir's sockets on the node or in the pods.
fn stage(in_pods: bool) -> Option<Stage> {
    let mut stage = Stage::set()?;
    let hello = folder::service("hello", &["10.96.0.10"]).port("http", 80, TARGET).endpoints(&[stage.a.v4()]);
    let weir = Weir::new();
    let weir = if in_pods { weir.in_pods(&stage.net) } else { weir.on_node(&stage.net) };
    stage.start(weir.set("limits", "{ connections: 40 }").kubernetes(&hello));
    if in_pods {
        stage.until_listening(4);
    }
    Some(stage)
}

#[test]
fn idle_connections_of_one_pod_keep_no_other_pod_out() {
    for in_pods in [false, true] {
        let Some(mut stage) = stage(in_pods) else { return };
        let _server = Backend::http().answers("a").inside(&stage.a).on(stage.a.at(TARGET)).start();
        let _attack = attack(&stage.client, 60);
        let weir = stage.weir();
        eventually("a full listener", || {
            weir.metric("weir_listener_open_connections", &[("listener", "transparent")]) == 40.0
        });
        // As many as its share, at once, although nothing of the attacker's ends by itself.
        let mut kept: Vec<Client> = (0..20).map(|_| answered(&stage.b)).collect();
        for client in &mut kept {
            client.get("/").expect_body("a");
        }
        let weir = stage.weir();
        assert_eq!(weir.turned_away("transparent", "displaced"), 20.0, "in pods: {in_pods}");
        eventually("the ends of these", || {
            weir.metric("weir_listener_open_connections", &[("listener", "transparent")]) == 40.0
        });
    }
}

#[test]
fn tunnels_of_one_pod_give_way_by_a_reset_and_those_in_use_last() {
    let Some(mut stage) = stage(false) else { return };
    let echo = TcpServer::echo(stage.a.listen(stage.a.at(TARGET)).unwrap());
    let streams: Vec<TcpStream> = (0..40).map(|_| stage.client.connect(address(V4)).unwrap()).collect();
    let resets: Vec<TcpStream> = streams.iter().map(|it| it.try_clone().unwrap()).collect();
    let mut tunnels: Vec<Client> = streams.into_iter().map(Client::over).collect();
    for tunnel in &mut tunnels {
        tunnel.send("not HTTP\r\n").expect("not HTTP\r\n");
    }
    assert_eq!(echo.accepted(), 40);
    // The first ten are used again.
    for tunnel in &mut tunnels[..10] {
        tunnel.send("again\r\n").expect("again\r\n");
    }
    let mut others: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = Client::over(stage.b.connect(address(V4)).unwrap());
            client.send("another\r\n").expect("another\r\n");
            client
        })
        .collect();
    for tunnel in tunnels[..10].iter_mut().chain(&mut others) {
        tunnel.send("still\r\n").expect("still\r\n");
    }
    let mut reset = 0;
    eventually("20 resets", || {
        reset += resets[10..].iter().filter(|it| it.take_error().unwrap().is_some()).count();
        reset == 20
    });
    let weir = stage.weir();
    assert_eq!(weir.turned_away("transparent", "displaced"), 20.0);
    eventually("what is open, and what has ended", || {
        weir.metric("weir_tunnels_open", &[]) == 40.0
            && weir.metric("weir_tunnels_ended_total", &[("end", "aborted")]) == 20.0
    });
}

#[test]
fn who_has_its_share_waits_and_is_turned_away_in_the_end_while_others_are_served() {
    let backend = Backend::http().start();
    let limits = "{ connections: 8, waitForRoom: 300ms, headerRead: 1h }";
    let weir = Weir::new().set("limits", limits).service("hello", &[backend.addr()]).start();
    let attack: Vec<TcpStream> = (0..60).map(|_| connect(&weir, 1)).collect();
    eventually("those that wait too long, and those for which there is no room to wait", || {
        weir.turned_away("outgoing", "no_room") == 52.0
    });
    let waiting = || weir.metric("weir_listener_waiting_connections", &[("listener", "outgoing")]);
    assert_eq!(waiting(), 0.0);
    let mut others: Vec<Client> = (0..4).map(|_| client(&weir, 2)).collect();
    for other in &mut others {
        other.get("http://hello/").expect_body("ok");
    }
    assert_eq!(weir.turned_away("outgoing", "displaced"), 4.0);
    assert_eq!(share(&weir, "outgoing", "127.0.7.1"), Some((4, 0, 4)));
    assert_eq!(share(&weir, "outgoing", "127.0.7.2"), Some((4, 0, 4)));
    drop(attack);
}

#[test]
fn beside_fifty_small_attackers_a_large_pod_loses_nothing() {
    let backend = Backend::http().start();
    let mut namespaces = vec!["mob"; 50];
    namespaces.push("shop");
    let weir =
        Weir::new().set("limits", "{ connections: 200, waitForRoom: 100ms, headerRead: 1h, idle: 1h }");
    let weir = with_pods(weir.service("hello", &[backend.addr()]), &namespaces).start();
    until_known(&weir, 51, "shop/pod-51");
    let mut large: Vec<Client> = (0..10)
        .map(|_| {
            let mut client = client(&weir, 51);
            client.get("http://hello/").expect_body("ok");
            client
        })
        .collect();
    assert_eq!(share(&weir, "outgoing", "shop/pod-51").map(|it| it.0), Some(10));
    // 1.5 % each, and then as much as they can get.
    for each in [3, 20] {
        let _attack: Vec<TcpStream> =
            (0..each).flat_map(|_| (1..=50).map(|number| connect(&weir, number))).collect();
        if each == 20 {
            eventually("a full listener", || {
                weir.metric("weir_listener_open_connections", &[("listener", "outgoing")]) == 200.0
            });
        }
        for client in &mut large {
            client.get("http://hello/").expect_body("ok");
        }
    }
    // It may even have more: half of all, since there are two namespaces.
    for _ in 0..90 {
        let mut client = client(&weir, 51);
        client.get("http://hello/").expect_body("ok");
        large.push(client);
    }
    for client in &mut large {
        client.get("http://hello/").expect_body("ok");
    }
}

#[test]
fn room_for_others_ends_no_connection_of_who_has_less() {
    let backend = Backend::http().start();
    let limits = "{ connections: 8, waitForRoom: 10s, headerRead: 1h, idle: 1h }";
    let weir = Weir::new().set("limits", limits).service("hello", &[backend.addr()]).start();
    let mut small = client(&weir, 2);
    small.get("http://hello/").expect_body("ok");
    let _attack: Vec<TcpStream> = (0..12).map(|_| connect(&weir, 1)).collect();
    eventually("connections that wait", || {
        weir.metric("weir_listener_waiting_connections", &[("listener", "outgoing")]) >= 5.0
    });
    for _ in 0..20 {
        let answer = small.get("http://hello/");
        assert_eq!(answer.get("connection"), None, "it is told to go, and somebody else waits");
    }
}

#[test]
fn who_comes_and_goes_costs_others_one_connection_and_not_one_each_time() {
    let backend = Backend::http().start();
    let limits = "{ connections: 8, headerRead: 1h, idle: 1h }";
    let weir = Weir::new().set("limits", limits).service("hello", &[backend.addr()]).start();
    let begun = Instant::now();
    let mut large: Vec<TcpStream> = (0..8).map(|_| connect(&weir, 1)).collect();
    let open = |number: u8, count: u64| {
        let address = format!("127.0.7.{number}");
        eventually("connections", || share(&weir, "outgoing", &address).map_or(0, |it| it.0) == count);
    };
    open(1, 8);
    for _ in 0..20 {
        client(&weir, 2).get("http://hello/").expect_body("ok");
        open(2, 0);
        // It wants back what it has lost.
        large.push(connect(&weir, 1));
    }
    // A place is kept for five seconds.
    let most = 1 + begun.elapsed().as_secs() / 5;
    let displaced = weir.turned_away("outgoing", "displaced");
    assert!((1.0..=most as f64).contains(&displaced), "{displaced}, and not {most}");
    eventually("its place again", || share(&weir, "outgoing", "127.0.7.1").is_some_and(|it| it.0 == 8));
}

#[test]
fn in_a_pod_what_came_before_the_pod_was_known_counts_for_its_namespace_too() {
    let Some(mut stage) = Stage::set() else { return };
    let uid = "0b7f1c1e-0000-4000-8000-000000000001";
    let pod = stage.net.pod(&format!("burstable/pod{uid}"));
    let told = folder::pod("pod-1", uid).namespace("shop").spec("nodeName: n1");
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&stage.hello()).pod(&told);
    let builder = builder.set_in("transparent", "enrol", "pods");
    stage.start(builder.env("POD_NAMESPACE", "weir").env("NODE_NAME", "n1"));
    let (_backends, _direct) = (stage.backends(), stage.direct());
    let mut first = None;
    eventually("diversion", || {
        let mut client = Client::over(pod.connect(address(V4)).unwrap());
        let is_diverted = client.get("/").text() != "direct";
        first = is_diverted.then_some(client);
        is_diverted
    });
    let weir = stage.weir();
    eventually("its namespace", || share(weir, "transparent", "shop/pod-1").is_some_and(|it| it.0 == 1));
    first.unwrap().get("/");
}

/// Bytes of its streams count as its own.
#[test]
fn of_two_connections_the_one_of_http2_whose_only_stream_moves_stays() {
    const ATTACKER: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
    let [big, silent] = [Answer::stream(1 << 30), Answer::ok("").after(Duration::from_secs(60))]
        .map(|answer| Backend::http().answer(answer).start());
    let hello = Backend::http().start();
    let weir = Weir::new()
        .service("big", &[big.addr()])
        .service("silent", &[silent.addr()])
        .service("hello", &[hello.addr()])
        .set("policies", "{ clients: [{ prefix: /, protocol: http1 }] }")
        .set("limits", "{ connections: 2 }")
        .start();
    let http2 = Http2::over(raw::connect_as(ATTACKER, weir.outgoing()).unwrap());
    let mut moves = http2.start(hyper::Request::get("http://big/").body(()).unwrap(), true);
    assert_eq!(moves.head().unwrap().status(), 200);
    let mut waits = Client::over(raw::connect_as(ATTACKER, weir.outgoing()).unwrap());
    waits.send("GET http://silent/ HTTP/1.1\r\nHost: silent\r\n\r\n");
    silent.wait_for(1);
    // Now the older one has moved later, by more than the clock's unit.
    std::thread::sleep(Duration::from_millis(5));
    let mut read = 0;
    while read < 1 << 20 {
        read += moves.data().expect("its stream").len();
    }
    weir.get("http://hello/").expect_body("ok");
    assert_eq!(weir.turned_away("outgoing", "displaced"), 1.0);
    assert!(!moves.data().expect("the connection that is in use").is_empty());
    waits.closed();
}
