//! Client and service policy.

use std::time::Duration;

use super::*;
use crate::domain::policy::{Client, RequestPolicy};

#[test]
fn consecutive_failures_with_a_jittered_backoff_are_the_breaker() {
    let text = router(
        "  baseDtab: ''\n  identifier: { kind: io.l5d.methodAndHost }\n  client:\n    failureAccrual:\n      kind: io.l5d.consecutiveFailures\n      failures: 3\n      \
         backoff: { kind: jittered, minMs: 100, maxMs: 2000 }\n",
    );
    let imported = imported(&text);
    assert_eq!(imported.notes, []);
    let breaker = settings(&imported.yaml).breaker;
    assert_eq!(breaker.failures, 3);
    let wait = Duration::from_millis;
    assert_eq!((breaker.backoff.min, breaker.backoff.max), (wait(100), wait(2000)));
}

#[test]
fn a_constant_backoff_is_one_wait() {
    let text = router(
        "  baseDtab: ''\n  identifier: { kind: io.l5d.methodAndHost }\n  client:\n    failureAccrual: { kind: io.l5d.consecutiveFailures, backoff: { kind: constant, ms: 700 } }\n",
    );
    let imported = imported(&text);
    let backoff = settings(&imported.yaml).breaker.backoff;
    assert_eq!((backoff.min, backoff.max), (Duration::from_millis(700), Duration::from_millis(700)));
    assert_eq!(changed(&imported), ["routers[0].client.failureAccrual.backoff"]);
}

#[test]
fn other_breakers_are_noted() {
    let rate = imported(&router(
        "  baseDtab: ''\n  identifier: { kind: io.l5d.methodAndHost }\n  client: { failureAccrual: { kind: io.l5d.successRate } }\n",
    ));
    assert_eq!(left(&rate), ["routers[0].client.failureAccrual"]);
    assert_eq!(settings(&rate.yaml).breaker, Settings::default().breaker);
    let none = imported(&router(
        "  baseDtab: ''\n  identifier: { kind: io.l5d.methodAndHost }\n  client: { failureAccrual: { kind: none } }\n",
    ));
    assert_eq!(changed(&none), ["routers[0].client.failureAccrual"]);
    assert_eq!(settings(&none.yaml).breaker.failures, 1_000_000);
}

#[test]
fn the_timeout_of_an_attempt_wins_over_that_of_all() {
    let text = router(
        "  baseDtab: ''\n  identifier: { kind: io.l5d.methodAndHost }\n  client: { requestAttemptTimeoutMs: 300 }\n  service: { kind: io.l5d.global, totalTimeoutMs: 900 }\n",
    );
    let imported = imported(&text);
    assert_eq!(settings(&imported.yaml).limits.response, Duration::from_millis(300));
    assert_eq!(left(&imported), ["routers[0].service.totalTimeoutMs"]);
}

#[test]
fn the_timeout_of_0_8_stands_at_the_router() {
    let imported = imported(&router("  baseDtab: ''\n  timeoutMs: 900\n"));
    assert_eq!(settings(&imported.yaml).limits.response, Duration::from_millis(900));
}

#[test]
fn a_requeue_budget_of_nothing_is_one_attempt() {
    let text = router(
        "  baseDtab: ''\n  identifier: { kind: io.l5d.methodAndHost }\n  client: { requeueBudget: { minRetriesPerSec: 0, percentCanRetry: 0.0 } }\n",
    );
    let none = imported(&text);
    assert_eq!(settings(&none.yaml).limits.attempts, 1);
    let some = imported(&router(
        "  baseDtab: ''\n  identifier: { kind: io.l5d.methodAndHost }\n  client: { requeueBudget: { minRetriesPerSec: 3 } }\n",
    ));
    assert_eq!(settings(&some.yaml).limits.attempts, 3);
    assert_eq!(left(&some), ["routers[0].client.requeueBudget"]);
}

#[test]
fn a_value_that_weir_would_refuse_is_noted_and_not_written() {
    let text = "admin: { ip: here, port: 123456 }\nnamers:\n- { kind: io.l5d.fs, rootDir: \"\", prefix: no }\n- { kind: \
                io.l5d.rewrite, prefix: /a, pattern: '{', name: /a }\n- 3\nrouters:\n- protocol: http\n  dtab: [1]\n  \
                dstPrefix: svc\n  servers: [{ port: x, ip: 4 }, 7]\n  identifier: [{ kind: io.l5d.header, header: 'a b' }, { \
                kind: io.l5d.path, segments: 0, consume: perhaps }, text, { kind: io.l5d.static }]\n  client: { \
                requestAttemptTimeoutMs: 0, failureAccrual: { kind: io.l5d.consecutiveFailures, failures: -1, backoff: { \
                kind: jittered, minMs: 9, maxMs: 3 } } }\n  service: [1]\n- 5\n";
    let imported = imported(text);
    assert_eq!(
        left(&imported),
        [
            "admin.ip",
            "admin.port",
            "namers[0].rootDir",
            "namers[0].prefix",
            "namers[1]",
            "namers[2]",
            "routers[0].dtab",
            "routers[0].dstPrefix",
            "routers[0].servers[0].port",
            "routers[0].servers[0].ip",
            "routers[0].servers[1]",
            "routers[0].identifier[0].header",
            "routers[0].identifier[1].segments",
            "routers[0].identifier[1].consume",
            "routers[0].identifier[2]",
            "routers[0].identifier[3]",
            "routers[0].client.requestAttemptTimeoutMs",
            "routers[0].client.failureAccrual.failures",
            "routers[0].client.failureAccrual.backoff",
            "routers[0].service",
            "routers[1]",
        ]
    );
}

