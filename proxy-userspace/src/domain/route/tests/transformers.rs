//! Transformers of namers, rule by rule.

use super::{Table, dtab, path};
use crate::domain::catalog::{Condition, Endpoint};
use crate::domain::dtab::{NameTree, Origin};
use crate::domain::route::*;

/// A chain, each written `port 8080`, `localhost`, `host 10.0.0.1`, `replace PATH` or `const PATH`.
fn chain(all: &[&str]) -> Transform {
    let mut chain = Transform::default();
    for one in all {
        match one.split_once(' ').unwrap_or((one, "")) {
            ("port", port) => {
                chain.then(Transformer::Port(port.parse().unwrap()), &path(&format!("/io.l5d.port/{port}")));
            }
            ("localhost", _) => chain.then(Transformer::Localhost, &path("/io.l5d.localhost")),
            ("host", host) => {
                chain.then(Transformer::Host(host.parse().unwrap()), &path("/io.l5d.specificHost"));
            }
            ("replace", to) => chain.instead(When::Found, &path(to), &path("/io.l5d.replace")).unwrap(),
            ("const", to) => chain.instead(When::Always, &path(to), &path("/io.l5d.const")).unwrap(),
            _ => panic!("{one}"),
        }
    }
    chain
}

/// The result for `name` with a files namer at `/#/t` that has the chain: id, residual, and destination.
fn bind(all: &[&str], name: &str) -> String {
    let table = Table::of_fs(&["a"]);
    let namers =
        [Configured { prefix: path("/t"), resolver: Resolver::Find(Kind::Fs), transform: chain(all) }];
    let dtab = dtab("/svc => /#/t", Origin::Base);
    let delegation =
        Delegation { dtabs: &[&dtab], namers: &namers, names: &table, limits: Limits::CONFIGURATION };
    let result = delegation.bind(&path(name));
    assert_eq!(delegation.explain(&path(name)).result, result, "an explanation is of what happens");
    match result.unwrap() {
        NameTree::Leaf(bound) => {
            let place = match bound.target {
                Target::Port(port) => port,
                Target::Outside(outside) => outside.to_string(),
            };
            format!("{}[{}] {place}", bound.id, bound.residual)
        }
        other => other.to_string(),
    }
}

#[test]
fn each_transformer_puts_its_name_before_the_id_and_the_residual_stays() {
    for (chain, expected) in [
        (&[][..], "/#/t/a[/x] a"),
        (&["port 81"], "/%/io.l5d.port/81/#/t/a[/x] a [Port(81)]"),
        (&["localhost"], "/%/io.l5d.localhost/#/t/a[/x] a [Localhost]"),
        (&["host 10.0.0.1"], "/%/io.l5d.specificHost/#/t/a[/x] a [Host(10.0.0.1)]"),
        (&["localhost", "port 81"], "/%/io.l5d.port/81/%/io.l5d.localhost/#/t/a[/x] a [Localhost, Port(81)]"),
    ] {
        assert_eq!(bind(chain, "/svc/a/x"), expected, "{chain:?}");
    }
}

#[test]
fn replace_takes_the_place_of_what_is_found_and_const_of_everything() {
    for (chain, name, expected) in [
        (
            &["replace /$/inet/1.2.3.4/80"][..],
            "/svc/a/x",
            "/%/io.l5d.replace/$/inet/1.2.3.4/80[/] 1.2.3.4:80",
        ),
        (&["replace /$/inet/1.2.3.4/80"], "/svc/none", "~"),
        (&["const /$/inet/1.2.3.4/80"], "/svc/a", "/%/io.l5d.const/$/inet/1.2.3.4/80[/] 1.2.3.4:80"),
        (&["const /$/inet/1.2.3.4/80"], "/svc/none", "/%/io.l5d.const/$/inet/1.2.3.4/80[/] 1.2.3.4:80"),
        (&["port 1", "const /$/inet/h/80/y"], "/svc/a/x", "/%/io.l5d.const/$/inet/h/80[/y] h:80"),
        (
            &["replace /$/io.buoyant.rinet/80/h"],
            "/svc/a",
            "/%/io.l5d.replace/$/io.buoyant.rinet/80/h[/] h:80",
        ),
    ] {
        assert_eq!(bind(chain, name), expected, "{chain:?} {name}");
    }
}

#[test]
fn a_replacement_has_to_be_an_address_by_itself() {
    for to in ["/svc/other", "/#/t/a", "/$/weir.host/a", "/$/inet/h", "/$/inet/h/99999", "/$/nil", "/"] {
        let done = Transform::default().instead(When::Always, &path(to), &path("/p"));
        assert!(done.is_err(), "{to}");
    }
}

/// The endpoints (written `10.0.0.1:80`) after the chain, on a node with the address 10.0.0.9.
fn endpoints(all: &[&str], before: &[&str]) -> Vec<String> {
    let before: Vec<Endpoint> = before.iter().map(|it| Endpoint::at(it.parse().unwrap())).collect();
    let after = transform(chain(all).steps(), &before, &["10.0.0.9".parse().unwrap()]);
    after.iter().map(|it| format!("{} {}", it.address, it.weight)).collect()
}

#[test]
fn endpoints_are_changed_and_sorted_out_in_order() {
    let before = ["10.0.0.1:80", "10.0.0.1:81", "10.0.0.9:82", "127.0.0.1:83", "[fd00::1]:80"];
    for (chain, expected) in [
        (&["port 7"][..], &["10.0.0.1:7 2", "10.0.0.9:7 1", "127.0.0.1:7 1", "[fd00::1]:7 1"][..]),
        (&["localhost"], &["10.0.0.9:82 1", "127.0.0.1:83 1"]),
        (&["localhost", "port 7"], &["10.0.0.9:7 1", "127.0.0.1:7 1"]),
        (&["host 10.0.0.1"], &["10.0.0.1:80 1", "10.0.0.1:81 1"]),
        (&["host ::ffff:10.0.0.1"], &["10.0.0.1:80 1", "10.0.0.1:81 1"]),
        (&["host fd00::1", "port 7"], &["[fd00::1]:7 1"]),
        (&["host 10.0.0.1", "host 10.0.0.9"], &[]),
    ] {
        assert_eq!(endpoints(chain, &before), expected, "{chain:?}");
    }
}

#[test]
fn endpoints_that_come_to_be_one_are_as_well_as_the_better_of_them() {
    let address = |port| format!("10.0.0.1:{port}").parse().unwrap();
    let not_ready = Endpoint { condition: Condition::NotReady, ..Endpoint::at(address(80)) };
    let after = transform(&[Transformer::Port(7)], &[not_ready, Endpoint::at(address(81))], &[]);
    assert_eq!((after.len(), after[0].condition), (1, Condition::Ready));
}
