//! Evaluation, rule by rule, in the order of finagle's.

use super::{Table, bind_in, bind_over};

fn table() -> Table {
    Table::of_fs(&["a", "b", "c", "world", "world-v1"]).with_k8s(&[
        "default/http/hello",
        "default/http/world",
        "prod/admin/shop",
    ])
}

/// Checks rows of `(dtab, name, expected result)`.
fn check(rows: &[(&str, &str, &str)]) {
    for (dtab, name, expected) in rows {
        assert_eq!(bind_in(&table(), dtab, name), *expected, "{name} by {dtab}");
    }
}

#[test]
fn an_entry_matches_when_its_prefix_equals_the_leading_labels() {
    check(&[
        ("/svc => /#/io.l5d.fs", "/svc/a", "/#/io.l5d.fs/a"),
        ("/svc => /#/io.l5d.fs", "/svcs/a", "~"),
        ("/svc/a => /#/io.l5d.fs/b", "/svc/a", "/#/io.l5d.fs/b"),
        ("/svc/a => /#/io.l5d.fs/b", "/svc", "~"),
        ("/Svc => /#/io.l5d.fs", "/svc/a", "~"),
        ("/svc/*/x => /#/io.l5d.fs/a", "/svc/whatever/x", "/#/io.l5d.fs/a"),
        ("/ => !", "/whatever", "!"),
    ]);
}

#[test]
fn the_rest_of_the_name_is_appended_to_every_leaf() {
    check(&[
        ("/svc => /#/io.l5d.fs/a", "/svc/x/y", "/#/io.l5d.fs/a[/x/y]"),
        ("/svc => /#/io.l5d.fs | /$/inet/h/1", "/svc/a/x", "/#/io.l5d.fs/a[/x]"),
        ("/svc => /$/inet/h/1 | /#/io.l5d.fs", "/svc/a/x", "/$/inet/h/1[/a/x] | /#/io.l5d.fs/a[/x]"),
        ("/s => 1 * /#/io.l5d.fs & 3 * /$/inet/h/1", "/s/a", "/#/io.l5d.fs/a & 3 * /$/inet/h/1[/a]"),
        ("/http/*/* => /#/io.l5d.fs", "/http/1.1/GET/a/z", "/#/io.l5d.fs/a[/z]"),
    ]);
}

#[test]
fn of_several_matches_the_last_written_is_first() {
    check(&[
        ("/s => /#/io.l5d.fs/a ; /s => /#/io.l5d.fs/b", "/s", "/#/io.l5d.fs/b"),
        ("/s => /#/io.l5d.fs/a ; /s => /#/io.l5d.fs/none", "/s", "/#/io.l5d.fs/a"),
        ("/s/x => /#/io.l5d.fs/a ; /s => /#/io.l5d.fs/b", "/s/x", "/#/io.l5d.fs/b[/x]"),
        ("/s => /$/inet/h/1 ; /s => /$/inet/h/2", "/s", "/$/inet/h/2 | /$/inet/h/1"),
    ]);
}

#[test]
fn the_whole_dtab_is_scanned_wherever_an_entry_stands() {
    check(&[
        ("/b => /#/io.l5d.fs ; /a => /b", "/a/a", "/#/io.l5d.fs/a"),
        ("/a => /b ; /b => /#/io.l5d.fs", "/a/a", "/#/io.l5d.fs/a"),
    ]);
}

#[test]
fn a_requests_dtab_comes_after_the_base_dtab() {
    let base = "/svc => /#/io.l5d.fs";
    for (local, name, expected) in [
        ("", "/svc/world", "/#/io.l5d.fs/world"),
        ("/svc/world => /svc/world-v1", "/svc/world", "/#/io.l5d.fs/world-v1"),
        ("/svc/world => /svc/world-v1", "/svc/a", "/#/io.l5d.fs/a"),
        ("/svc/world => /svc/world-v2", "/svc/world", "/#/io.l5d.fs/world"),
        ("/svc/world => !", "/svc/world", "!"),
        ("/svc => /else ; /else => /#/io.l5d.fs/b", "/svc/world", "/#/io.l5d.fs/b[/world]"),
    ] {
        assert_eq!(bind_over(&table(), base, local, name), expected, "{name} by {local}");
    }
}

