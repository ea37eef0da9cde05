//! SIGTERM under load of diverted connections: whoever's connect succeeded is answered, by weir or directly.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{Stage, TARGET, V4, V6, dialler, until_diverted};
use e2e::load::Reuse;
use e2e::net::links::HeldLinks;
use e2e::raw::TcpServer;
use e2e::time::PATIENCE;
use e2e::{Client, Load, Request, Weir, folder};

#[test]
fn every_client_whose_connect_succeeded_is_answered() {
    let Some(mut stage) = Stage::running() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    until_diverted(&stage);
    let _links = HeldLinks::on(&stage.net.pods_cgroup());
    let get = Request::get("/").with("Host", "hello").with("Connection", "close");
    let loads = [V4, V6].map(|to| Load::start(3, Reuse::Never, &get, dialler(&stage.client, to)));
    for load in &loads {
        load.answered(100);
    }
    stage.weir().signal(Signal::SIGTERM);
    let mut weir = stage.take_weir();
    let status = weir.wait(Duration::from_secs(12));
    for load in &loads {
        load.answered(50);
    }
    for load in loads {
        let tally = load.stop();
        tally.expect_no_failure();
        assert!(tally.from("direct") > 0 && tally.from("a") + tally.from("b") > 0, "{tally:?}");
    }
    assert_eq!(status.code(), Some(0));
}

#[test]
fn kept_connections_are_closed_between_requests_and_lose_none() {
    let Some(mut stage) = Stage::running() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    until_diverted(&stage);
    let mut client = stage.dial(V4);
    client.get("/").expect_status(200);
    stage.weir().signal(Signal::SIGTERM);
    client.closed();
    let mut weir = stage.take_weir();
    assert_eq!(weir.wait(Duration::from_secs(12)).code(), Some(0));
    assert_eq!(stage.get(V4), "direct");
}

#[test]
fn a_weir_that_stops_does_not_say_that_interception_does_not_work() {
    let Some(mut stage) = Stage::set() else { return };
    let database = TcpServer::greets(stage.b.listen(stage.b.at(TARGET + 1)).unwrap(), "ready\n");
    let served = folder::service("database", &["10.96.0.11"]).port("sql", 5432, TARGET + 1);
    // Longer than weir looks at interception anew, which is every 3 s.
    let builder = Weir::new().on_node(&stage.net).set("drain", "{ grace: 5s }");
    let builder = builder.kubernetes(&served.endpoints(&[stage.b.v4()]));
    stage.start(builder);
    let mut connection = stage.dial("10.96.0.11:5432");
    connection.expect("ready\n");
    let mut weir = stage.take_weir();
    weir.signal(Signal::SIGTERM);
    assert_eq!(weir.wait(Duration::from_secs(20)).code(), Some(0));
    weir.expect_log("the grace period is over");
    assert!(!weir.log().contains("interception does not work"), "{}", weir.log());
    drop(database);
}

/// Whether anybody listens on the explicit proxy's port, as the node's kernel says.
fn listens(stage: &Stage) -> bool {
    let sockets = stage.net.node().namespace().with_file_name("../net/tcp6");
    let sockets = std::fs::read_to_string(sockets).unwrap();
    // Port 4140, state LISTEN (proc(5)).
    sockets.lines().any(|line| line.contains(":102C ") && line.contains(" 0A "))
}

#[test]
fn nobody_is_refused_as_long_as_weir_is_there() {
    let Some(mut stage) = Stage::set() else { return };
    let database = TcpServer::echo(stage.b.listen(stage.b.at(TARGET + 1)).unwrap());
    let builder = Weir::new().on_node(&stage.net).set("drain", "{ grace: 1s }").kubernetes(&stage.hello());
    stage.start(builder.service("database", &[database.addr()]).with_its_log_unread());
    let mut tunnel = Client::over(stage.client.connect(PROXY.parse().unwrap()).unwrap());
    tunnel.start(&Request::new("CONNECT", "database:80"));
    assert_eq!(tunnel.head().status(), Some(200));
    assert!(listens(&stage));
    let mut weir = stage.take_weir();
    // Its end takes a while: the last lines of the log have somebody to wait for.
    weir.fill_unread_log();
    weir.signal(Signal::SIGTERM);
    let deadline = Instant::now() + PATIENCE;
    while listens(&stage) {
        assert!(Instant::now() < deadline, "weir still listens");
        std::thread::sleep(Duration::from_millis(1));
    }
    // A process gives back its memory before it closes what it has open, and shows no command line from then on.
    let command = std::fs::read(format!("/proc/{}/cmdline", weir.pid())).unwrap_or_default();
    assert!(command.is_empty(), "clients are refused while weir is there");
    assert_eq!(weir.wait(PATIENCE).code(), Some(0));
}

/// The node's address where its explicit proxy listens.
const PROXY: &str = "10.1.0.1:4140";

#[test]
fn a_weir_is_replaced_under_explicit_load_and_no_request_fails_but_while_there_is_none() {
    let Some(mut stage) = Stage::set() else { return };
    let _backends = stage.backends();
    let database = TcpServer::greets(stage.b.listen(stage.b.at(TARGET + 1)).unwrap(), "ready\n");
    let served = folder::service("database", &["10.96.0.11"]).port("sql", 5432, TARGET + 1);
    let builder = |stage: &Stage| {
        let builder = Weir::new().on_node(&stage.net).set("drain", "{ grace: 4s }");
        builder.kubernetes(&stage.hello()).kubernetes(&served.clone().endpoints(&[stage.b.v4()]))
    };
    stage.start(builder(&stage));
    let mut connection = stage.dial("10.96.0.11:5432");
    connection.expect("ready\n").send("select 1").expect("select 1");
    let get = Request::get("http://hello/");
    let loads = [(Reuse::KeepAlive, 2), (Reuse::Never, 2)]
        .map(|(reuse, threads)| Load::start(threads, reuse, &get, dialler(&stage.client, PROXY)));
    for load in &loads {
        load.answered(50);
    }
    let mut weir = stage.take_weir();
    let signalled = Instant::now();
    weir.signal(Signal::SIGTERM);
    // As kubelet does: the next one starts once this one has ended.
    assert_eq!(weir.wait(Duration::from_secs(30)).code(), Some(0));
    assert_eq!(database.accepted(), 1);
    connection.rest();
    stage.start(builder(&stage));
    let back = Instant::now();
    for load in &loads {
        load.answered(50);
    }
    for load in loads {
        let tally = load.stop();
        assert!(tally.ok() >= 100);
        tally.expect_only_refused_from(signalled + Duration::from_secs(4));
        assert!(tally.failed.is_none_or(|(_, last)| last <= back), "refused by the next one: {tally:?}");
    }
}
