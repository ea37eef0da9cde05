//! Which name each identifier makes.

use super::*;

fn name(identifiers: &[Identifier], target: &str) -> Option<(String, Option<String>)> {
    let header = |name: &str| match name {
        "x-token" => Some("Some.Token"),
        "l5d-name" => Some("/a/b"),
        "empty" => Some(""),
        "bad" => Some("a/b"),
        _ => None,
    };
    let facts = RequestFacts {
        method: "GET",
        is_http_11: true,
        host: Some("Hello:80"),
        canonical: Some(("hello", Scope::Anywhere)),
        target,
        header: &header,
    };
    identify(identifiers, &facts).expect("readable").map(|it| (it.name.to_string(), it.target))
}

fn path(segments: usize, segments_go: Segments) -> Identifier {
    Identifier::Path { segments, segments_go }
}

#[test]
fn each_identifier_makes_linkerds_name() {
    for (identifier, expected) in [
        (Identifier::Host, Some("/hello")),
        (Identifier::Token("x-token".into()), Some("/Some.Token")),
        (Identifier::Token("empty".into()), None),
        (Identifier::Token("absent".into()), None),
        (Identifier::Header("l5d-name".into()), Some("/a/b")),
        (Identifier::Header("absent".into()), None),
        (path(1, Segments::Stay), Some("/x")),
        (path(2, Segments::Stay), Some("/x/y")),
        (path(3, Segments::Stay), None),
        (Identifier::Static("/always/this".parse().expect("a path")), Some("/always/this")),
        (Identifier::MethodAndHost(UrlPath::Left), Some("/1.1/GET/hello:80")),
        (Identifier::MethodAndHost(UrlPath::Follows), Some("/1.1/GET/hello:80/x/y")),
    ] {
        let made = name(std::slice::from_ref(&identifier), "/x/y?q=/z").map(|(name, _)| name);
        assert_eq!(made.as_deref(), expected, "{identifier:?}");
    }
}

#[test]
fn consumed_segments_leave_the_trailing_slash_and_the_query() {
    for (target, rest) in
        [("/x/y/z?q", "/y/z?q"), ("/x/y/", "/y/"), ("/x/", "/"), ("/x", "/"), ("/x?q", "/?q")]
    {
        let made = name(&[path(1, Segments::Go)], target).expect("one segment is there");
        assert_eq!(made, ("/x".to_owned(), Some(rest.to_owned())), "{target}");
    }
}

#[test]
fn the_first_that_says_something_counts() {
    let list = [
        Identifier::Token("absent".into()),
        path(9, Segments::Stay),
        Identifier::MethodAndHost(UrlPath::Left),
        Identifier::Host,
    ];
    assert_eq!(name(&list, "/").map(|(name, _)| name).as_deref(), Some("/1.1/GET/hello:80"));
    assert_eq!(name(&[], "/"), None);
}

#[test]
fn a_request_without_a_host_has_a_method_and_host_only_before_http_1_1() {
    for (is_http_11, host, expected) in [
        (true, None, None),
        (true, Some(""), None),
        (false, None, Some("/1.0/GET/x")),
        (false, Some("hello"), Some("/1.0/GET/x")),
    ] {
        let facts = RequestFacts {
            method: "GET",
            is_http_11,
            host,
            canonical: None,
            target: "/x?q",
            header: &|_| None,
        };
        let made = identify(&[Identifier::MethodAndHost(UrlPath::Follows)], &facts).expect("readable");
        assert_eq!(made.map(|it| it.name.to_string()).as_deref(), expected, "{host:?}");
    }
}

#[test]
fn a_header_that_is_no_path_is_the_clients_mistake() {
    let header = |_: &str| Some("a/b");
    let facts = RequestFacts {
        method: "GET",
        is_http_11: true,
        host: None,
        canonical: None,
        target: "/",
        header: &header,
    };
    assert!(identify(&[Identifier::Header("bad".into())], &facts).is_err());
}
