//! An endpoint that has left gets no new request.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::stage::{Stage, address, addresses, following};
use e2e::kube::{Act, ApiServer, service};
use e2e::time::{Clock, Stalls, within};
use e2e::{Load, Request, eventually};

/// After an endpoint was taken out of the server's state, how long a request may still arrive there.
const LATEST: Duration = Duration::from_millis(100);
const ENDPOINTS: u8 = 20;
/// How many of them the service has at any time, and how often others take their place.
const AT_ONCE: usize = 6;
const TURNS: usize = 100;
const A_SECOND: Duration = Duration::from_secs(1);
/// A weir that waits long for an answer.
const PATIENT: &str = "{ kubernetes: { kubeconfig: ./kubeconfig, jitter: 0s, readTimeout: 30s } }";

/// Which endpoints are in the service, and when the others were not.
struct Turns {
    out_since: BTreeMap<u8, Instant>,
    /// Each absence: from the moment the server knew of it to the one before the server knew of its end.
    absences: Vec<(u8, Instant, Instant)>,
}

impl Turns {
    /// Makes `next` the service's endpoints.
    fn turn(&mut self, stage: &Stage, next: &[u8]) {
        for number in next {
            if let Some(since) = self.out_since.remove(number) {
                self.absences.push((*number, since, Instant::now()));
            }
        }
        stage.server.serve("hello", &addresses(next));
        for number in (0..ENDPOINTS).filter(|it| !next.contains(it)) {
            self.out_since.entry(number).or_insert_with(Instant::now);
        }
    }
}

/// Every time counts except that in which the machine ran nothing at all of ours: another's load is no fault of weir's. Where
/// somebody waits for a core most of the time, all of it takes longer.
#[test]
fn no_request_goes_to_an_endpoint_that_left_more_than_100_ms_ago() {
    let Some(stage) = Stage::with(ENDPOINTS) else { return };
    let backends: Vec<_> = (0..ENDPOINTS).map(|it| stage.backend(it)).collect();
    stage.server.put(service("hello", "10.96.0.10", &[("http", 80)]));
    let mut turns = Turns { out_since: BTreeMap::new(), absences: Vec::new() };
    turns.turn(&stage, &[0]);
    eventually("the service", || stage.weir.get("http://hello/").status == 200);
    let (stalls, clock) = (Stalls::watch(), Clock::start());
    let load = Load::paced(8, 1000, &Request::get("http://hello/"), stage.dialler());
    let mut rng = fastrand::Rng::new();
    for _ in 0..TURNS {
        let mut next: Vec<u8> = (0..ENDPOINTS).collect();
        rng.shuffle(&mut next);
        turns.turn(&stage, &next[..AT_ONCE]);
        std::thread::sleep(Duration::from_millis(rng.u64(5..100)));
    }
    let everything: Vec<u8> = (0..ENDPOINTS).collect();
    turns.turn(&stage, &[0]);
    std::thread::sleep(LATEST * 3);
    let tally = load.stop();
    turns.turn(&stage, &everything);
    let stalls = stalls.end();
    tally.expect_no_failure();
    let mut worst = Duration::ZERO;
    for (number, from, to) in turns.absences {
        let times = backends[usize::from(number)].1.lock().unwrap();
        assert!(!times.is_empty(), "endpoint {number} was never asked");
        for time in times.iter().filter(|it| (from..to).contains::<Instant>(it)) {
            worst = worst.max((*time - from).saturating_sub(stalls.between(from, *time)));
        }
    }
    let latest = if clock.was_busy() { A_SECOND } else { LATEST };
    assert!(worst <= latest, "a request arrived {worst:?} after its endpoint had left");
}

/// A list that a busy server keeps waiting holds up nothing that is known of other resources, or of its own.
#[test]
fn an_endpoint_leaves_though_the_server_does_not_answer_a_list() {
    let endpoints = |server: &ApiServer, numbers: &[u8]| server.serve("hello", &addresses(numbers));
    for (hung, asks) in [("services", "endpointslices"), ("endpointslices", "services")] {
        let server = ApiServer::start();
        server.put(service("hello", "10.96.0.10", &[("http", 80)]));
        endpoints(&server, &[0, 1]);
        let weir = following(&server).set("discovery", PATIENT).start();
        eventually("both", || weir.knows(address(0)) && weir.knows(address(1)));
        eventually("all watches", || server.has_told(&["services", "endpointslices"]));
        server.faults(|faults| faults.hung = [hung.to_owned()].into());
        server.act(Act::Gone);
        eventually("the list that hangs", || server.count("list", hung) == 2);
        eventually("the other watch", || server.has_told(&[asks]));
        if hung == "services" {
            endpoints(&server, &[1]);
            within(A_SECOND, "its leaving", || !weir.knows(address(0)));
        } else {
            server.delete("services", "default", "hello");
            within(A_SECOND, "the end of the service", || !weir.knows(address(0)));
        }
    }
}
