//! Configured namers: their order and their prefixes.

use super::{Table, dtab, path, shown};
use crate::domain::dtab::Origin;
use crate::domain::route::{Configured, Delegation, Kind, Limits, Resolver, Rewrite, Transform};

fn bind(namers: &[Configured], text: &str, name: &str) -> String {
    let table = Table::of_fs(&["a", "b"]).with_k8s(&["prod/http/shop", "default/http/a"]);
    let dtab = dtab(text, Origin::Base);
    let delegation = Delegation { dtabs: &[&dtab], namers, names: &table, limits: Limits::CONFIGURATION };
    shown(delegation.bind(&path(name)))
}

fn find(prefix: &str, kind: Kind) -> Configured {
    Configured { prefix: path(prefix), resolver: Resolver::Find(kind), transform: Transform::default() }
}

fn rewrite(prefix: &str, pattern: &str, name: &str) -> Configured {
    let rewrite = Rewrite::new(pattern, name).unwrap();
    Configured { prefix: path(prefix), resolver: Resolver::Rewrite(rewrite), transform: Transform::default() }
}

#[test]
fn a_configured_prefix_names_the_namer() {
    let namers = [
        find("/disco/files", Kind::Fs),
        find("/k", Kind::K8s),
        find("/p", Kind::K8sNamespace("prod".into())),
    ];
    for (name, expected) in [
        ("/#/disco/files/a/x", "/#/disco/files/a[/x]"),
        ("/#/disco/a", "~"),
        ("/#/io.l5d.fs/a", "~"),
        ("/disco/files/a", "~"),
        ("/#/k/prod/http/shop/v1", "/#/k/prod/http/shop[/v1]"),
        ("/#/k/prod/http", "~"),
        ("/#/p/http/shop", "/#/p/http/shop"),
    ] {
        assert_eq!(bind(&namers, "", name), expected, "{name}");
    }
}

#[test]
fn the_next_namer_is_asked_when_one_says_neg() {
    let namers = [find("/n", Kind::Host), find("/n", Kind::Fs)];
    assert_eq!(bind(&namers, "", "/#/n/b"), "/#/n/b");
    assert_eq!(bind(&namers, "", "/#/n/c"), "~");
}

#[test]
fn a_rewriting_namer_that_matches_decides() {
    let namers = [rewrite("/r", "/x/{n}", "/f/{n}"), rewrite("/r", "/{any}", "/f/b"), find("/fs", Kind::Fs)];
    let dtab = "/f => /#/fs";
    assert_eq!(bind(&namers, dtab, "/#/r/x/a"), "/#/fs/a");
    assert_eq!(bind(&namers, dtab, "/#/r/y"), "/#/fs/b");
    assert_eq!(
        bind(&namers, dtab, "/#/r/x/none"),
        "~",
        "a rewritten name that does not exist is not tried anew"
    );
}

#[test]
fn a_rewriting_namer_that_rewrites_its_own_names_is_a_circle() {
    let namers = [rewrite("/r", "/{n}", "/#/r/{n}")];
    let error = bind(&namers, "", "/#/r/a");
    assert_eq!(error, "error: the dtab goes in a circle: /#/r/a -> /#/r/a (given up after 101 names)");
}
