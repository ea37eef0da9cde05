//! The harness itself: its fakes do what their names say. Runs without weir.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use e2e::backend::Then;
use e2e::message::{End, Request};
use e2e::raw::{Refusing, Swallowing, TcpServer, loopback};
use e2e::weir::{builder::Exit, metrics};
use e2e::{Answer, Backend, BackendProcess, Client, Load, Weir};

#[test]
fn a_backend_answers_on_one_connection_and_records_it() {
    let backend = Backend::http().answers("a").start();
    let mut client = Client::to(backend.addr());
    client.get("/one").expect_body("a");
    client.ask(&Request::post("/two", "hello")).expect_body("a");
    assert_eq!(backend.connections(), 1);
    assert_eq!(backend.requests()[1].body, b"hello");
    assert!(backend.raw()[0].starts_with(b"GET /one HTTP/1.1\r\nHost: "));
}

#[test]
fn chunks_and_trailers_survive_the_client_and_the_backend() {
    let backend = Backend::http().answer(Answer::chunks(&["a", "bc"]).trailer("x-sum", "3")).start();
    let request = Request::new("POST", "/").chunks(&["12", "345"]).trailer("x-end", "yes");
    let answer = Client::to(backend.addr()).ask(&request);
    answer.expect_body("abc");
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "3".to_owned())]);
    let received = backend.only_request();
    assert_eq!((received.body.as_slice(), received.complete), (&b"12345"[..], true));
    assert_eq!(received.trailers, [("x-end".to_owned(), "yes".to_owned())]);
}

#[test]
fn a_reset_mid_body_is_a_truncated_answer() {
    let part = Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart").then(Then::Reset);
    let backend = Backend::http().answer(part).start();
    let answer = Client::to(backend.addr()).get("/");
    assert_eq!((answer.end, answer.status), (End::Truncated, 200));
}

#[test]
fn a_killed_backend_resets_refuses_and_comes_back_on_its_port() {
    let mut backend = Backend::http().answers("a").start();
    let mut client = Client::to(backend.addr());
    client.get("/").expect_body("a");
    backend.kill();
    client.closed();
    assert!(TcpStream::connect(backend.addr()).is_err());
    backend.restart();
    Client::to(backend.addr()).get("/").expect_body("a");
}

#[test]
fn a_backend_process_dies_by_sigkill_and_comes_back_on_its_port() {
    let mut backend = BackendProcess::start("p");
    Client::to(backend.addr()).get("/").expect_body("p");
    backend.kill();
    assert!(TcpStream::connect(backend.addr()).is_err());
    backend.restart();
    Client::to(backend.addr()).get("/").expect_body("p");
}

#[test]
fn ports_refuse_and_swallow() {
    let refusing = Refusing::new();
    assert_eq!(
        TcpStream::connect(refusing.addr()).unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    let swallowing = Swallowing::new();
    let connect = TcpStream::connect_timeout(&swallowing.addr(), Duration::from_millis(300));
    assert_eq!(connect.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn tcp_servers_echo_count_and_greet() {
    let listen = || e2e::raw::listen(loopback()).unwrap();
    let (echo, counts, greets) = (
        TcpServer::echo(listen()),
        TcpServer::counts_to_the_end(listen()),
        TcpServer::greets(listen(), "220 hi\r\n"),
    );
    Client::to(echo.addr()).send("abc").expect("abc");
    Client::to(counts.addr()).send("abcd").half_close().expect("got 4");
    Client::to(greets.addr()).expect("220 hi\r\n").send("x").expect("x");
}

#[test]
fn load_counts_answers_and_failures() {
    let mut backend = Backend::http().answers("a").start();
    let address = backend.addr();
    let load = Load::get(address, "http://hello/");
    load.answered(50);
    backend.kill();
    e2e::eventually("failures", || !load.tally().failures.is_empty());
    assert!(load.stop().from("a") >= 50);
}

#[test]
fn an_upgraded_connection_echoes() {
    let backend = Backend::http().answer(Answer::upgrade("chat")).start();
    let mut client = Client::to(backend.addr());
    client.start(&Request::get("/").with("Connection", "Upgrade").with("Upgrade", "chat"));
    assert_eq!(client.head().status(), Some(101));
    client.send("ping").expect("ping").half_close();
    let mut stream = client.stream();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn metrics_are_read_with_their_labels() {
    let samples = metrics::parse("# HELP a b\na_total{x=\"1\",y=\"q\\\"r\"} 3\nb 2.5 1700000000\n# EOF\n");
    assert_eq!(samples.len(), 2);
    assert_eq!((samples[0].labels["y"].as_str(), samples[0].value, samples[1].value), ("q\"r", 3.0, 2.5));
}

#[test]
fn the_folder_writes_kubernetes_objects_that_a_person_would_recognise() {
    let service = e2e::folder::service("hello", &["10.96.0.10", "fd00:96::10"])
        .port("http", 80, 8080)
        .endpoints(&["10.1.0.10".parse().unwrap(), "fd00:1::10".parse().unwrap()]);
    let yaml = service.yaml();
    assert_eq!(yaml.matches("kind: EndpointSlice").count(), 2, "{yaml}");
    assert!(yaml.contains("clusterIPs: [\"10.96.0.10\", \"fd00:96::10\"]"), "{yaml}");
    let _: fn(&e2e::weir::builder::Builder) -> Exit = |builder| builder.fails();
    let _ = Weir::new();
}

mod net {
    //! Namespaces as pods; needs root.
    use e2e::raw::TcpServer;
    use e2e::{Backend, Client, Net};

    #[test]
    fn pods_reach_each_other_and_what_is_beyond_by_both_families() {
        if !e2e::net::is_root() {
            return eprintln!("left out: namespaces need root");
        }
        let mut net = Net::new();
        let (client, server) = (net.pod("client"), net.pod("server"));
        let beyond = net.beyond(&["10.96.0.10", "fd00:96::10"]);
        let backend = Backend::http().answers("pod").inside(&server).on(server.at(80)).start();
        Client::over(client.connect(backend.addr()).unwrap()).get("/").expect_body("pod");
        for address in ["10.96.0.10:80", "[fd00:96::10]:80"] {
            let direct = TcpServer::greets(beyond.listen(address.parse().unwrap()).unwrap(), "beyond");
            Client::over(client.connect(direct.addr()).unwrap()).expect("beyond");
        }
        let mapped = "[::ffff:10.1.0.11]:80".parse().unwrap();
        Client::over(client.connect(mapped).unwrap()).get("/").expect_body("pod");
        let refused = client.connect(server.at(81)).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        let output = client.command("cat").arg("/proc/self/cgroup").output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("/pods/client"));
    }
}
