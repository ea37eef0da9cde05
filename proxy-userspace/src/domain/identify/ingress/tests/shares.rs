//! Fair shares of what the Ingresses of several namespaces use together.

use super::*;

/// One of this namespace, created in this year.
fn of(namespace: &str, year: u16, texts: &[String]) -> Arc<Ingress> {
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    let (namespace, created) = (namespace.into(), format!("{year}-01-01T00:00:00Z").into());
    Arc::new(Ingress { namespace, created, ..ingress("web", &texts) })
}

#[test]
fn one_namespace_does_not_use_up_the_rules_of_the_others() {
    let many = |host: &str, count: usize| -> Vec<_> {
        (0..count).map(|at| format!("{at}.{host} / Prefix s")).collect()
    };
    // The oldest are the greedy one's: 20 Ingresses of 10.
    let mut all: Vec<_> = (0..20).map(|at| of("greedy", 2000 + at, &many(&format!("g{at}"), 10))).collect();
    all.push(of("small", 2025, &many("small", 30)));
    all.push(of("other", 2026, &many("other", 3)));
    let rules = IngressRules::new(&source(), &all, 100);
    for (host, expected) in
        [("9.g5.x", "-"), ("9.g5", "s"), ("6.g6", "s"), ("7.g6", "-"), ("29.small", "s"), ("2.other", "s")]
    {
        assert_eq!(service(&rules, host, "/"), expected, "{host}");
    }
    let LeftOut { taken, too_many, share, reasons } = rules.left_out();
    assert_eq!((*taken, *too_many, *share, rules.len()), (0, 0, 133, 100));
    let share = "beyond 67, the share of its namespace of 100 rules";
    assert_eq!(reasons[0], format!("Ingress greedy/web: 3 of its 10 rules: {share}"));
    assert_eq!(reasons[1], format!("Ingress greedy/web: {share}"));
    // Without the others it may have all.
    let alone = IngressRules::new(&source(), &all[..20], 100);
    assert_eq!((alone.len(), alone.left_out().too_many, alone.left_out().share), (100, 100, 0));
}

/// 20 namespaces of 40 rules, one old Ingress of 150, and a stranger's new 1,000.
#[test]
fn an_ingress_that_is_larger_than_its_namespaces_share_keeps_its_first_rules() {
    let many = |host: &str, count: usize| -> Vec<_> {
        (0..count).map(|at| format!("{at}.{host} / Prefix s")).collect()
    };
    let mut all: Vec<_> =
        (0..20).map(|at| of(&format!("n{at}"), 2020, &many(&format!("n{at}"), 40))).collect();
    all.push(of("big", 2000, &many("big", 150)));
    let before = IngressRules::new(&source(), &all, 1_000);
    assert_eq!((before.len(), before.left_out().share), (950, 0));
    all.push(of("stranger", 2026, &many("stranger", 1_000)));
    let rules = IngressRules::new(&source(), &all, 1_000);
    assert_eq!((rules.len(), rules.left_out().share), (1_000, 950));
    for (host, expected) in
        [("0.big", "s"), ("99.big", "s"), ("100.big", "-"), ("99.stranger", "s"), ("39.n7", "s")]
    {
        assert_eq!(service(&rules, host, "/"), expected, "{host}");
    }
    let share = "beyond 100, the share of its namespace of 1000 rules";
    assert_eq!(rules.left_out().reasons[0], format!("Ingress big/web: 50 of its 150 rules: {share}"));
}

/// Old of `a`, new of `b`; and both of one namespace, where the kind decides.
#[test]
fn of_paths_that_say_the_same_in_other_ways_the_older_ingress_counts_across_namespaces() {
    for (old, new, request, alone) in [
        ("/login Specific", "/login Exact", "/login", "new"),
        ("/login$ Specific", "/login Exact", "/login", "new"),
        ("/login Exact", "/login Specific", "/login", "old"),
        ("/.* Specific", "/ Prefix", "/x", "new"),
        (" Specific", "/ Prefix", "/", "new"),
        (".* Specific", "/.+ Specific", "/x", "new"),
        ("/foo.* Specific", "/foo(/.*)? Specific", "/foo/x", "new"),
        ("/foo.* Specific", "/foo Prefix", "/foo/x", "new"),
        ("/foo Prefix", "/foo.* Specific", "/foo/x", "old"),
        ("/f.o/bar Specific", "/foo/bar Prefix", "/foo/bar", "new"),
    ] {
        let [old, new] = [("old", old), ("new", new)].map(|(name, it)| vec![format!("a.x {it} {name}")]);
        for (namespace, expected) in [("b", "old"), ("a", alone)] {
            let all = [of(namespace, 2025, &new), of("a", 2020, &old)];
            let rules = IngressRules::new(&source(), &all, 10);
            assert_eq!(service(&rules, "a.x", request), expected, "{old:?} {new:?} {namespace}");
            assert_eq!(rules.len(), 2);
        }
    }
}

