//! The breaker: five failures in a row eject an endpoint, one good probe brings it back, the last one stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::backend::Then;
use e2e::time::within;
use e2e::{Answer, Backend, Weir, eventually};

const FOR_EVER: &str = "{ backoff: { min: 1h, max: 1h } }";
/// The longest that an endpoint may take to be asked some dozens of times: one that a busy machine made slow once is
/// avoided until its peak has decayed.
const OFTEN: Duration = Duration::from_secs(60);
const QUICK: &str = "{ backoff: { min: 100ms, max: 200ms } }";

/// A backend that answers 500, or resets, until told to be well.
fn sick(then: Then) -> (Backend, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(false));
    let now_well = well.clone();
    let backend = Backend::http().script(move |_| match (now_well.load(Ordering::SeqCst), then) {
        (true, _) => Answer::ok("well"),
        (false, Then::Keep) => Answer::status(500),
        (false, then) => Answer::raw("").then(then),
    });
    (backend.start(), well)
}

#[test]
fn five_failures_in_a_row_eject_an_endpoint() {
    for then in [Then::Keep, Then::Reset, Then::Close] {
        let ((bad, _), good) = (sick(then), Backend::patient());
        let weir = Weir::new().set("breaker", FOR_EVER).service("hello", &[bad.addr(), good.addr()]).start();
        eventually("its ejection", || {
            weir.get("http://hello/");
            weir.is_ejected(bad.addr())
        });
        assert_eq!(bad.count(), 5, "after {then:?}");
        for _ in 0..50 {
            weir.get("http://hello/").expect_body("ok");
        }
        assert_eq!(bad.count(), 5, "it was asked while ejected");
        assert!(!weir.is_ejected(good.addr()));
    }
}

#[test]
fn a_success_between_failures_begins_the_count_anew() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let flaky = Backend::http().script(move |_| {
        let every_fifth = count.fetch_add(1, Ordering::SeqCst) % 5 == 4;
        if every_fifth { Answer::ok("ok") } else { Answer::status(500) }
    });
    let (flaky, good) = (flaky.start(), Backend::patient());
    let weir = Weir::new().set("breaker", FOR_EVER).service("hello", &[flaky.addr(), good.addr()]).start();
    within(OFTEN, "forty requests to it", || {
        weir.get("http://hello/");
        assert!(!weir.is_ejected(flaky.addr()));
        flaky.count() >= 40
    });
}

#[test]
fn answers_of_4xx_are_no_failures() {
    let (denies, good) = (Backend::http().answer(Answer::status(404)).start(), Backend::patient());
    let weir = Weir::new().set("breaker", FOR_EVER).service("hello", &[denies.addr(), good.addr()]).start();
    within(OFTEN, "twenty requests to it", || {
        weir.get("http://hello/");
        denies.count() >= 20
    });
    assert!(!weir.is_ejected(denies.addr()));
    assert_eq!(weir.failures(denies.addr()), 0);
}

#[test]
fn an_ejected_endpoint_comes_back_when_it_is_well() {
    let ((bad, well), good) = (sick(Then::Keep), Backend::patient());
    let weir = Weir::new().set("breaker", QUICK).service("hello", &[bad.addr(), good.addr()]).start();
    let get = || weir.get("http://hello/").text();
    eventually("its ejection", || {
        get();
        weir.is_ejected(bad.addr())
    });
    well.store(true, Ordering::SeqCst);
    eventually("its return", || get() == "well");
    eventually("a closed breaker", || {
        get();
        !weir.is_ejected(bad.addr())
    });
}

#[test]
fn the_last_usable_endpoint_is_never_ejected() {
    let (only, well) = sick(Then::Keep);
    let weir = Weir::new().set("breaker", FOR_EVER).service("hello", &[only.addr()]).start();
    for _ in 0..20 {
        weir.get("http://hello/").expect_status(500);
    }
    assert!(!weir.is_ejected(only.addr()));
    well.store(true, Ordering::SeqCst);
    weir.get("http://hello/").expect_body("well");
}

#[test]
fn when_every_endpoint_fails_one_is_asked_all_the_same() {
    let ((one, _), (two, two_well)) = (sick(Then::Keep), sick(Then::Keep));
    let weir = Weir::new().set("breaker", FOR_EVER).service("hello", &[one.addr(), two.addr()]).start();
    for _ in 0..40 {
        weir.get("http://hello/").expect_status(500);
    }
    assert!(!weir.is_ejected(one.addr()) || !weir.is_ejected(two.addr()), "the last usable one was ejected");
    drop(one);
    two_well.store(true, Ordering::SeqCst);
    // The first refuses now, and the second, ejected or not, answers.
    weir.get("http://hello/").expect_body("well");
}

#[test]
fn how_many_failures_eject_is_a_setting() {
    let ((bad, _), good) = (sick(Then::Keep), Backend::patient());
    let breaker = "{ failures: 2, backoff: { min: 1h, max: 1h } }";
    let weir = Weir::new().set("breaker", breaker).service("hello", &[bad.addr(), good.addr()]).start();
    eventually("its ejection", || {
        weir.get("http://hello/");
        weir.is_ejected(bad.addr())
    });
    assert_eq!(bad.count(), 2);
}
