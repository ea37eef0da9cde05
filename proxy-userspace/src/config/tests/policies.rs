//! Settings per name, and transformers of namers.

use super::*;
use crate::domain::policy::Protocol;

#[test]
fn a_namer_that_is_named_is_not_there_a_second_time() {
    let settings = parsed("namers:\n- { kind: io.l5d.k8s }\n- { kind: io.l5d.fs, prefix: /files }\n");
    let prefixes: Vec<_> = settings.namers.iter().map(|it| it.prefix.to_string()).collect();
    assert_eq!(prefixes, ["/io.l5d.k8s", "/files", "/io.l5d.fs"]);
    let settings = parsed("namers:\n- { kind: io.l5d.rewrite, prefix: /io.l5d.fs, pattern: /a, name: /b }\n");
    assert_eq!(settings.namers.len(), 3, "another kind of the same prefix is asked first");
}

#[test]
fn a_path_or_pattern_that_does_not_read_says_so_in_words() {
    for (text, expected) in [
        (
            "outgoing: { dstPrefix: svc }",
            "outgoing.dstPrefix: `svc` is no path: expected a path that starts with `/` at column 1",
        ),
        (
            "namers: [{ kind: io.l5d.rewrite, prefix: /x, pattern: \"/{a\", name: /b }]",
            "namers[0]: no rewrite: `{a` has a brace that is no capture such as `{service}`",
        ),
    ] {
        let found = problems(text);
        assert!(found[0].contains(expected), "{found:?}");
    }
}

#[test]
fn a_rule_sets_what_it_says_and_leaves_the_rest() {
    let text = "policies:\n  services:\n  - { prefix: /svc/a, response: 250ms, attempts: 2 }\n  clients:\n  - prefix: \"/#/{x}/*\"\n    \
                breaker: { failures: 1, backoff: { max: 10s } }\n  - { prefix: / }\n";
    let policies = parsed(text).policies;
    let calls = policies.service(&"/svc/a".parse().unwrap());
    assert_eq!((calls.response(), calls.attempts.map(u8::from)), (Some(Duration::from_millis(250)), Some(2)));
    let client = policies.client(&["/#/io.l5d.fs/a".parse().unwrap()]);
    assert_eq!((client.requests.response(), client.failures), (None, Some(1)));
    let backoff = client.backoff.unwrap();
    assert_eq!((backoff.min, backoff.max), (Duration::from_secs(5), Duration::from_secs(10)));
    let text = |protocol: &str| format!("policies: {{ clients: [{{ prefix: /, protocol: {protocol} }}] }}\n");
    for (word, protocol) in Protocol::NAMES {
        assert_eq!(
            parsed(&text(word)).policies.client(&["/x".parse().unwrap()]).requests.protocol,
            Some(*protocol)
        );
        assert_eq!(protocol.name(), *word);
    }
    assert_problems(
        &text("h2c"),
        &["weir.yaml:1:46: policies.clients[0].protocol: `h2c` is not a choice (one of auto, http1, http2)"],
    );
    for nothing in ["policies:", "policies: {}", "policies: { services: [], clients: ~ }"] {
        assert_eq!(parsed(nothing), Settings::default(), "{nothing}");
    }
}

#[test]
fn every_mistake_in_a_rule_is_reported_at_its_place() {
    assert_problems(
        "policies:\n  services:\n  - { response: 1s }\n  - { prefix: svc, attempts: 0 }\n  - 7\n  - { prefix: /a, breaker: {} }\n  clients: { prefix: / }\n",
        &[
            "weir.yaml:3:5: policies.services[0].prefix: which names is this for?",
            "weir.yaml:4:15: policies.services[1].prefix: no prefix: `svc`",
            "weir.yaml:4:30: policies.services[1].attempts: 0 is not from 1 to 10",
            "weir.yaml:5:5: policies.services[2]: expected keys with values, not a number",
            "weir.yaml:6:19: policies.services[3]: unknown key `breaker`",
            "weir.yaml:7:12: policies.clients: expected a list, not a section",
        ],
    );
}

#[test]
fn a_mistake_in_a_transformer_says_what_is_wrong() {
    for (transformers, expected) in [
        ("{ kind: io.l5d.port }", "missing field `port`"),
        ("{ kind: io.l5d.port, port: 0 }", "a port is a number from 1 to 65535"),
        ("{ kind: io.l5d.specificHost, host: web }", "\"web\" is no address"),
        ("{ kind: io.l5d.replace, path: /svc/a }", "the path has to be an address"),
        ("{ kind: io.l5d.const, path: /$/inet/a/1 }, { kind: io.l5d.localhost }", "has nothing to work on"),
        ("{ kind: io.l5d.k8s.localnode }", "unknown variant `io.l5d.k8s.localnode`"),
        ("{ kind: io.l5d.localhost, hots: 1 }", "unknown field `hots`"),
    ] {
        let found = problems(&format!("namers:\n- {{ kind: io.l5d.fs, transformers: [{transformers}] }}\n"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("weir.yaml:2:") && found[0].contains(expected),
            "{transformers}: {found:?}"
        );
    }
}
