//! Every note is true for this version: features it calls missing are missing, and keys it recommends exist.

use super::*;
use crate::config::{self, ConfigError};

fn parse(yaml: &str) -> Result<Settings, ConfigError> {
    config::parse("weir.yaml", yaml, Path::new("/etc/weir"))
}

/// Features that notes call missing, each with a configuration that would be valid if weir had it. When one is built,
/// this test fails, and the notes in `migrate` must change.
const ABSENT: &[(&str, &str)] = &[
    ("makes no TLS", "identity: {}\n"),
    ("ends none", "outgoing: { tls: {} }\n"),
    ("admin speaks no TLS", "admin: { tls: {} }\n"),
    (
        "all routers share the endpoints",
        "outgoing: [{ policies: { clients: [{ prefix: /, breaker: { failures: 1 } }] } }]\n",
    ),
    ("writes no traces yet", "tracing: {}\n"),
    ("writes no access log", "accessLog: {}\n"),
    ("has no retry budget", "retries: {}\n"),
    ("a 5xx is not retried", "policies: { services: [{ prefix: /, retries: {} }] }\n"),
    ("has one balancer", "policies: { clients: [{ prefix: /, balancer: p2c }] }\n"),
    ("one folder", "discovery: { files: [{ path: a }, { path: b }] }\n"),
    (
        "looks no name up here",
        "namers: [{ kind: io.l5d.fs, transformers: [{ kind: io.l5d.specificHost, host: a }] }]\n",
    ),
    ("reads no rules of Istio's", "outgoing: { identifier: { kind: io.l5d.k8s.istio } }\n"),
    ("kept the dtab", "interpreter: { kind: io.l5d.namerd }\n"),
    ("makes no use of labels", "namers: [{ kind: io.l5d.k8s, labelSelector: version }]\n"),
];

#[test]
fn what_notes_say_is_missing_is_missing() {
    for (claim, yaml) in ABSENT {
        assert!(parse(yaml).is_err(), "weir has this now, and notes say otherwise ({claim}): {yaml}");
    }
}

/// The keys that notes recommend, each with a value.
const PRESENT: &[(&str, &str)] = &[
    ("admin", "{}"),
    ("admin.allow", "[10.0.0.0/8]"),
    ("admin.listen", "\"[::]:9990\""),
    ("baseDtab", "''"),
    ("breaker", "{}"),
    ("breaker.failures", "5"),
    ("discovery", "{}"),
    ("discovery.files", "{ path: a }"),
    ("discovery.files.path", "a"),
    ("discovery.kubernetes", "{}"),
    ("dtab", "''"),
    ("limits.attempts", "3"),
    ("limits.bindings", "100"),
    ("limits.connect", "1s"),
    ("limits.connections", "100"),
    ("limits.headerBytes", "64KiB"),
    ("limits.http2.maxConcurrentStreams", "100"),
    ("limits.http2.streamWindow", "64KiB"),
    ("limits.idle", "5m"),
    ("limits.keepAlive", "30s"),
    ("limits.poolConnections", "10"),
    ("limits.poolIdle", "60s"),
    ("limits.response", "5m"),
    ("limits.silence", "3s"),
    ("limits.targetBytes", "8KiB"),
    ("limits.unacknowledged", "10s"),
    ("namers", "[]"),
    ("outgoing.allow", "[10.0.0.0/8]"),
    ("outgoing.dstPrefix", "/svc"),
    ("outgoing.listen", "none"),
    ("outgoing.overrides", "[]"),
    ("policies", "{}"),
    ("policies.clients", "[]"),
    ("probes", "{}"),
];

/// Whether a backquoted word in notes is not a key of weir's configuration.
fn is_no_key(quoted: &str) -> bool {
    let is_key = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    // linkerd's own keys, and short forms in a note on the section they are in.
    const OTHERS: [&str; 21] = [
        "interpreter",
        "label",
        "failureAccrual",
        "bindingCache",
        "client.configs",
        "ip",
        "tls",
        "kind",
        "path",
        "name",
        "pattern",
        "host",
        "routers",
        "response",
        "transformers",
        "limits",
        "default",
        "data",
        "dtabs",
        "http",
        "h2",
    ];
    OTHERS.contains(&quoted) || !quoted.split('.').all(is_key)
}

/// The source files of `migrate`, which contain every note.
pub(super) const SOURCES: &[&str] = &[
    include_str!("../mod.rs"),
    include_str!("../carried.rs"),
    include_str!("../identifier.rs"),
    include_str!("../interpreter.rs"),
    include_str!("../listeners.rs"),
    include_str!("../namers.rs"),
    include_str!("../policy.rs"),
    include_str!("../reasons.rs"),
    include_str!("../router.rs"),
    include_str!("../several.rs"),
    include_str!("../telemetry.rs"),
    include_str!("../tls.rs"),
    include_str!("../transformer.rs"),
];

#[test]
fn every_key_that_a_note_names_is_one() {
    for (key, value) in PRESENT {
        let mut yaml = String::new();
        for (depth, part) in key.split('.').enumerate() {
            if depth > 0 {
                yaml.push('\n');
            }
            yaml += &format!("{}{part}:", "  ".repeat(depth));
        }
        yaml += &format!(" {value}\n");
        let missing = "discovery:\n  files:\n    path: a\n";
        assert!(yaml == missing || parse(&yaml).is_ok(), "{yaml}{:?}", parse(&yaml).err());
    }
    let mut seen = 0;
    for source in SOURCES {
        // Skip comments: notes are in string literals.
        let code =
            source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        for quoted in code.split('`').skip(1).step_by(2).filter(|quoted| !is_no_key(quoted)) {
            assert!(
                PRESENT.iter().any(|(key, _)| *key == quoted),
                "a note names `{quoted}`, which this test does not know"
            );
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} keys found in notes");
}
