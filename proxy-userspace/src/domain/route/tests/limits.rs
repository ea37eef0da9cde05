//! Limits: delegation always ends, with a message.

use std::time::Instant;

use super::{Table, dtab, path, shown};
use crate::domain::dtab::Origin;
use crate::domain::route::{Configured, Delegation, Limits};

/// The result for `name`, the same from `bind` and from `explain`.
fn bind(text: &str, name: &str, limits: Limits) -> String {
    let table = Table::of_fs(&["a"]);
    let dtab = dtab(text, Origin::Request);
    let namers = Configured::defaults();
    let delegation = Delegation { dtabs: &[&dtab], namers: &namers, names: &table, limits };
    let explanation = delegation.explain(&path(name));
    let text = explanation.to_string();
    assert!(text.len() < 4 << 20, "{} bytes of explanation", text.len());
    let result = delegation.bind(&path(name));
    assert_eq!(explanation.result, result);
    shown(result)
}

#[test]
fn exponential_alternations_end_in_an_error() {
    let begun = Instant::now();
    let doubling: String = (0..60).map(|at| format!("/n{at} => /n{0} | /n{0} ;", at + 1)).collect();
    let said = bind(&doubling, "/n0", Limits::CONFIGURATION);
    assert_eq!(said, "error: the dtab leads to too many alternatives (over 10000 steps)");
    let said = bind("/a => /a & /a", "/a", Limits::REQUEST);
    assert_eq!(
        said,
        "error: the dtab leads to too many alternatives (over 2000 steps), for it goes in a circle: /a -> /a"
    );
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}

#[test]
fn the_deepest_dtab_does_not_exhaust_the_stack() {
    // A test thread has a stack of 2 MiB, as a worker has.
    let nested = |levels: usize| format!("{}/a{}", "(/x | ".repeat(levels), ")".repeat(levels));
    let deep = "error: the dtab's alternatives lie more than 450 deep, for it goes in a circle: /a -> /a";
    // A union member with a cycle is dropped, even if the other member does not exist.
    for (text, expected) in [
        (nested(30), deep),
        (nested(30).replace('|', "&"), deep),
        (nested(2).replace('|', "&"), "~"),
        ("(/x | (/y & (/z | /a)))".to_owned(), deep),
    ] {
        assert_eq!(bind(&format!("/a => {text}"), "/a", Limits::CONFIGURATION), expected, "{text}");
    }
}

#[test]
fn a_name_that_grows_is_stopped() {
    let long = "x".repeat(500);
    let said = bind(&format!("/a => /a/{long}"), "/a", Limits::CONFIGURATION);
    assert_eq!(said, "error: the name has, or grows to, more than 2048 bytes");
    let said = bind("", &format!("/{}", "x".repeat(3000)), Limits::CONFIGURATION);
    assert_eq!(said, "error: the name has, or grows to, more than 2048 bytes");
}

#[test]
fn places_have_a_limit() {
    let many: Vec<String> = (0..300).map(|at| format!("/$/inet/h{at}/1")).collect();
    let said = bind(&format!("/a => {}", many.join(" | ")), "/a", Limits::CONFIGURATION);
    assert_eq!(said, "error: the dtab leads one name to more than 256 places");
}

#[test]
fn five_hundred_entries_for_one_name_are_within_the_limits() {
    let text: String = (0..500).map(|at| format!("/svc => /#/io.l5d.fs/none{at} ;")).collect();
    assert_eq!(
        bind(&format!("/svc => /#/io.l5d.fs/a ; {text}"), "/svc", Limits::CONFIGURATION),
        "/#/io.l5d.fs/a"
    );
}
