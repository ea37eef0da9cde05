//! The grammar of linkerd's dtabs, rule by rule.

use super::{parse, tree};
use crate::domain::dtab::{BASE, Bounds, Dtab, NameTree, Origin, Prefix};

/// The dtab parsed from `text`, printed.
fn read(text: &str) -> String {
    parse(text).map_or_else(|error| format!("error: {error}"), |dtab| dtab.to_string())
}

fn read_tree(text: &str) -> String {
    tree(text).map_or_else(|error| format!("error: {error}"), |tree| format!("{tree:?}"))
}

#[test]
fn entries_are_separated_by_semicolons() {
    for (text, printed) in [
        ("", ""),
        (" \n\t\r\n ", ""),
        ("/a => /b", "/a => /b"),
        ("/a=>/b", "/a => /b"),
        ("/a => /b;", "/a => /b"),
        ("/a => /b ; /c => /d ;\n", "/a => /b; /c => /d"),
        ("/ => /b", "/ => /b"),
        ("/a => /", "/a => /"),
    ] {
        assert_eq!(read(text), printed, "{text}");
    }
}

#[test]
fn prefixes_have_wildcards() {
    for text in ["/*", "/http/*/*", "/*/a", "/a/*"] {
        let prefix = Prefix::parse(text, &Bounds::REQUEST).unwrap();
        assert_eq!(prefix.to_string(), text);
    }
    let prefix = Prefix::parse("/http/*/GET", &Bounds::REQUEST).unwrap();
    let matches = |name: &str| prefix.matches(name.parse::<crate::domain::name::Path>().unwrap().labels());
    assert!(matches("/http/1.1/GET"));
    assert!(matches("/http/1.1/GET/host"));
    assert!(!matches("/http/1.1/POST"));
    assert!(!matches("/http/1.1"));
    assert!(!matches("/http/1.1/get"), "labels are case-sensitive");
}

#[test]
fn unions_bind_tighter_than_alternatives() {
    for (text, shape) in [
        ("/a", "Leaf(/a)"),
        ("!", "Fail"),
        ("~", "Neg"),
        ("$", "Empty"),
        ("(((/a)))", "Leaf(/a)"),
        ("/a | /b", "Alt([Leaf(/a), Leaf(/b)])"),
        ("/a|/b|~", "Alt([Leaf(/a), Leaf(/b), Neg])"),
        ("(/a | /b) | /c", "Alt([Alt([Leaf(/a), Leaf(/b)]), Leaf(/c)])"),
    ] {
        assert_eq!(read_tree(text), shape, "{text}");
    }
    let NameTree::Alt(members) = tree("/a & /b | /c").unwrap() else { panic!("no alternatives") };
    assert!(matches!(&members[..], [NameTree::Union(both), NameTree::Leaf(_)] if both.len() == 2));
    let NameTree::Union(members) = tree("/a & (/b | /c)").unwrap() else { panic!("no union") };
    assert!(matches!(&members[1].tree, NameTree::Alt(both) if both.len() == 2));
}

#[test]
fn weights_are_decimals() {
    let weights = |text: &str| match tree(text) {
        Ok(NameTree::Union(members)) => members.iter().map(|member| member.weight).collect(),
        other => panic!("{text}: {other:?}"),
    };
    for (text, expected) in [
        ("/a & /b", vec![1.0, 1.0]),
        ("0.1 * /a & 0.9 * /b", vec![0.1, 0.9]),
        (".5*/a & 5. * /b", vec![0.5, 5.0]),
        ("0 * /a & 1 * /b", vec![0.0, 1.0]),
        ("007 * /a & 2 * (/b | /c)", vec![7.0, 2.0]),
        ("1 * ! & 2 * ~ & 3 * $", vec![1.0, 2.0, 3.0]),
    ] {
        let read: Vec<f64> = weights(text);
        assert_eq!(read, expected, "{text}");
    }
}

#[test]
fn a_union_of_one_loses_its_weight() {
    assert_eq!(read_tree("0.3 * /a"), "Leaf(/a)");
    assert_eq!(read_tree("0 * /a"), "Leaf(/a)");
    assert_eq!(read("/x => 0.3 * /a | 2 * /b"), "/x => /a | /b");
}

#[test]
fn comments_stand_where_white_space_may() {
    for (text, printed) in [
        ("# nothing", ""),
        ("# a\n/a => /b # c ; /d => /e\n", "/a => /b"),
        ("/a # x\n => # y\n /b # z\n | # w\n /c", "/a => /b | /c"),
        ("/a#b => /c#d ;#e", "/a#b => /c#d"),
        ("/#/io.l5d.fs => /b", "/#/io.l5d.fs => /b"),
        ("/a => 0.5 # half\n * /b & /c", "/a => 0.5 * /b & /c"),
    ] {
        assert_eq!(read(text), printed, "{text}");
    }
}

#[test]
fn printed_parentheses_are_those_that_matter() {
    for text in [
        "/x => /a | /b & /c | ~",
        "/x => (/a | /b) | /c",
        "/x => (/a | /b) & 0.25 * /c",
        "/x => (/a & /b) & /c",
        "/x => 0.5 * ($ | !) & 2 * (/a & 3 * /b)",
        "/a\\x20b/* => /\\xff",
    ] {
        assert_eq!(read(text), text);
    }
}

#[test]
fn the_base_dtab_reads() {
    let base = Dtab::base();
    assert_eq!(base.entries.len(), 3, "{BASE}");
    assert_eq!(base.to_string(), "/svc => /$/weir.dns; /svc => /$/weir.host; /svc => /#/io.l5d.fs");
    assert_eq!(format!("{base:#}").lines().count(), 3);
}

#[test]
fn kismatics_dtab_reads() {
    let text = "/srv        => /#/io.l5d.k8s/default/http ;
        /host       => /srv ;
        /http/*/*   => /host ;
        /host/world => /srv/world-v1 ;";
    let dtab = parse(text).unwrap();
    let places: Vec<String> = dtab.entries.iter().map(|entry| entry.at.to_string()).collect();
    assert_eq!(places, ["1:1", "2:9", "3:9", "4:9"]);
    assert!(dtab.entries.iter().all(|entry| entry.origin == Origin::Base));
}