#[test]
fn a_result_is_looked_up_again_from_the_start() {
    let kismatic = "/srv => /#/io.l5d.k8s/default/http ; /host => /srv ; /http/*/* => /host ; \
        /host/world => /srv/world-v1";
    check(&[
        (kismatic, "/http/1.1/GET/hello", "/#/io.l5d.k8s/default/http/hello"),
        (kismatic, "/http/1.1/GET/world", "/#/io.l5d.k8s/default/http/world"),
        (kismatic, "/http/1.1/GET/hello.default", "~"),
        (kismatic, "/http/1.0/GET", "~"),
    ]);
    let both = Table::default().with_k8s(&["default/http/world", "default/http/world-v1"]);
    assert_eq!(bind_in(&both, kismatic, "/http/1.1/GET/world"), "/#/io.l5d.k8s/default/http/world-v1");
}

#[test]
fn a_loop_fails_at_depth_100_and_is_named() {
    check(&[
        ("/a => /a", "/a", "error: the dtab goes in a circle: /a -> /a (given up after 101 names)"),
        (
            "/a => /b ; /b => /c ; /c => /b",
            "/a",
            "error: the dtab goes in a circle: /b -> /c -> /b (given up after 101 names)",
        ),
        (
            "/a => /a | /#/io.l5d.fs/a",
            "/a",
            "error: the dtab goes in a circle: /a -> /a (given up after 101 names)",
        ),
    ]);
    let endless = bind_in(&table(), "/a => /a/x", "/a");
    assert!(
        endless.starts_with("error: the dtab leads to ever new names: /a -> /a/x -> /a/x/x"),
        "{endless}"
    );
}

#[test]
fn a_circle_behind_an_alternative_that_was_found_does_no_harm() {
    check(&[
        ("/a => /$/inet/h/1 | /a", "/a", "/$/inet/h/1"),
        ("/l => /l ; /a => /$/inet/h/1 | /l | /#/io.l5d.fs/a", "/a", "/$/inet/h/1"),
        (
            "/l => /l ; /a => ~ | /l | /#/io.l5d.fs/a",
            "/a",
            "error: the dtab goes in a circle: /l -> /l (given up after 101 names)",
        ),
    ]);
}

#[test]
fn a_place_that_is_named_twice_is_one_alternative() {
    check(&[("/a => /$/inet/h/1 | /$/inet/i/1 | /$/inet/h/1", "/a", "/$/inet/h/1 | /$/inet/i/1")]);
}

#[test]
fn a_hundred_names_one_after_the_other_are_allowed() {
    // The namer's name is the last one.
    let chain = |entries: usize| {
        let mut dtab: String = (1..entries).map(|at| format!("/n{at} => /n{} ;\n", at + 1)).collect();
        dtab += &format!("/n{entries} => /#/io.l5d.fs/a");
        bind_in(&table(), &dtab, "/n1")
    };
    assert_eq!(chain(99), "/#/io.l5d.fs/a");
    assert!(chain(100).starts_with("error: the dtab leads to ever new names"), "{}", chain(100));
}

#[test]
fn namers_are_consulted_only_where_no_entry_matches() {
    check(&[
        ("", "/#/io.l5d.fs/a", "/#/io.l5d.fs/a"),
        ("/#/io.l5d.fs/a => /#/io.l5d.fs/b", "/#/io.l5d.fs/a", "/#/io.l5d.fs/b"),
        ("/#/io.l5d.fs => ~", "/#/io.l5d.fs/a", "~"),
        ("/$/inet => /#/io.l5d.fs", "/$/inet/a", "/#/io.l5d.fs/a"),
        ("", "/nothing/of/the/kind", "~"),
        ("", "/", "~"),
        ("", "/#", "~"),
        ("", "/$", "~"),
        ("", "/#/unknown/a", "~"),
    ]);
}

#[test]
fn of_alternatives_the_first_that_is_not_neg_wins() {
    let fs = "/f => /#/io.l5d.fs ; /s => ";
    for (tree, expected) in [
        ("/f/none | /f/a | /f/b", "/#/io.l5d.fs/a"),
        ("~ | /f/a", "/#/io.l5d.fs/a"),
        ("/f/none | ~", "~"),
        ("/f/none | (/f/no | /f/b)", "/#/io.l5d.fs/b"),
    ] {
        check(&[(&format!("{fs}{tree}"), "/s", expected)]);
    }
}

