//! The control plane is kept busy or stands still: the heart goes on, and connections are diverted as before.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Stage, V4, until_diverted};
use e2e::hung::Hung;
use e2e::net::NODE_V4;
use e2e::net::gate::Gate;
use e2e::time::holds_for;
use e2e::{Client, Pod, Request, Weir, eventually, folder};

/// Connections that a pod begins and never makes, each from a port of its own.
const LEFTOVERS: u16 = 60_000;

/// Pods that read the metrics at the same time.
const SCRAPERS: usize = 24;

/// How long they do it: longer than a heart may be silent, with a control plane that looks at interception every 3 s.
const SPAN: Duration = Duration::from_secs(8);

#[test]
fn a_control_plane_that_stands_still_does_not_end_diversion() {
    let Some(mut stage) = Stage::running() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    until_diverted(&stage);
    let main = i32::try_from(stage.weir().pid()).unwrap();
    let hung = Hung::thread(main);
    assert!(holds_for(Duration::from_secs(4), || stage.get(V4) != "direct"), "the heart stopped with it");
    drop(hung);
    assert_eq!(stage.weir().decisions("direct_stale_heart"), 0.0);
    stage.weir().admin_get("/ready").expect_status(200);
}

/// As on a node on which many pods come and go: the kernel has one lock for all networks, and whoever lists addresses waits for it.
#[test]
fn while_the_kernel_does_not_list_addresses_weir_answers_and_follows_its_services() {
    let Some(mut stage) = Stage::set() else { return };
    let gate = Gate::default();
    let builder = Weir::new().on_node(&stage.net).kubernetes(&stage.hello()).asking(&gate);
    stage.start(builder);
    let _backends = stage.backends();
    until_diverted(&stage);
    gate.hold();
    stage.weir().expect_log("the last ones stay: the kernel has not answered within 1s");
    for _ in 0..3 {
        stage.weir().admin_get("/ready").expect_status(200);
        assert_ne!(stage.get(V4), "direct");
    }
    let alone = folder::service("hello", &["10.96.0.10"]).port("http", 80, super::TARGET);
    let alone = alone.endpoints(&[stage.b.v4()]);
    stage.weir().folder().kubernetes(&alone);
    eventually("the change of endpoints", || (0..8).all(|_| stage.get(V4) == "b"));
    assert_eq!(gate.held(), 1, "threads wait, and nothing bounds them");
    gate.release();
    stage.net.node().ip("addr add 10.1.0.77/32 dev lo\n");
    stage.weir().expect_log("this node's addresses changed");
}

#[test]
fn a_pod_that_reads_the_metrics_without_end_stops_neither_the_heart_nor_kubelets_probes() {
    let Some(mut stage) = Stage::set() else { return };
    let leaver = stage.net.pod("leaver");
    let builder = Weir::new().on_node(&stage.net).kubernetes(&stage.hello());
    stage.start(builder.set("probes", "{ listen: \"[::]:9991\" }"));
    let (_backends, _direct) = (stage.backends(), stage.direct());
    until_diverted(&stage);
    leave(&leaver);
    assert!(stage.weir().decisions("filed") >= f64::from(LEFTOVERS));
    let probes = stage.weir().probes();
    let from_pod: SocketAddr = format!("{NODE_V4}:{}", probes.port()).parse().unwrap();
    let begun = Instant::now();
    let (pages, read) = std::thread::scope(|scope| {
        let scrape = || {
            let (mut pages, mut read) = (BTreeSet::new(), 0);
            while begun.elapsed() < SPAN {
                let Ok(stream) = stage.b.connect(from_pod) else { continue };
                let request = Request::get("/metrics").with("Host", "localhost").with("Connection", "close");
                if let Ok(page) = Client::over(stream).start(&request).try_response() {
                    assert_eq!(page.status, 200);
                    read += 1;
                    pages.insert(page.body);
                }
            }
            (pages, read)
        };
        let scrapers: Vec<_> = (0..SCRAPERS).map(|_| scope.spawn(scrape)).collect();
        while begun.elapsed() < SPAN {
            assert_ne!(stage.get(V4), "direct", "after {:?}", begun.elapsed());
            stage.weir.as_ref().unwrap().get_from(probes, "/live").expect_status(200);
        }
        let (mut pages, mut read) = (BTreeSet::new(), 0);
        for scraper in scrapers {
            let (some, times) = scraper.join().unwrap();
            pages.extend(some);
            read += times;
        }
        (pages.len() as u64, read)
    });
    assert_eq!(stage.weir().decisions("direct_stale_heart"), 0.0);
    // Each page says how often the listener was asked, so that no two that were written are the same.
    let seconds = begun.elapsed().as_secs() + 2;
    assert!(pages <= seconds, "{pages} pages were written in {seconds} s, for {read} readers");
    assert!(read > pages, "{read} readers of {pages} pages");
}

/// Leaves so many entries of connections that never come: their SYNs go to an address of no card.
#[track_caller]
fn leave(pod: &Pod) {
    pod.ip(&format!("neigh replace {NODE_V4} lladdr 02:00:00:00:00:99 dev eth0 nud permanent\n"));
    let mut helper = pod.command(e2e::weir::binary::helper());
    let left = helper.args(["leave", "5000", &LEFTOVERS.to_string(), V4]).status().unwrap();
    assert!(left.success());
}
