//! Endpoints killed under load: clients notice nothing, and the endpoint gets its share again when it is back.

use e2e::load::Reuse;
use e2e::time::within;
use e2e::{Backend, BackendProcess, Load, Request, Weir};

const QUICK: &str = "{ backoff: { min: 200ms, max: 400ms } }";

#[test]
fn a_backend_killed_under_load_costs_no_get() {
    let mut backends = ["a", "b", "c"].map(BackendProcess::start);
    let addresses: Vec<_> = backends.iter().map(BackendProcess::addr).collect();
    let weir = Weir::new().set("breaker", QUICK).service("hello", &addresses).start();
    let load = Load::get(weir.outgoing(), "http://hello/");
    load.answered(300);
    backends[0].kill();
    load.answered(600);
    e2e::eventually("its ejection", || weir.is_ejected(addresses[0]));
    let while_dead = load.tally().from("a");
    load.answered(300);
    assert_eq!(load.tally().from("a"), while_dead);
    backends[0].restart();
    e2e::eventually("its return", || load.tally().from("a") > while_dead + 50);
    let tally = load.stop();
    tally.expect_no_failure();
    assert!(["a", "b", "c"].iter().all(|name| tally.from(name) > 0), "{tally:?}");
}

#[test]
fn a_backend_killed_under_load_of_new_connections_costs_no_get() {
    let mut backends = ["a", "b"].map(BackendProcess::start);
    let addresses: Vec<_> = backends.iter().map(BackendProcess::addr).collect();
    let weir = Weir::new().set("breaker", QUICK).service("hello", &addresses).start();
    let proxy = weir.outgoing();
    let request = Request::get("http://hello/").with("Connection", "close");
    let load = Load::start(4, Reuse::Never, &request, move || std::net::TcpStream::connect(proxy));
    for _ in 0..3 {
        load.answered(100);
        backends[1].kill();
        load.answered(100);
        backends[1].restart();
    }
    load.stop().expect_no_failure();
}

#[test]
fn every_endpoint_gets_its_share() {
    let backends = ["a", "b", "c"].map(|name| Backend::http().answers(name).start());
    let weir = Weir::serving("hello", &backends.each_ref().map(Backend::addr));
    let load = Load::get(weir.outgoing(), "http://hello/");
    // One that a busy machine made slow once is avoided until its peak has decayed.
    let have_theirs = || ["a", "b", "c"].iter().all(|name| load.tally().from(name) >= 100);
    within(std::time::Duration::from_secs(60), "a hundred answers of each", have_theirs);
    load.stop().expect_no_failure();
}

#[test]
fn a_slow_endpoint_gets_less() {
    let slow = e2e::Answer::ok("slow").after(std::time::Duration::from_millis(50));
    let (slow, quick) = (Backend::http().answer(slow).start(), Backend::http().answers("quick").start());
    let weir = Weir::serving("hello", &[slow.addr(), quick.addr()]);
    let load = Load::get(weir.outgoing(), "http://hello/");
    load.answered(1000);
    let tally = load.stop();
    tally.expect_no_failure();
    assert!(tally.from("quick") > 5 * tally.from("slow"), "{tally:?}");
}
