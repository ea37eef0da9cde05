//! Which rule fits: Kubernetes' own examples, and what it leaves open.

mod shares;

use std::sync::Arc;

use super::*;

fn backend(service: &str) -> Backend {
    Backend { service: service.into(), port: "80".into() }
}

/// `host path Type service`, with `-` for no host.
fn rule(text: &str) -> IngressRule {
    let [host, path, kind, service] = text.split(' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
    let kind = match kind {
        "Exact" => PathType::Exact,
        "Prefix" => PathType::Prefix,
        "Specific" => PathType::ImplementationSpecific,
        _ => panic!("{text}"),
    };
    let host = Some(host).filter(|it| *it != "-").map(Arc::from);
    IngressRule { host, path: IngressPath::new(kind, path).expect("a path"), backend: backend(service) }
}

fn ingress(name: &str, rules: &[&str]) -> Ingress {
    Ingress {
        namespace: "shop".into(),
        name: name.into(),
        created: "2026-01-01T00:00:00Z".into(),
        class: None,
        rules: rules.iter().map(|text| rule(text)).collect(),
        default: None,
    }
}

fn source() -> IngressSource {
    IngressSource { namespace: None, class: CLASS.into(), ignore_default_backends: false }
}

fn rules(ingresses: &[Ingress]) -> IngressRules {
    let all: Vec<_> = ingresses.iter().cloned().map(Arc::new).collect();
    IngressRules::new(&source(), &all, 1000)
}

/// The Service for a request, `-` for none.
fn service(rules: &IngressRules, host: &str, target: &str) -> String {
    let found = rules.find(host, target).map(|target| target.name.labels().text(2).unwrap().to_owned());
    found.unwrap_or_else(|| "-".to_owned())
}

#[test]
fn paths_fit_as_kubernetes_and_linkerd_say() {
    for (kind, path, fits, does_not) in [
        ("Prefix", "/", &["/", "/foo", "/foo/", "/?x"][..], &["*"][..]),
        ("Exact", "/foo", &["/foo", "/foo?a=/b"], &["/bar", "/foo/", "/"]),
        ("Exact", "/foo/", &["/foo/"], &["/foo"]),
        ("Prefix", "/foo", &["/foo", "/foo/", "/foo/bar"], &["/fooo", "/", "/f"]),
        ("Prefix", "/foo/", &["/foo", "/foo/", "/foo/bar"], &["/fooo"]),
        ("Prefix", "/aaa/bb", &["/aaa/bb", "/aaa/bb/ccc"], &["/aaa/bbb", "/aaa"]),
        ("Prefix", "/aaa/bbb", &["/aaa/bbb", "/aaa/bbb/", "/aaa/bbb/ccc"], &["/aaa/bbbxyz"]),
        ("Prefix", "/aaa/bbb/", &["/aaa/bbb", "/aaa/bbb/x/y/z"], &["/aaa/bb"]),
        ("Specific", "", &["/", "/a/b", "*"], &[]),
        ("Specific", ".*", &["/", "/a/b", "*"], &[]),
        ("Specific", "/.*", &["/", "/a/b"], &[]),
        ("Specific", "/foo", &["/foo"], &["/foo/", "/foo/bar", "/fo"]),
        ("Specific", "/foo.*", &["/foo", "/foo/bar", "/fooo"], &["/x/foo"]),
        ("Specific", "/(a|b)/[0-9]+", &["/a/7", "/b/77"], &["/a/", "/a/7/", "/c/7"]),
        ("Specific", "/foo/.*", &["/foo/", "/foo/bar"], &["/foo", "/fooo"]),
        ("Specific", "/foo(/|$)(.*)", &["/foo", "/foo/", "/foo/bar"], &["/fooo"]),
        ("Specific", "/foo/.+", &["/foo/b"], &["/foo/", "/foo"]),
        ("Specific", "/v1\\.0/.*", &["/v1.0/x"], &["/v1x0/x"]),
        ("Specific", "/v1\\.0", &["/v1.0"], &["/v1.0/", "/v1x0"]),
        // All of the path, whatever the alternatives.
        ("Specific", "/a|/b", &["/a", "/b"], &["/ax", "x/b"]),
    ] {
        let rules = rules(&[ingress("web", &[&format!("- {path} {kind} web")])]);
        for target in fits {
            assert_eq!(service(&rules, "any", target), "web", "{kind} {path} {target}");
        }
        for target in does_not {
            assert_eq!(service(&rules, "any", target), "-", "{kind} {path} {target}");
        }
    }
}

#[test]
fn the_longest_path_counts_and_an_exact_one_before_all() {
    let rules = rules(&[ingress(
        "web",
        &[
            "- / Prefix root",
            "- /aaa Prefix aaa",
            "- /aaa/bbb Prefix bbb",
            "- /aaa/bbb Exact exact",
            "- /aaa/bbb/ Specific whole",
            "- /aaa/b+/[a-z]+ Specific long",
            "- /a.* Specific short",
        ],
    )]);
    for (target, expected) in [
        ("/", "root"),
        ("/x/y", "root"),
        ("/aaa", "aaa"),
        ("/aaa/x", "aaa"),
        ("/aaa/bbb", "exact"),
        ("/aaa/bbb/", "whole"),
        ("/aaa/bbb/7", "bbb"),
        ("/aaa/bbb/x", "long"),
        ("/ax", "short"),
        ("/aaa/bbb/ccc/ddd/eee", "bbb"),
    ] {
        assert_eq!(service(&rules, "any", target), expected, "{target}");
    }
}

#[test]
fn an_exact_host_comes_before_a_wildcard_and_that_before_none() {
    let rules = rules(&[ingress(
        "web",
        &["- / Prefix any", "*.foo.com / Prefix wild", "a.foo.com /x Prefix exact", "b.foo.com / Prefix b"],
    )]);
    for (host, target, expected) in [
        ("a.foo.com", "/x/y", "exact"),
        ("a.foo.com", "/y", "wild"),
        ("b.foo.com", "/y", "b"),
        ("c.foo.com", "/", "wild"),
        ("foo.com", "/", "any"),
        ("c.d.foo.com", "/", "any"),
        (".foo.com", "/", "any"),
        ("A.Foo.COM:8080", "/x", "exact"),
        ("a.foo.com.", "/x", "exact"),
        ("a.foo.com.:80", "/x", "exact"),
        ("[::1]:80", "/", "any"),
        ("", "/", "any"),
    ] {
        assert_eq!(service(&rules, host, target), expected, "{host} {target}");
    }
}

#[test]
fn default_backends_take_what_no_rule_does_and_the_oldest_counts() {
    let with = |name: &str, created: &str, rules: &[&str]| Ingress {
        created: created.into(),
        default: Some(backend(&format!("{name}-default"))),
        ..ingress(name, rules)
    };
    let all =
        [with("new", "2026-02-01T00:00:00Z", &["- /a Prefix a"]), with("old", "2026-01-01T00:00:00Z", &[])];
    let both = rules(&all);
    assert_eq!((service(&both, "x", "/a"), service(&both, "x", "/b")), ("a".into(), "old-default".into()));
    assert_eq!(both.describe(both.find("x", "/b").unwrap()), "Ingress shop/old, its default backend");
    let ignored = IngressSource { ignore_default_backends: true, ..source() };
    let all: Vec<_> = all.into_iter().map(Arc::new).collect();
    assert_eq!(service(&IngressRules::new(&ignored, &all, 1000), "x", "/b"), "-");
}

#[test]
fn of_two_rules_for_one_host_and_path_the_oldest_ingress_counts() {
    let of =
        |name: &str, created: &str, rule: &str| Ingress { created: created.into(), ..ingress(name, &[rule]) };
    for (one, other) in [
        ("a.x / Prefix", "a.x / Prefix"),
        ("- /a Prefix", "- /a/ Prefix"),
        ("*.x /a Exact", "*.x /a Exact"),
        ("- /a.* Specific", "- /a.* Specific"),
        ("- /a Specific", "- /a Specific"),
        ("-  Specific", "-  Specific"),
    ] {
        let (one, other) = (format!("{one} old"), format!("{other} new"));
        let rules = rules(&[of("a", "2026-02-01T00:00:00Z", &other), of("z", "2026-01-01T00:00:00Z", &one)]);
        assert_eq!(service(&rules, "a.x", "/a"), "old", "{one}");
        let LeftOut { taken, too_many, share, reasons } = rules.left_out();
        assert_eq!((*taken, *too_many, *share, rules.len()), (1, 0, 0, 1), "{one}");
        assert!(
            reasons[0].starts_with("Ingress shop/a, ") && reasons[0].contains("Ingress shop/z has its host")
        );
    }
    // Of the same second: by name.
    let same = rules(&[ingress("b", &["- / Prefix b"]), ingress("a", &["- / Prefix a"])]);
    assert_eq!(service(&same, "x", "/"), "a");
}

#[test]
fn only_ingresses_of_the_class_and_namespace_count() {
    let of = |class: Option<&str>, namespace: &str| Ingress {
        class: class.map(Into::into),
        namespace: namespace.into(),
        ..ingress("web", &["- / Prefix web"])
    };
    let shop = IngressSource { namespace: Some("shop".into()), ..source() };
    let edge = IngressSource { class: "edge".into(), ..source() };
    for (source, ingress, counts) in [
        (&shop, of(None, "shop"), true),
        (&shop, of(Some("linkerd"), "shop"), true),
        (&shop, of(Some("nginx"), "shop"), false),
        (&shop, of(None, "other"), false),
        (&edge, of(Some("edge"), "other"), true),
        (&edge, of(Some("linkerd"), "other"), false),
    ] {
        let rules = IngressRules::new(source, &[Arc::new(ingress.clone())], 1000);
        assert_eq!(rules.find("x", "/").is_some(), counts, "{source} {ingress:?}");
    }
}

#[test]
fn ten_thousand_rules_are_looked_up_without_comparing_each_and_more_are_left_out() {
    let texts: Vec<_> = (0..100).map(|at| format!("h{at}.x /p/{at} Prefix s{at}")).collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    let all: Vec<_> = (0..101)
        .map(|at| {
            let mut it = ingress(&format!("i{at:03}"), &texts);
            for rule in &mut it.rules {
                let host = format!("{at}.{}", rule.host.as_deref().unwrap());
                rule.host = Some(host.as_str().into());
            }
            Arc::new(it)
        })
        .collect();
    let rules = IngressRules::new(&source(), &all, 10_000);
    assert_eq!((rules.len(), rules.left_out().too_many), (10_000, 100));
    assert_eq!(rules.left_out().reasons, ["Ingress shop/i100: beyond 10000 rules"]);
    assert_eq!(service(&rules, "99.h7.x", "/p/7/x"), "s7");
    assert_eq!(service(&rules, "100.h7.x", "/p/7/x"), "-");
    // A path with thousands of elements costs no more look-ups than the longest prefix has elements.
    let long = format!("/p/7{}", "/x".repeat(100_000));
    for _ in 0..1000 {
        assert_eq!(service(&rules, "99.h7.x", &long), "s7");
    }
}

#[test]
fn expressions_are_bounded_by_host_and_in_all_and_compared_with_paths_of_a_usual_length() {
    let of = |host: usize, count: usize| -> Vec<_> {
        (0..count).map(|at| format!("h{host}.x /{at}/[a-z]+ Specific s")).collect()
    };
    let rules_of = |texts: Vec<String>| rules_of(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let one = rules_of(of(0, 9));
    assert_eq!((one.len(), one.left_out().too_many), (8, 1));
    let all = rules_of((0..100).flat_map(|host| of(host, 6)).collect());
    assert_eq!((all.len(), all.left_out().too_many), (500, 100));
    for (length, expected) in [(512, "s"), (513, "-")] {
        let path = format!("/7/{}", "a".repeat(length - 3));
        assert_eq!(service(&one, "h0.x", &path), expected, "{length}");
    }
}

#[test]
fn paths_that_only_say_how_they_begin_have_no_bound_of_their_own_and_the_longest_counts() {
    let mut texts: Vec<_> = (0..3_000).map(|at| format!("a.x /p{at:04}.* Specific s{at}")).collect();
    for (path, service) in [
        ("/p.*", "short"),
        ("/p0007/.*", "below"),
        ("/p0007/x(/|$)(.*)", "x"),
        ("/p0007/x/y/.+", "y"),
        ("/p0007/[a-z]+/[a-z]+", "expression"),
    ] {
        texts.push(format!("a.x {path} Specific {service}"));
    }
    texts.push("a.x /p0008/z Prefix prefix".to_owned());
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    let rules = IngressRules::new(&source(), &[Arc::new(ingress("web", &texts))], 10_000);
    assert_eq!((rules.len(), rules.left_out().too_many), (3_006, 0));
    for (path, expected) in [
        ("/p", "short"),
        ("/pp", "short"),
        ("/p2999x", "s2999"),
        ("/p0007", "s7"),
        ("/p00077/x", "s7"),
        ("/p0007/", "below"),
        ("/p0007/xx", "below"),
        ("/p0007/x", "x"),
        ("/p0007/x/y/", "x"),
        ("/p0007/x/y/z", "y"),
        ("/p0007/a/b", "expression"),
        ("/p0008/zz", "s8"),
        ("/p0008/z/y", "prefix"),
        ("/o", "-"),
        ("/", "-"),
    ] {
        assert_eq!(service(&rules, "a.x", path), expected, "{path}");
    }
    // No path is too long for them, and none takes long.
    let long = format!("/p0007/{}", "w/".repeat(30_000));
    for _ in 0..1_000 {
        assert_eq!(service(&rules, "a.x", &long), "below");
    }
    // One is as long as the next, and begins with it.
    let nested: Vec<_> = (1..1_000).map(|at| format!("a.x /{}.* Specific s{at}", "n".repeat(at))).collect();
    let nested: Vec<_> = nested.iter().map(String::as_str).collect();
    let nested = rules_of(&nested);
    assert_eq!(service(&nested, "a.x", &format!("/{}m", "n".repeat(500))), "s500");
}

fn rules_of(texts: &[&str]) -> IngressRules {
    rules(&[ingress("web", texts)])
}
