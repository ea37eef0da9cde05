//! The table of keys in docs/from-linkerd.md is made of the reasons that `weir import` gives.

use crate::migrate::reasons::{self, Reasons};

/// The keys that an import reads, each with what it becomes.
const CARRIED: &[(&str, &str)] = &[
    (
        "telemetry",
        "`/metrics` of `admin` and `probes` is always there; of each telemeter a note says what does its work",
    ),
    ("admin.ip, admin.port", "`admin.listen`; on loopback unless an address was written"),
    ("admin.tls", "nothing: the admin stays on loopback"),
    ("namers[].kind, namers[].prefix", "the same under `namers`"),
    ("namers[].rootDir", "`discovery.files.path`"),
    ("namers[].envVar", "the namespace, written out"),
    ("namers[].labelSelector", "nothing: weir reads no labels, so the names lead to all pods of a Service"),
    ("namers[].pattern, namers[].name", "the same under `namers`, for io.l5d.rewrite"),
    ("namers[].transformers[].kind, .port, .host, .path, .prefix", "the same under `namers[].transformers`"),
    ("routers", "`outgoing`, one for each router of http or h2 with its `label`"),
    ("routers[].dtab, routers[].baseDtab", "`baseDtab`, or `dtab` beside an `interpreter`"),
    ("routers[].dstPrefix", "`outgoing.dstPrefix`"),
    ("routers[].identifier", "`outgoing.identifier`"),
    (
        "routers[].identifier.kind, .header, .path, .segments, .consume, .httpUriInDst, .namespace, .ingressClassAnnotation, \
         .ignoreDefaultBackends",
        "the same under `outgoing.identifier`",
    ),
    ("routers[].httpUriInDst", "`httpUriInDst` of the identifier io.l5d.methodAndHost"),
    (
        "routers[].interpreter",
        "`outgoing.interpreter`, for io.l5d.k8s.configMap; else nothing, and a note how to fetch the dtab",
    ),
    ("routers[].interpreter.namespace, .name, .filename", "the same under `outgoing.interpreter`"),
    ("routers[].interpreter.transformers", "nothing: there is one hop"),
    ("routers[].servers[].ip, routers[].servers[].port", "`outgoing.listen`"),
    ("routers[].servers[].clearContext", "`outgoing.overrides: []`"),
    ("routers[].servers[].tls", "`outgoing.listen: none`, unless --plain-text is given"),
    ("routers[].bindingCache.idleTtlSecs", "`limits.bindingIdle`"),
    (
        "routers[].timeoutMs, routers[].service.totalTimeoutMs, routers[].client.requestAttemptTimeoutMs",
        "`limits.response`, `outgoing.response` or `response` of a policy",
    ),
    ("routers[].client, routers[].client.configs[].prefix", "`policies.clients`"),
    ("routers[].service, routers[].service.configs[].prefix", "`policies.services`"),
    ("routers[].client.failureAccrual.kind, .failures", "`breaker.failures`"),
    ("routers[].client.failureAccrual.backoff.kind, .ms, .minMs, .maxMs", "`breaker.backoff`"),
    ("routers[].client.requeueBudget", "`limits.attempts: 1`, if it is nothing"),
    ("routers[].client.loadBalancer", "nothing: weir has one balancer, p2c over ewma"),
    (
        "routers[].client.tls, routers[].tls",
        "`!` in `dtab` for those destinations, unless --plain-text is given",
    ),
    (
        "routers[].client.forwardClientCert",
        "nothing: an application must not believe x-forwarded-client-cert",
    ),
];

const SECTIONS: [(&str, Reasons); 9] = [
    ("", reasons::ROOT),
    ("admin.", reasons::ADMIN),
    ("routers[].", reasons::ROUTER),
    ("routers[].servers[].", reasons::SERVER),
    ("routers[].identifier.", reasons::IDENTIFIER),
    ("routers[].bindingCache.", reasons::BINDING_CACHE),
    ("routers[].client.", reasons::CLIENT),
    ("routers[].service.", reasons::SERVICE),
    ("namers[].", reasons::NAMER),
];

/// The table between two comments of docs/from-linkerd.md is to be `expected`.
#[track_caller]
fn is_in_the_docs(which: &str, expected: &str) {
    let docs = include_str!("../../../../docs/from-linkerd.md");
    let (begin, end) = (format!("<!-- {which}: begin -->\n"), format!("<!-- {which}: end -->"));
    let table = docs.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end)).map(|(table, _)| table);
    assert_eq!(
        table,
        Some(expected),
        "docs/from-linkerd.md, between the comments of {which}, is to be:\n{expected}"
    );
}

#[test]
fn the_table_of_keys_that_are_read_has_every_one() {
    let mut expected = String::from("| key of linkerd | in weir |\n|---|---|\n");
    let mut known = std::collections::BTreeSet::new();
    for (keys, becomes) in CARRIED {
        let each: Vec<_> = keys.split(", ").map(|key| format!("`{key}`")).collect();
        expected += &format!("| {} | {becomes} |\n", each.join(", "));
        let parts = keys.split([',', '.', ' ']).map(|part| part.trim_end_matches("[]"));
        known.extend(parts.filter(|part| !part.is_empty()));
    }
    is_in_the_docs("keys that are read", &expected);
    for source in super::truth::SOURCES {
        for taken in source.split("take(\"").skip(1) {
            let key = taken.split('"').next().unwrap();
            assert!(known.contains(key), "an import reads `{key}`, which the table of keys does not have");
        }
    }
}

#[test]
fn the_table_of_keys_that_are_left_out_is_what_an_import_says() {
    let mut expected = String::from("| key of linkerd | in weir |\n|---|---|\n");
    for (section, reasons) in SECTIONS {
        for (key, why) in reasons {
            expected += &format!("| `{section}{key}` | {why} |\n");
        }
    }
    is_in_the_docs("keys that are left out", &expected);
}