/// A router with these `client` and `service` sections, each on one line.
fn policies(client: &str, service: &str) -> Imported {
    let keys = format!(
        "  dtab: ''\n  client: {{ kind: io.l5d.static, configs: [{client}] }}\n  service: {{ kind: io.l5d.static, configs: [{service}] }}\n"
    );
    imported(&router(&keys))
}

fn client_of(imported: &Imported, name: &str) -> Client {
    settings(&imported.yaml).policies.client(&[name.parse().unwrap()])
}

#[test]
fn settings_for_a_prefix_are_policies() {
    let imported = policies(
        "{ prefix: /, failureAccrual: { kind: none } }, { prefix: \"/#/io.l5d.k8s/*/{svc}/\", requestAttemptTimeoutMs: 300, \
         failureAccrual: { kind: io.l5d.consecutiveFailures, failures: 2 } }, { prefix: /$/inet, requeueBudget: { \
         minRetriesPerSec: 0, percentCanRetry: 0.0 } }",
        "{ prefix: svc/hello, totalTimeoutMs: 900 }",
    );
    assert_eq!(left(&imported), [""; 0]);
    let k8s = client_of(&imported, "/#/io.l5d.k8s/shop/http/web");
    assert_eq!((k8s.requests.response(), k8s.failures), (Some(Duration::from_millis(300)), Some(2)));
    let backoff = k8s.backoff.unwrap();
    assert_eq!((backoff.min, backoff.max), (Duration::from_secs(5), Duration::from_secs(300)));
    let inet = client_of(&imported, "/$/inet/example.com/80");
    assert_eq!((inet.requests.attempts.map(u8::from), inet.failures), (Some(1), Some(1_000_000)));
    let policies = settings(&imported.yaml).policies;
    let hello = policies.service(&"/svc/hello".parse().unwrap());
    assert_eq!(hello.response(), Some(Duration::from_millis(900)));
    assert_eq!(policies.service(&"/svc/world".parse().unwrap()), RequestPolicy::default());
    assert_eq!(settings(&imported.yaml).limits, Settings::default().limits);
}

#[test]
fn what_a_prefix_has_that_weir_has_not_is_noted_and_makes_no_rule() {
    let imported = policies(
        "{ prefix: /a, loadBalancer: { kind: heap } }, { prefix: \"/{a}/{a}\", failFast: true }, { failFast: true }, 7",
        "{ prefix: /b, retries: {} }",
    );
    let config = |index: usize, key: &str| format!("routers[0].client.configs[{index}]{key}");
    let expected = [config(0, ".loadBalancer"), config(1, ""), config(2, ""), config(3, "")];
    assert_eq!(left(&imported)[..4], expected.each_ref().map(String::as_str));
    assert_eq!(left(&imported)[4..], ["routers[0].service.configs[0].retries"]);
    assert_eq!(settings(&imported.yaml).policies, Settings::default().policies);
}

#[test]
fn the_idle_time_of_the_binding_cache_is_carried_over() {
    let imported = imported(&router("  dtab: ''\n  bindingCache: { paths: 500, idleTtlSecs: 30 }\n"));
    assert_eq!(settings(&imported.yaml).limits.binding_idle, Duration::from_secs(30));
    assert_eq!(left(&imported), ["routers[0].bindingCache.paths"]);
}

#[test]
fn transformers_of_namers_are_carried_over_or_noted() {
    let transformers = "{ kind: io.l5d.port, port: \"4141\" }, { kind: io.l5d.localhost, prefix: /here }, { kind: \
                        io.l5d.specificHost, host: web }, { kind: io.l5d.port }, { kind: io.l5d.replace, path: /svc/a }, { kind: \
                        io.l5d.const, path: /$/inet/10.0.0.1/80 }, { kind: io.l5d.port, port: 1 }, { kind: io.l5d.k8s.localnode }";
    let text = router("  dtab: ''\n");
    let imported = imported(&format!(
        "namers:\n- {{ kind: io.l5d.k8s, transformers: [{transformers}] }}\n- {{ kind: io.l5d.rewrite, prefix: /r, pattern: /a, \
         name: /b, transformers: [{{ kind: io.l5d.localhost }}] }}\n{text}"
    ));
    let written = "transformers: [{ kind: io.l5d.port, port: 4141 }, { kind: io.l5d.localhost, prefix: /here }, { kind: \
                   io.l5d.const, path: \"/$/inet/10.0.0.1/80\" }]";
    assert!(imported.yaml.contains(written), "{}", imported.yaml);
    let at = |index: usize| format!("namers[0].transformers[{index}]");
    let expected = [at(2), at(3), at(4), at(6), at(7), "namers[1].transformers[0]".to_owned()];
    assert_eq!(left(&imported), expected.each_ref().map(String::as_str));
}

#[test]
fn a_rule_for_nobody_says_why() {
    let rule = |prefix: &str| {
        let configs = format!("[{{ {prefix}totalTimeoutMs: 5 }}]");
        let file = router(&format!("  dtab: ''\n  service: {{ kind: io.l5d.static, configs: {configs} }}\n"));
        note(&imported(&file), "routers[0].service.configs[0]").why.clone()
    };
    assert_eq!(rule(""), "it says no prefix, so it is for nobody; `/` is everybody's");
    let why = rule("prefix: \"/svc/{a\\n\", ");
    assert!(why.contains("a brace that is no capture") && !why.contains('\n'), "{why}");
}