#[test]
fn fail_stops_the_search() {
    check(&[
        ("/s => ! | /#/io.l5d.fs/a", "/s", "!"),
        ("/s => ~ | ! | /#/io.l5d.fs/a", "/s", "!"),
        ("/s => /#/io.l5d.fs/a ; /s => !", "/s", "!"),
        ("/s => /#/io.l5d.fs/a ; /s => /$/fail/why/ever", "/s", "!"),
        ("/s => /$/inet/h/1 | ! | /#/io.l5d.fs/a", "/s", "/$/inet/h/1 | !"),
    ]);
}

#[test]
fn empty_counts_as_found() {
    check(&[("/s => $ | /#/io.l5d.fs/a", "/s", "$"), ("/s => /#/io.l5d.fs/a ; /s => /$/nil/x", "/s", "$")]);
}

#[test]
fn members_of_a_union_that_are_neg_or_fail_drop_out() {
    let fs = "/f => /#/io.l5d.fs ; /s => ";
    for (tree, expected) in [
        ("1 * /f/a & 2 * /f/none & 3 * /f/b", "/#/io.l5d.fs/a & 3 * /#/io.l5d.fs/b"),
        ("/f/a & ! & /f/b", "/#/io.l5d.fs/a & /#/io.l5d.fs/b"),
        ("/f/none & !", "~"),
        ("! & !", "~"),
        ("~ & /f/none | /f/c", "/#/io.l5d.fs/c"),
        ("1 * $ & 9 * /f/a", "$ & 9 * /#/io.l5d.fs/a"),
    ] {
        check(&[(&format!("{fs}{tree}"), "/s", expected)]);
    }
}

#[test]
fn a_union_with_one_child_loses_its_weight() {
    check(&[
        ("/s => 0.3 * /#/io.l5d.fs/a & 0.7 * /#/io.l5d.fs/none", "/s", "/#/io.l5d.fs/a"),
        ("/s => 0 * /#/io.l5d.fs/a & 1 * /#/io.l5d.fs/none", "/s", "/#/io.l5d.fs/a"),
    ]);
}

#[test]
fn one_good_member_of_a_union_is_enough() {
    check(&[
        ("/l => /l ; /s => /l & /#/io.l5d.fs/a", "/s", "/#/io.l5d.fs/a"),
        ("/l => /l ; /s => /l & ~", "/s", "~"),
        (
            "/l => /l ; /s => /l & /l",
            "/s",
            "error: the dtab goes in a circle: /l -> /l (given up after 101 names)",
        ),
    ]);
}

#[test]
fn an_alternative_that_only_dns_can_deny_is_kept_with_those_after_it() {
    check(&[
        ("/s => /$/inet/h/1 | /#/io.l5d.fs/a | /#/io.l5d.fs/b", "/s", "/$/inet/h/1 | /#/io.l5d.fs/a"),
        ("/s => /$/inet/10.0.0.1/1 | /#/io.l5d.fs/a", "/s", "/$/inet/10.0.0.1/1"),
        ("/s => /$/inet/::1/1 | /#/io.l5d.fs/a", "/s", "/$/inet/::1/1"),
        ("/s => /$/inet/127.1/1 | /#/io.l5d.fs/a", "/s", "/$/inet/127.1/1"),
        (
            "/s => (/$/inet/h/1 & /$/inet/i/1) | /#/io.l5d.fs/a",
            "/s",
            "/$/inet/h/1 & /$/inet/i/1 | /#/io.l5d.fs/a",
        ),
        ("/s => (/$/inet/h/1 & /#/io.l5d.fs/a) | /#/io.l5d.fs/b", "/s", "/$/inet/h/1 & /#/io.l5d.fs/a"),
    ]);
}

#[test]
fn the_base_dtab_prefers_files_then_services_then_dns() {
    let base = crate::domain::dtab::BASE;
    check(&[
        (base, "/svc/world", "/#/io.l5d.fs/world"),
        (base, "/svc/hello", "/$/weir.host/hello"),
        (base, "/svc/example.com", "/$/weir.dns/example.com"),
        (base, "/svc/nowhere", "~"),
    ]);
}
