//! A rolling restart: every endpoint is replaced by another, one after the other, and no client notices.

use std::time::{Duration, Instant};

use super::stage::{Stage, address};
use e2e::kube::{Endpoint, service};
use e2e::time::pause;
use e2e::{Clock, Load, Request, eventually};

/// Endpoints before, and after.
const ENDPOINTS: u8 = 20;
/// Requests a second: of each five, four are GETs, and one is a POST, which nobody may send twice.
const GETS: u32 = 400;
const POSTS: u32 = 100;
/// How long an endpoint terminates before it is gone, and how long the next takes.
const GRACE: Duration = Duration::from_millis(250);
const PAUSE: Duration = Duration::from_millis(80);

/// The endpoints `from` to `to`, of which `last` terminates.
fn tell(stage: &Stage, from: u8, to: u8, last: Option<u8>) {
    let terminating = last.map(|it| (address(it), Endpoint::terminating(address(it).ip())));
    let ready = (from..to).map(|it| (address(it), Endpoint::ready(address(it).ip())));
    stage.server.serve_as("hello", &terminating.into_iter().chain(ready).collect::<Vec<_>>());
}

#[test]
fn a_rolling_restart_of_20_endpoints_under_500_requests_a_second_fails_none() {
    let Some(stage) = Stage::with(2 * ENDPOINTS) else { return };
    let mut old: Vec<_> = (0..ENDPOINTS).map(|it| stage.backend(it)).collect();
    let mut new = Vec::new();
    stage.server.put(service("hello", "10.96.0.10", &[("http", 80)]));
    tell(&stage, 0, ENDPOINTS, None);
    eventually("the service", || stage.weir.get("http://hello/").status == 200);
    let url = "http://hello/";
    let (begun, clock) = (Instant::now(), Clock::start());
    let gets = Load::paced(8, GETS, &Request::get(url), stage.dialler());
    let posts = Load::paced(4, POSTS, &Request::post(url, "order"), stage.dialler());
    eventually("requests to every old endpoint", || old.iter().all(|(it, _)| it.count() > 0));
    for (at, (backend, _)) in (0..ENDPOINTS).zip(&mut old) {
        // The next is ready, then one is told to end, which is gone when it has.
        new.push(stage.backend(ENDPOINTS + at));
        tell(&stage, at, ENDPOINTS + at + 1, None);
        std::thread::sleep(PAUSE);
        tell(&stage, at + 1, ENDPOINTS + at + 1, Some(at));
        pause(GRACE);
        tell(&stage, at + 1, ENDPOINTS + at + 1, None);
        backend.finish();
    }
    eventually("requests to every new endpoint", || new.iter().all(|(it, _)| it.count() > 0));
    let (gets, posts, lasted) = (gets.stop(), posts.stop(), begun.elapsed());
    gets.expect_no_failure();
    posts.expect_no_failure();
    let rate = (gets.ok() + posts.ok()) as f64 / lasted.as_secs_f64();
    // A busy machine may not have the time for all of them.
    let enough = if clock.was_busy() { 0.3 } else { 0.9 };
    assert!(rate > enough * f64::from(GETS + POSTS), "only {rate:.0} requests a second");
    // Nobody was saved by a second try: no request was sent to an endpoint that had left.
    assert_eq!(stage.weir.metric("weir_retries_total", &[]), 0.0);
    for outcome in ["connect_failed", "connect_timeout", "reset", "stale"] {
        assert_eq!(stage.weir.metric("weir_attempts_total", &[("outcome", outcome)]), 0.0, "{outcome}");
    }
    for (number, (backend, _)) in old.iter().enumerate() {
        assert_eq!(backend.open(), 0, "endpoint {number} has connections left");
    }
    eventually("the new endpoints, and no other", || {
        (0..2 * ENDPOINTS).all(|it| stage.weir.knows(address(it)) == (it >= ENDPOINTS))
    });
}
