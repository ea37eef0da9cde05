//! The two families of a name's addresses, of which one may be missing, late or of no use.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::Said;
use e2e::time::within;

use super::{four, scene, six};

#[test]
fn the_addresses_of_one_family_are_used_whatever_becomes_of_the_other() {
    let Some(scene) = scene() else { return };
    let _backends = (four(&scene.one), six(&scene.two));
    let a = || Said::Addresses(vec![scene.one.v4()], 60);
    let aaaa = || Said::Addresses(vec![scene.two.v6()], 60);
    let others = || {
        [
            Said::Silence,
            Said::Failure,
            Said::NoSuchName(60),
            Said::addresses(&[], 60),
            Said::Truncated(vec![], 60),
        ]
    };
    let mut wrong = Vec::new();
    let mut number = 0;
    let mut ask = |said: Said, expected: &str| {
        number += 1;
        let name = format!("name{number}.test");
        scene.dns.says(&name, said.clone());
        let answer = scene.weir.get(&format!("http://{name}/"));
        if answer.text() != expected {
            wrong.push(format!("{said:?}: {} {}", answer.status, answer.text()));
        }
    };
    for other in others() {
        ask(Said::each(a(), other), "one");
    }
    for other in others() {
        // That IPv4 has no such name holds for IPv6 as well, but not for a server that says so of one alone.
        ask(Said::each(other, aaaa()), "two");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_family_that_came_late_is_used_later() {
    let Some(scene) = scene() else { return };
    let _backends = (four(&scene.one), six(&scene.two));
    let a = Said::Addresses(vec![scene.one.v4()], 1);
    let aaaa = Said::Addresses(vec![scene.two.v6()], 60);
    scene.dns.says("late.test", Said::each(a.clone(), aaaa.clone().late(Duration::from_secs(1))));
    scene.weir.get("http://late.test/").expect_body("one");
    scene.dns.says("late.test", Said::each(a, aaaa));
    let mut seen = BTreeSet::new();
    within(Duration::from_secs(20), "both families", || {
        seen.insert(scene.weir.get("http://late.test/").text());
        seen.len() == 2
    });
}

#[test]
fn a_name_without_an_address_is_denied_only_when_both_families_have_said_so() {
    let Some(scene) = scene() else { return };
    let none = || Said::addresses(&[], 60);
    for (number, (said, why)) in [
        (none(), "DNS knows the name, and no address of it"),
        (Said::each(Said::NoSuchName(60), Said::Silence), "DNS knows no such name"),
        (Said::each(none(), Said::Silence), "DNS did not answer"),
        (Said::each(Said::Silence, none()), "DNS did not answer"),
        (Said::each(Said::Failure, none()), "DNS did not answer"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("none{number}.test");
        scene.dns.says(&name, said.clone());
        let answer = scene.weir.get(&format!("http://{name}/"));
        answer.expect_status(502);
        assert!(answer.text().contains(why), "{said:?}: {}", answer.text());
    }
}
