use super::*;
use proptest::prelude::*;

fn rules() -> Rules {
    Rules { namespace: "default".into(), port: "http".into(), cluster_domain: "cluster.local".into() }
}

fn name(authority: &str) -> Result<String, BadHost> {
    rules().canonical(authority).map(|host| host.to_string())
}

#[test]
fn every_spelling_of_a_service_is_one_name() {
    for spelling in [
        "hello",
        "HELLO",
        "hello.",
        "hello:80",
        "hello:",
        "Hello.Default",
        "hello.default.svc",
        "hello.default.svc.cluster.local",
        "hello.default.svc.cluster.local.:80",
    ] {
        assert_eq!(name(spelling).as_deref(), Ok("/svc/hello"), "{spelling}");
    }
}

#[test]
fn what_differs_stays_different() {
    for (spelling, canonical) in [
        ("hello.shop", "/svc/hello.shop"),
        ("hello.shop.svc.cluster.local:8080", "/svc/hello.shop:8080"),
        ("hello:8080", "/svc/hello:8080"),
        ("hello:080", "/svc/hello"),
        ("example.com", "/svc/example.com"),
        ("default", "/svc/default"),
        ("svc", "/svc/svc"),
        ("hello.default.cluster.local", "/svc/hello.default.cluster.local"),
        ("hello.svc.svc.cluster.local", "/svc/hello.svc"),
        ("set-0.set.default.svc.cluster.local", "/svc/set-0.set.default"),
        ("set-0.set.default", "/svc/set-0.set.default"),
        ("[FD00::1]:8080", "/svc/[fd00::1]:8080"),
        ("10.96.0.10", "/svc/10.96.0.10"),
    ] {
        assert_eq!(name(spelling).as_deref(), Ok(canonical), "{spelling}");
    }
}

#[test]
fn a_host_remembers_that_it_was_written_as_the_clusters() {
    let scope = |authority: &str| rules().canonical(authority).map(|host| host.scope);
    for authority in [
        "api.dev.svc.cluster.local",
        "API.dev.svc.Cluster.Local.:8080",
        "api.dev.svc",
        "api.default.svc.",
        "api.svc:80",
        "cluster.local",
        "svc.cluster.local",
        "api.dev.cluster.local",
        "10-0-0-1.dev.pod.cluster.local",
    ] {
        assert_eq!(scope(authority), Ok(Scope::Cluster), "{authority}");
    }
    for authority in [
        "api",
        "api.dev",
        "api.default",
        "svc",
        "a.svc.b",
        "local",
        "notcluster.local",
        "10.0.0.1",
        "[fd00::1]",
    ] {
        assert_eq!(scope(authority), Ok(Scope::Anywhere), "{authority}");
    }
}

#[test]
fn a_short_name_says_no_namespace_and_is_of_the_one_that_it_is_given() {
    let rules = rules();
    for (authority, of_shop) in [
        ("hello", "hello.shop"),
        ("HELLO.", "hello.shop"),
        ("hello:8080", "hello.shop:8080"),
        ("hello.svc", "hello.shop"),
        ("hello.svc.cluster.local.:80", "hello.shop"),
    ] {
        assert!(rules.is_short(authority), "{authority}");
        let host = rules.of_namespace(rules.canonical(authority).unwrap(), "shop");
        assert_eq!((host.label().as_str(), host.scope), (of_shop, Scope::Cluster), "{authority}");
        let host = rules.canonical(authority).unwrap();
        assert_eq!(rules.of_namespace(host.clone(), "default"), host);
    }
    for authority in [
        "hello.default",
        "hello.default.svc.cluster.local",
        "hello.shop",
        "www.example.com",
        "svc.cluster.local",
        "10.0.0.1",
        "2130706433",
        "[fd00::1]:80",
        "",
        "a b",
    ] {
        assert!(!rules.is_short(authority), "{authority}");
    }
}

#[test]
fn what_is_no_host_is_refused_with_its_reason() {
    let long = "a".repeat(64);
    let longer = "a.".repeat(127) + "a";
    for (authority, reason) in [
        ("", BadHost::Empty),
        (":80", BadHost::Empty),
        (".", BadHost::Length),
        ("a..b", BadHost::Length),
        (".a", BadHost::Length),
        (long.as_str(), BadHost::Length),
        (longer.as_str(), BadHost::Length),
        ("hello:0", BadHost::Port),
        ("hello:+80", BadHost::Port),
        ("hello:65536", BadHost::Port),
        ("hello:80:80", BadHost::Port),
        ("fd00::1", BadHost::Port),
        ("he llo", BadHost::Character),
        ("user@hello", BadHost::Character),
        ("hello/", BadHost::Character),
        ("[fd00::1", BadHost::Literal),
        ("[hello]", BadHost::Literal),
        ("[fe80::1%eth0]", BadHost::Literal),
    ] {
        assert_eq!(name(authority), Err(reason), "{authority}");
        assert_eq!(check_host(authority), Err(reason), "{authority}");
    }
}

proptest! {
    #[test]
    fn canonical_names_are_canonical(authority in "[a-zA-Z0-9.:\\[\\]_-]{0,40}") {
        let rules = rules();
        if let Ok(host) = rules.canonical(&authority) {
            let label = host.label();
            prop_assert_eq!(rules.host_of(&label, host.scope), Ok(host.clone()));
        }
    }

    #[test]
    fn no_input_panics(authority in "\\PC{0,300}") {
        let _ = rules().canonical(&authority);
    }
}
