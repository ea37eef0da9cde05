//! Endpoints that refuse at once.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::time::within;
use e2e::{Answer, Backend, Load, Request, Weir};

use super::{answers, named, too_many};

/// A server that answers after 5 ms.
fn patient(body: &str) -> Backend {
    Backend::http().answer(Answer::ok(body).after(Duration::from_millis(5))).start()
}

#[test]
fn of_two_the_one_that_answers_429_gets_hardly_any_of_sequential_requests() {
    let (refusing, good) = (Backend::http().answer(too_many()).start(), named("good"));
    let weir = Weir::serving("hello", &[refusing.addr(), good.addr()]);
    let counts = answers(&weir, 300, &["429", "good"]);
    assert!(counts[0] <= 30, "{counts:?}");
    assert!(!weir.is_ejected(refusing.addr()), "it works");
    assert_eq!(weir.endpoint(refusing.addr())["refusals"], counts[0]);
}

#[test]
fn of_two_the_one_that_answers_429_gets_hardly_any_under_load() {
    let (refusing, good) = (Backend::http().answer(too_many()).start(), patient("good"));
    let weir = Weir::serving("hello", &[refusing.addr(), good.addr()]);
    let proxy = weir.outgoing();
    let load = Load::paced(16, 500, &Request::get("http://hello/"), move || TcpStream::connect(proxy));
    load.answered(500);
    let tally = load.stop();
    let refused: u64 = tally.failures.values().sum();
    assert!(refused * 10 <= tally.ok(), "{tally:?}");
}

#[test]
fn storms_of_404_and_of_503_make_nobody_look_fast() {
    for status in [404, 503] {
        let (storm, good) = (Backend::http().answer(Answer::status(status)).start(), patient("good"));
        let weir = Weir::new().set("breaker", "{ failures: 1000000 }");
        let weir = weir.service("hello", &[storm.addr(), good.addr()]).start();
        let proxy = weir.outgoing();
        let load = Load::paced(16, 500, &Request::get("http://hello/"), move || TcpStream::connect(proxy));
        load.answered(300);
        let tally = load.stop();
        let others: u64 = tally.failures.values().sum();
        let all = others + tally.ok();
        assert!(others * 100 <= all * 56, "{status}: {others} of {all}");
    }
}

#[test]
fn one_that_answers_429_no_more_has_its_share_again() {
    let full = Arc::new(AtomicBool::new(true));
    let is_full = full.clone();
    let limited = Backend::http()
        .script(move |_| if is_full.load(Ordering::SeqCst) { too_many() } else { Answer::ok("limited") })
        .start();
    let good = named("good");
    let weir = Weir::serving("hello", &[limited.addr(), good.addr()]);
    answers(&weir, 200, &["429", "good"]);
    full.store(false, Ordering::SeqCst);
    within(Duration::from_secs(20), "its share", || answers(&weir, 20, &["limited", "good", "429"])[0] >= 8);
}
