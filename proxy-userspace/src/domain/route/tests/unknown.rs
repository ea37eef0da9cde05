//! Names whose existence is not known yet: known alternatives are served, the others are not denied.

use super::{Table, bind_in, dtab, path};
use crate::domain::dtab::{BASE, NameTree, Origin};
use crate::domain::route::*;

/// A table in which only files are known.
fn table() -> Table {
    Table { awaits_k8s: true, ..Table::of_fs(&["a"]) }
}

fn explain(text: &str, name: &str) -> Explanation<String> {
    let (dtab, namers) = (dtab(text, Origin::Base), Configured::defaults());
    let names = &table();
    Delegation { dtabs: &[&dtab], namers: &namers, names, limits: Limits::CONFIGURATION }.explain(&path(name))
}

#[test]
fn what_is_not_known_yet_makes_room_for_what_is() {
    for (text, name, expected) in [
        (BASE, "/svc/a", "/#/io.l5d.fs/a"),
        (BASE, "/svc/example.com", "/$/weir.dns/example.com"),
        (BASE, "/svc/hello", "~"),
        ("/s => /#/io.l5d.k8s/default/http/hello | /#/io.l5d.fs/a", "/s", "/#/io.l5d.fs/a"),
        ("/s => 9 * /#/io.l5d.k8s/default/http/hello & /#/io.l5d.fs/a", "/s", "/#/io.l5d.fs/a"),
        ("/s => /#/io.l5d.k8s/default/http/hello | !", "/s", "!"),
    ] {
        assert_eq!(bind_in(&table(), text, name), expected, "{text} {name}");
    }
}

#[test]
fn a_name_that_may_exist_is_not_said_not_to() {
    let expected = "\
/svc/hello
  base dtab, entry 3 (line 3, column 1): /svc => /#/io.l5d.fs
    /#/io.l5d.fs/hello
      namer /#/io.l5d.fs
        neg: Fs has no /hello
  base dtab, entry 2 (line 2, column 1): /svc => /$/weir.host
    /$/weir.host/hello
      namer /$/weir.host
        not known: Host has no /hello
  base dtab, entry 1 (line 1, column 1): /svc => /$/weir.dns
    /$/weir.dns/hello
      namer /$/weir.dns
        neg: Dns has no /hello
=> nothing yet: whether there is such a name is not known";
    let explanation = explain(BASE, "/svc/hello");
    assert_eq!(explanation.to_string(), expected);
    assert_eq!(explanation.root.verdict, Verdict::Unknown { why: None });
    assert_eq!(explanation.reasons(), ["Fs has no /hello", "Host has no /hello", "Dns has no /hello"]);
    let union = explain("/s => /#/io.l5d.k8s/a/b/c & /#/io.l5d.k8s/a/b/d", "/s");
    assert_eq!(union.root.verdict, Verdict::Unknown { why: None }, "{union}");
}

#[test]
fn what_is_found_or_denied_for_certain_is_said_as_ever() {
    assert!(matches!(explain(BASE, "/svc/a").root.verdict, Verdict::Bound { .. }));
    assert_eq!(explain("/s => /#/io.l5d.fs/none", "/s").root.verdict, Verdict::Neg { why: None });
    assert_eq!(explain("/s => /#/io.l5d.k8s/a/b/c | !", "/s").root.verdict, Verdict::Fail);
    assert_eq!(
        explain("/s => /#/io.l5d.k8s/a/b/c | /$/nil", "/s").root.verdict,
        Verdict::Empty { why: None }
    );
}

#[test]
fn a_transformer_of_what_is_found_leaves_it_alone() {
    let mut transform = Transform::default();
    transform.instead(When::Found, &path("/$/inet/h/1"), &path("/io.l5d.replace")).unwrap();
    let namers = [Configured { prefix: path("/k"), resolver: Resolver::Find(Kind::K8s), transform }];
    let (dtab, names) = (dtab("/s => /#/k/a/b/c", Origin::Base), &table());
    let delegation = Delegation { dtabs: &[&dtab], namers: &namers, names, limits: Limits::CONFIGURATION };
    assert_eq!(delegation.bind(&path("/s")), Ok(NameTree::Neg));
    assert_eq!(delegation.explain(&path("/s")).root.verdict, Verdict::Unknown { why: None });
}
