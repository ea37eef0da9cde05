//! SIGTERM: explicit clients are served until weir ends, whoever has connected is answered, and it ends with exit code 0.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use e2e::backend::Then;
use e2e::client::Closed;
use e2e::load::Reuse;
use e2e::raw::{self, TcpServer};
use e2e::{Answer, Backend, Client, Clock, Load, Request, Weir, eventually};
use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};

#[test]
fn a_request_in_flight_is_answered_with_connection_close() {
    let slow = Answer::ok("slow").after(Duration::from_millis(800));
    let backend = Backend::http().answer(slow).start();
    let mut weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    client.start(&Request::get("http://hello/"));
    backend.wait_for(1);
    weir.signal(Signal::SIGTERM);
    let answer = client.response();
    answer.expect_body("slow");
    assert!(answer.head.lists("connection", "close"), "{:?}", answer.head);
    assert_eq!(client.closed(), Closed::End);
    assert_eq!(weir.wait(Duration::from_secs(5)).code(), Some(0));
}

#[test]
fn a_body_under_way_is_finished() {
    let streamed = Answer::chunks(&["one ", "two ", "three"]).pausing(Duration::from_millis(300));
    let backend = Backend::http().answer(streamed).start();
    let mut weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    client.start(&Request::get("http://hello/"));
    backend.wait_for(1);
    weir.signal(Signal::SIGTERM);
    client.response().expect_body("one two three");
    assert_eq!(weir.wait(Duration::from_secs(5)).code(), Some(0));
}

