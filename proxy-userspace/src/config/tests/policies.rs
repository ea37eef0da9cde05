//! Settings for some names only.

use super::*;

#[test]
fn a_rule_sets_what_it_says_and_leaves_the_rest() {
    let text = "policies:\n  services:\n  - { prefix: /svc/a, response: 250ms, attempts: 2 }\n  clients:\n  - prefix: \"/#/{x}/*\"\n    \
                breaker: { failures: 1, backoff: { max: 10s } }\n  - { prefix: / }\n";
    let policies = parsed(text).policies;
    let calls = policies.service(&"/svc/a".parse().unwrap());
    assert_eq!((calls.response(), calls.attempts.map(u8::from)), (Some(Duration::from_millis(250)), Some(2)));
    let client = policies.client(&["/#/io.l5d.fs/a".parse().unwrap()]);
    assert_eq!((client.calls.response(), client.failures), (None, Some(1)));
    let backoff = client.backoff.unwrap();
    assert_eq!((backoff.min, backoff.max), (Duration::from_secs(5), Duration::from_secs(10)));
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
