//! Endpoints that refuse at once.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::time::within;
use e2e::{Answer, Backend, Clock, Load, Request, Weir, eventually};

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

/// A server whose first answer has this status and `Retry-After`, and whose others are `ok`.
fn once(status: u16, retry_after: &str) -> Backend {
    let (asked, retry_after) = (AtomicBool::new(false), retry_after.to_owned());
    let script = move |_: &_| match asked.swap(true, Ordering::SeqCst) {
        false => Answer::status(status).with("Retry-After", &retry_after),
        true => Answer::ok("ok"),
    };
    Backend::http().script(script).start()
}

/// A weir with two endpoints, the first of which has given its first answer.
fn after_the_first(limits: &str, first: &Backend, second: &Backend) -> Weir {
    let weir = Weir::new().set("limits", limits).service("hello", &[first.addr(), second.addr()]).start();
    eventually("its first answer", || {
        weir.get("http://hello/");
        first.count() == 1
    });
    weir
}

#[test]
fn an_endpoint_that_asks_to_be_left_alone_is_for_as_long_as_it_says() {
    for (status, retry_after, is_left_alone) in [
        (429, "600", true),
        (503, "600", true),
        (429, "Tue, 31 Dec 2999 23:59:59 GMT", true),
        // These say nothing: the field is no time, or past; or the status does not ask for that.
        (429, "soon", false),
        (429, "0", false),
        (429, "Sun, 06 Nov 1994 08:49:37 GMT", false),
        (404, "600", false),
    ] {
        let (first, second) = (once(status, retry_after), named("ok"));
        let weir = after_the_first("{}", &first, &second);
        let left = weir.endpoint(first.addr())["leftAloneSeconds"].as_f64();
        assert_eq!(left.is_some(), is_left_alone, "{status} {retry_after}: {left:?}");
        assert!(left.is_none_or(|left| left <= 60.0), "no longer than limits.retryAfter: {left:?}");
        let endpoint = first.addr().to_string();
        let gauge = weir.metric("weir_endpoint_left_alone", &[("endpoint", &endpoint)]);
        assert_eq!(gauge, f64::from(u8::from(is_left_alone)), "{status} {retry_after}");
        let clock = Clock::start();
        answers(&weir, 50, &["ok"]);
        // A busy machine may make either of them eight times as slow as the other for a moment.
        let (few, many) = if clock.was_busy() { (20, 5) } else { (5, 15) };
        match is_left_alone {
            true => assert!(first.count() <= few, "{status} {retry_after}: {}", first.count()),
            false => assert!(first.count() >= many, "{status} {retry_after}: {}", first.count()),
        }
    }
}

#[test]
fn nobody_is_left_alone_for_longer_than_the_settings_say() {
    let (first, second) = (once(429, "600"), named("ok"));
    let weir = after_the_first("{ retryAfter: 1s }", &first, &second);
    within(Duration::from_secs(20), "its share", || {
        answers(&weir, 20, &["ok"]);
        first.count() >= 10
    });
    let (first, second) = (once(429, "600"), named("ok"));
    let weir = after_the_first("{ retryAfter: 0s }", &first, &second);
    let clock = Clock::start();
    answers(&weir, 50, &["ok"]);
    assert!(first.count() >= if clock.was_busy() { 5 } else { 15 }, "{}", first.count());
}

#[test]
fn where_every_endpoint_asks_to_be_left_alone_requests_go_on_to_all_of_them() {
    let refusing = || Backend::http().answer(too_many().with("Retry-After", "600")).start();
    let (one, two) = (refusing(), refusing());
    let weir = Weir::serving("hello", &[one.addr(), two.addr()]);
    answers(&weir, 60, &["429"]);
    assert!(one.count() >= 15 && two.count() >= 15, "{} and {}", one.count(), two.count());
}