#[test]
fn idle_connections_are_closed_in_order_and_weir_ends_soon() {
    let backend = Backend::http().start();
    let mut weir = Weir::serving("hello", &[backend.addr()]);
    let mut clients: Vec<_> = (0..4).map(|_| weir.client()).collect();
    for client in &mut clients {
        client.get("http://hello/").expect_body("ok");
    }
    let begun = Clock::start();
    weir.signal(Signal::SIGTERM);
    for client in &mut clients {
        assert_eq!(client.closed(), Closed::End);
    }
    assert_eq!(weir.wait(Duration::from_secs(5)).code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

/// A weir with `grace` to drain, and a tunnel through it that stays open, as a database's connection does.
fn with_a_tunnel_open(grace: &str) -> (Weir, Client, Backend, TcpServer) {
    let (backend, database) =
        (Backend::http().start(), TcpServer::echo(raw::listen(raw::loopback()).unwrap()));
    let weir = Weir::new().set("drain", &format!("{{ grace: {grace} }}"));
    let weir = weir.service("hello", &[backend.addr()]).service("database", &[database.addr()]).start();
    let mut tunnel = weir.client();
    tunnel.start(&Request::new("CONNECT", "database:80"));
    assert_eq!(tunnel.head().status(), Some(200));
    (weir, tunnel, backend, database)
}

#[test]
fn explicit_clients_are_served_while_a_tunnel_keeps_a_draining_weir() {
    let (mut weir, mut tunnel, _backend, _database) = with_a_tunnel_open("20s");
    weir.signal(Signal::SIGTERM);
    // Long after its queues have been empty for the first time.
    for _ in 0..20 {
        let mut client = weir.client();
        let answer = client.get("http://hello/");
        answer.expect_body("ok");
        if answer.head.lists("connection", "close") {
            assert_eq!(client.closed(), Closed::End);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    eventually("an answer with Connection: close", || {
        weir.get("http://hello/").head.lists("connection", "close")
    });
    // A tunnel is no connection for requests, and is not told to close.
    let mut late = weir.client();
    late.start(&Request::new("CONNECT", "database:80"));
    let head = late.head();
    assert!(head.status() == Some(200) && !head.lists("connection", "close"), "{head:?}");
    late.send("late").expect("late");
    tunnel.send("still").expect("still");
    drop((late, tunnel));
    // Nothing is open any more, so it does not wait for the end of its time.
    assert_eq!(weir.wait(Duration::from_secs(10)).code(), Some(0));
    let refused = std::net::TcpStream::connect(weir.outgoing()).map_err(|e| e.kind());
    assert_eq!(refused.map(drop), Err(ErrorKind::ConnectionRefused));
}

#[test]
fn explicit_clients_are_served_until_the_grace_period_ends() {
    // Newer kernels ask for CAP_NET_ADMIN before they let a listener refuse newcomers, as its end takes.
    if !e2e::net::is_root() {
        return;
    }
    let (mut weir, _tunnel, _backend, _database) = with_a_tunnel_open("4s");
    let proxy = weir.outgoing();
    let connect = move || std::net::TcpStream::connect(proxy);
    let load = Load::start(3, Reuse::KeepAlive, &Request::get("http://hello/"), connect);
    load.answered(50);
    let signalled = Instant::now();
    weir.signal(Signal::SIGTERM);
    assert_eq!(weir.wait(Duration::from_secs(30)).code(), Some(0));
    eventually("refused clients", || load.tally().failed.is_some());
    load.stop().expect_only_refused_from(signalled + Duration::from_secs(4));
}

/// Tries to connect, and waits for nothing. Returns whether it was refused.
fn is_refused(proxy: SocketAddr) -> bool {
    let socket = Socket::new(Domain::for_address(proxy), Type::STREAM.nonblocking(), None).unwrap();
    let begun = socket.connect(&proxy.into()).err();
    // On the loopback the answer is there when `connect` has begun.
    let ends = [begun, socket.take_error().unwrap()];
    ends.into_iter().flatten().any(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[test]
fn nobody_is_refused_until_the_process_has_ended() {
    // As above.
    if !e2e::net::is_root() {
        return;
    }
    let database = TcpServer::echo(raw::listen(raw::loopback()).unwrap());
    // What a process does after its `main` takes less than a millisecond: one try in two would meet it.
    for _ in 0..8 {
        let weir = Weir::new().set("drain", "{ grace: 200ms }").set("log", "{ level: debug }");
        let mut weir = weir.service("database", &[database.addr()]).start();
        let mut tunnel = weir.client();
        tunnel.start(&Request::new("CONNECT", "database:80"));
        assert_eq!(tunnel.head().status(), Some(200));
        weir.signal(Signal::SIGTERM);
        weir.expect_log("no more explicit clients are taken");
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_refused(weir.outgoing()) {
            assert!(Instant::now() < deadline, "weir still listens");
        }
        // A process gives back its memory before it closes what it has open, and shows no command line from then on.
        let command = std::fs::read(format!("/proc/{}/cmdline", weir.pid())).unwrap_or_default();
        assert!(command.is_empty(), "clients are refused while weir is there");
        assert_eq!(weir.wait(Duration::from_secs(5)).code(), Some(0));
    }
}

#[test]
fn readiness_goes_while_it_drains() {
    let slow = Answer::ok("slow").after(Duration::from_secs(2));
    let backend = Backend::http().answer(slow).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    client.start(&Request::get("http://hello/"));
    backend.wait_for(1);
    weir.signal(Signal::SIGTERM);
    eventually("not ready", || weir.admin_get("/ready").status == 503);
    weir.admin_get("/live").expect_status(200);
    client.response().expect_body("slow");
}

#[test]
fn grace_bounds_the_drain() {
    let backend = Backend::http()
        .script(|request| match request.head.get("upgrade") {
            Some(_) => Answer::upgrade("chat"),
            None => Answer::raw("").then(Then::Hang),
        })
        .start();
    let mut weir = Weir::new().set("drain", "{ grace: 2s }").service("hello", &[backend.addr()]).start();
    let (mut waiting, mut tunnel) = (weir.client(), weir.client());
    waiting.start(&Request::get("http://hello/"));
    tunnel.start(&Request::get("http://hello/").with("Connection", "Upgrade").with("Upgrade", "chat"));
    assert_eq!(tunnel.head().status(), Some(101));
    backend.wait_for(2);
    weir.signal(Signal::SIGTERM);
    tunnel.send("still").expect("still");
    assert_eq!(weir.wait(Duration::from_secs(5)).code(), Some(0));
    tunnel.rest();
    waiting.rest();
}

#[test]
fn a_tunnel_that_the_end_cuts_is_seen_to_be_cut_on_both_sides() {
    let (tell, told) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let server = TcpServer::on(raw::listen(raw::loopback()).unwrap(), move |mut stream| {
        let _ = std::io::Write::write_all(&mut stream, b"half");
        let ended = std::io::Read::read(&mut stream, &mut [0]);
        let _ = tell.lock().unwrap().send(ended.map_err(|e| e.kind()));
    });
    let mut weir = Weir::new().set("drain", "{ grace: 300ms }").service("hello", &[server.addr()]).start();
    let mut client = weir.client();
    client.start(&Request::new("CONNECT", "hello:80"));
    assert_eq!(client.head().status(), Some(200));
    client.expect("half");
    weir.signal(Signal::SIGTERM);
    assert_eq!(weir.wait(Duration::from_secs(5)).code(), Some(0));
    assert_eq!(client.closed(), Closed::Reset, "half of what the server sends looks like all of it");
    let ended = told.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(ended, Err(ErrorKind::ConnectionReset));
}

#[test]
fn every_client_whose_connect_succeeded_is_answered() {
    // Newer kernels ask for CAP_NET_ADMIN before they let a listener refuse newcomers, as this takes.
    if !e2e::net::is_root() {
        return;
    }
    let backend = Backend::http().start();
    let mut weir = Weir::serving("hello", &[backend.addr()]);
    let proxy = weir.outgoing();
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let ask = |_| {
        let (stop, answered) = (stop.clone(), answered.clone());
        std::thread::spawn(move || {
            let mut lost = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                let Ok(stream) = std::net::TcpStream::connect(proxy) else { continue };
                match Client::over(stream).start(&Request::get("http://hello/")).try_response() {
                    Ok(answer) if answer.status == 200 => drop(answered.fetch_add(1, Ordering::SeqCst)),
                    other => lost.push(format!("{other:?}")),
                }
            }
            lost
        })
    };
    let threads: Vec<_> = (0..4).map(ask).collect();
    eventually("load", || answered.load(Ordering::SeqCst) > 100);
    weir.signal(Signal::SIGTERM);
    let status = weir.wait(Duration::from_secs(12));
    stop.store(true, Ordering::SeqCst);
    let lost: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    assert!(lost.is_empty(), "{} connected and were not answered: {:?}", lost.len(), lost.first());
    assert_eq!(status.code(), Some(0));
}