/// Newest of `a`, then `b`'s, oldest of `a`: `a` is older, and has two ways to say it.
#[test]
fn among_more_than_two_the_namespace_with_the_oldest_ingress_counts_and_its_most_special_kind() {
    for (newest, others, oldest, request) in [
        ("/foo Prefix", "/f.o Specific", "/foo.* Specific", "/foo"),
        ("/foo(/.*)? Specific", "/foo.+ Specific", "/foo.* Specific", "/foo/x"),
        ("/foo(/.*)? Specific", "/foo Prefix", "/foo.* Specific", "/foo/x"),
        ("/ Prefix", "/.+ Specific", "/.* Specific", "/x"),
        ("/.+ Specific", "/ Prefix", "/.* Specific", "/x"),
    ] {
        let rules = |text: &str, name: &str| vec![format!("a.x {text} {name}")];
        let all = [
            of("a", 2025, &rules(newest, "special")),
            of("b", 2022, &rules(others, "stranger")),
            of("a", 2020, &rules(oldest, "old")),
        ];
        let rules = IngressRules::new(&source(), &all, 10);
        assert_eq!(service(&rules, "a.x", request), "special", "{newest} {others} {oldest}");
        assert_eq!(rules.len(), 3);
    }
}

#[test]
fn one_namespace_does_not_use_up_the_expressions_of_the_others() {
    let texts = |host: &str, count: usize| -> Vec<_> {
        (0..count).map(|at| format!("{host} /{at}/[a-z]+ Specific s")).collect()
    };
    let others = |host: &str, count: usize| -> Vec<_> {
        (0..count).map(|at| format!("{host} /other{at}/[a-z]+ Specific s")).collect()
    };
    let hosts =
        |count: usize| -> Vec<_> { (0..count).flat_map(|at| texts(&format!("h{at}.x"), 6)).collect() };
    for (first, second, expected) in [
        // Without a host: everybody's.
        (texts("-", 32), others("-", 3), (5, 3, 27)),
        (texts("-", 32), Vec::new(), (8, 0, 0)),
        // In all.
        (hosts(100), texts("b.x", 5), (495, 5, 105)),
        // At one host, the oldest, as for one path.
        (texts("a.x", 6), others("a.x", 2), (6, 2, 0)),
    ] {
        let counts = (first.len(), second.len());
        let all = [of("greedy", 2020, &first), of("small", 2025, &second)];
        let rules = IngressRules::new(&source(), &all, 10_000);
        let (greedy, small, share) = expected;
        assert_eq!((rules.len(), rules.left_out().share), (greedy + small, share), "{counts:?}");
    }
    // Of a host, the older Ingress's count, whatever the namespace.
    let all = [of("new", 2025, &others("a.x", 8)), of("old", 2020, &texts("a.x", 6))];
    let rules = IngressRules::new(&source(), &all, 10_000);
    assert_eq!(service(&rules, "a.x", "/5/a"), "s");
    assert_eq!((rules.len(), rules.left_out().too_many, rules.left_out().share), (8, 6, 0));
    assert_eq!(service(&rules, "a.x", "/other1/a"), "s");
    assert_eq!(service(&rules, "a.x", "/other2/a"), "-");
}

#[test]
fn of_two_namespaces_with_one_host_and_path_the_older_ingress_counts() {
    for (first, second) in [("a", "b"), ("b", "a")] {
        let old = of(first, 2020, &["a.x /p Prefix old".to_owned()]);
        let new = of(second, 2025, &["a.x /p Prefix new".to_owned(), "a.x /p/q Prefix longer".to_owned()]);
        let rules = IngressRules::new(&source(), &[new, old], 10);
        assert_eq!(service(&rules, "a.x", "/p/x"), "old");
        assert_eq!(service(&rules, "a.x", "/p/q/x"), "longer");
        assert_eq!(rules.left_out().taken, 1);
    }
}
