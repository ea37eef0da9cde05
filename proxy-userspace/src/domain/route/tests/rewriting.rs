//! `io.l5d.rewrite`.

use super::path;
use crate::domain::name::Scope;
use crate::domain::route::{BadRewrite, Rewrite};

fn rewrite(pattern: &str, name: &str, rest: &str) -> Option<String> {
    let rewrite = Rewrite::new(pattern, name).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    rewrite.apply(path(rest).labels(), &|_| Scope::Anywhere).map(|path| path.to_string())
}

#[test]
fn a_pattern_matches_as_a_prefix_and_the_residual_is_dropped() {
    for (pattern, name, rest, expected) in [
        ("/one/two", "/success", "/one/two/three", Some("/success")),
        ("/one/*/three", "/success", "/one/two/three", Some("/success")),
        ("/one/*/four", "/success", "/one/two/three", None),
        ("/one/two", "/success", "/one", None),
        ("/*", "/x", "/", None),
        ("/", "/x", "/a/b", Some("/x")),
        ("/a", "/", "/a", Some("/")),
        ("/a\\x2fb", "/x\\x2fy", "/a\\x2fb", Some("/x\\x2fy")),
    ] {
        assert_eq!(rewrite(pattern, name, rest).as_deref(), expected, "{pattern} on {rest}");
    }
}

#[test]
fn captures_fill_the_template_greedily() {
    for (pattern, name, rest, expected) in [
        ("/{foo}/*/three", "/success/{foo}", "/one/two/three", Some("/success/one")),
        ("/{foo}/*/four", "/success/{foo}", "/one/two/three", None),
        ("/{host}.{zone}", "/{zone}/{host}", "/a.b.c", Some("/c/a.b")),
        ("/{a}-{b}-{c}", "/{a}/{b}/{c}", "/1-2-3-4", Some("/1-2/3/4")),
        ("/v{n}", "/{n}", "/v12", Some("/12")),
        ("/v{n}", "/{n}", "/w12", None),
        ("/{n}.svc", "/{n}", "/a.svc", Some("/a")),
        ("/{n}.svc", "/{n}", "/a.svc.evil", None),
        ("/x{n}x", "/{n}", "/x", None),
        ("/{a}{b}", "/{a}", "/xyz", Some("/xyz")),
        ("/{a}{b}", "/{b}", "/xyz", None),
        ("/{a}", "/pre-{a}-{a}", "/x", Some("/pre-x-x")),
        ("/{a}", "/{a}", "/\\xff", Some("/\\xff")),
        ("/{n}.svc", "/{n}", "/.svc", None),
    ] {
        assert_eq!(rewrite(pattern, name, rest).as_deref(), expected, "{pattern} on {rest}");
    }
}

#[test]
fn mistakes_are_found_when_it_is_configured() {
    let label = |text: &str| BadRewrite::Label(text.to_owned());
    let brace = |text: &str| BadRewrite::Brace(text.to_owned());
    for (pattern, name, expected) in [
        ("one", "/x", label("one")),
        ("/a//b", "/x", label("")),
        ("/a", "x", label("x")),
        ("/a/*b", "/x", label("*b")),
        ("/a", "/*", label("*")),
        ("/{a", "/x", brace("{a")),
        ("/a}", "/x", brace("a}")),
        ("/{}", "/x", brace("{}")),
        ("/{a b}", "/x", brace("{a b}")),
        ("/{a}", "/{b}", BadRewrite::Unknown("b".to_owned())),
        ("/{a}/{a}", "/x", BadRewrite::Twice("a".to_owned())),
    ] {
        assert_eq!(Rewrite::new(pattern, name), Err(expected), "{pattern} to {name}");
    }
}
