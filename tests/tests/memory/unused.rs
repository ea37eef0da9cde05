//! What nobody uses goes: clusters, and connections to endpoints.

use std::net::SocketAddr;
use std::time::Duration;

use e2e::time::within;
use e2e::{Backend, Weir, eventually, raw};
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::more_descriptors;

/// As many services as calls.
const SERVICES: usize = 400;

#[test]
fn calling_each_of_many_services_once_leaves_few_clusters_and_connections() {
    let backend = Backend::http().start();
    let mut builder = Weir::new().set("limits", "{ clusters: 20, idleConnections: 10 }");
    for number in 0..SERVICES {
        builder = builder.service(&format!("s{number}"), &[backend.addr()]);
    }
    let weir = builder.service("kept", &[backend.addr()]).start();
    let mut client = weir.client();
    client.get("http://kept/").expect_body("ok");
    for number in 0..SERVICES {
        client.get(&format!("http://s{number}/")).expect_body("ok");
    }
    let clusters = || weir.metric("weir_catalog_clusters", &[]);
    assert!(clusters() > 100.0, "a service that was called has a cluster");
    within(Duration::from_secs(20), "connections to be closed", || backend.open() <= 12);
    assert!(weir.metric("weir_idle_connections_crowded_out_total", &[]) > 100.0);
    let asked = || weir.metric("weir_endpoint_requests_total", &[("service", "/svc/kept")]);
    let mut before = asked();
    within(Duration::from_secs(60), "clusters to be forgotten", || {
        client.get("http://kept/").expect_body("ok");
        let now = asked();
        assert!(now > before, "one that is used keeps its counters");
        before = now;
        clusters() <= 21.0
    });
    let forgotten = weir.metric("weir_catalog_clusters_forgotten_total", &[("reason", "full")]);
    assert!(forgotten >= 300.0, "{forgotten}");
    // One that was forgotten is there when it is called.
    client.get("http://s7/").expect_body("ok");
}

/// Makes the budget of `weir` so that memory is scarce, and no more than that, with what is in use now.
#[track_caller]
fn make_scarce(weir: &Weir, text: &str) {
    let metric = |name: &str| weir.metric(name, &[]);
    within(Duration::from_secs(60), "memory to be scarce", || {
        let (used, budget) = (metric("weir_memory_used_bytes"), metric("weir_memory_budget_bytes"));
        if !(0.82..0.88).contains(&(used / budget)) {
            let wanted = (used / 0.85).round();
            weir.folder().config(&text.replace("1048576KiB", &format!("{wanted:.0}")));
            // Without this, a file that is written every second never looks the same twice.
            weir.signal(Signal::SIGHUP);
            eventually("the budget", || metric("weir_memory_budget_bytes") == wanted);
        }
        metric("weir_memory_level") == 1.0
    });
}

#[test]
fn while_memory_is_only_scarce_who_uses_a_connection_now_and_then_keeps_it() {
    let backend = Backend::http().start();
    // What weir has to know, and what closing connections does not give back.
    let many: Vec<SocketAddr> =
        (0..200_000_u32).map(|it| ((0x7f_10_00_00 | it).to_be_bytes(), 9).into()).collect();
    let builder = Weir::new().set("workers", "1").set("limits", "{ memory: 1048576KiB }");
    let weir = builder.service("hello", &[backend.addr()]).service("many", &many).start();
    let text = std::fs::read_to_string(weir.folder().path().join("weir.yaml")).unwrap();
    let level = || weir.metric("weir_memory_level", &[]);
    let (mut rounds, mut tries) = (0, 0);
    while rounds < 3 {
        tries += 1;
        assert!(tries <= 20, "memory never stayed scarce for two seconds");
        make_scarce(&weir, &text);
        weir.get("http://hello/").expect_body("ok");
        let before = backend.connections();
        // Longer than what is unused stays of who holds too much.
        std::thread::sleep(Duration::from_secs(2));
        weir.get("http://hello/").expect_body("ok");
        // The machine may give or take memory meanwhile: then it says nothing.
        if level() == 1.0 {
            assert_eq!(backend.connections(), before, "its connection was closed at another's cost");
            rounds += 1;
        }
    }
    // It goes all the same where it is not used for long.
    within(Duration::from_secs(20), "it to be closed", || backend.open() == 0);
}

/// An endpoint that answers over any number of connections, on one thread.
fn modest() -> SocketAddr {
    let listener = raw::listen(raw::loopback()).unwrap();
    let own = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut head = [0; 1024];
                    // weir writes a head without a body at once.
                    while let Ok(1..) = stream.read(&mut head).await {
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
    });
    own
}

#[test]
fn calling_each_of_ten_thousand_services_costs_little_and_soon_next_to_nothing() {
    const MANY: usize = 10_000;
    const MB: u64 = 1_000_000;
    more_descriptors();
    let endpoint = modest();
    let builder = (0..MANY).fold(Weir::new(), |all, number| all.service(&format!("s{number}"), &[endpoint]));
    let weir = builder.start();
    let before = weir.anonymous();
    let mut client = weir.client();
    for number in 0..MANY {
        client.get(&format!("http://s{number}/")).expect_body("ok");
    }
    let most = weir.anonymous();
    assert!(most <= 120 * MB, "{most} bytes, and {before} before");
    within(Duration::from_secs(60), "memory to be given back", || weir.anonymous() <= 60 * MB);
}
