//! Every note is true for this version: features it calls missing are missing, and keys it recommends exist.

use super::*;
use crate::config::{self, ConfigError};

fn parse(yaml: &str) -> Result<Settings, ConfigError> {
    config::parse("weir.yaml", yaml, Path::new("/etc/weir"))
}

/// Features that notes call missing, each with a configuration that would be valid if weir had it, and one that differs in
/// that alone and is valid. When one is built, this test fails, and the notes in `migrate` must change.
const ABSENT: &[(&str, &str, &str)] = &[
    (
        "makes no TLS",
        "identity: { mode: permissive, files: { bundle: a, certificates: [] } }\n",
        "identity: { files: { bundle: a, certificates: [] } }\n",
    ),
    ("ends none", "outgoing: { tls: {} }\n", "outgoing: { tls: close }\n"),
    ("admin speaks no TLS", "admin: { tls: {} }\n", "admin: {}\n"),
    (
        "all routers share the endpoints",
        "outgoing: [{ policies: { clients: [{ prefix: /, breaker: { failures: 1 } }] } }]\n",
        "outgoing: [{ policies: { services: [{ prefix: /, attempts: 1 }] } }]\n",
    ),
    ("writes no traces yet", "tracing: {}\n", "log: {}\n"),
    ("writes no access log", "accessLog: {}\n", "log: {}\n"),
    ("has no retry budget", "retries: {}\n", "limits: { attempts: 2 }\n"),
    (
        "a 5xx is not retried",
        "policies: { services: [{ prefix: /, retries: {} }] }\n",
        "policies: { services: [{ prefix: /, attempts: 2 }] }\n",
    ),
    (
        "has one balancer",
        "policies: { clients: [{ prefix: /, balancer: p2c }] }\n",
        "policies: { clients: [{ prefix: /, attempts: 2 }] }\n",
    ),
    (
        "one folder",
        "discovery: { files: [{ path: / }, { path: /etc }] }\n",
        "discovery: { files: { path: / } }\n",
    ),
    (
        "looks no name up here",
        "namers: [{ kind: io.l5d.fs, transformers: [{ kind: io.l5d.specificHost, host: a }] }]\n",
        "namers: [{ kind: io.l5d.fs, transformers: [{ kind: io.l5d.specificHost, host: 10.0.0.1 }] }]\n",
    ),
    (
        "reads no rules of Istio's",
        "outgoing: { identifier: { kind: io.l5d.k8s.istio } }\n",
        "outgoing: { identifier: { kind: io.l5d.header } }\n",
    ),
    (
        "kept the dtab",
        "discovery: { kubernetes: {} }\noutgoing: { interpreter: { kind: io.l5d.namerd, name: web } }\n",
        "discovery: { kubernetes: {} }\noutgoing: { interpreter: { kind: io.l5d.k8s.dtabs, name: web } }\n",
    ),
    (
        "reads no labels",
        "namers: [{ kind: io.l5d.k8s, labelSelector: version }]\n",
        "namers: [{ kind: io.l5d.k8s }]\n",
    ),
];

#[test]
fn what_notes_say_is_missing_is_missing() {
    for (claim, missing, there) in ABSENT {
        assert!(parse(missing).is_err(), "weir has this now, and notes say otherwise ({claim}): {missing}");
        // Or else it would be refused for another mistake, also once weir has it.
        assert!(parse(there).is_ok(), "{claim}: {there}{:?}", parse(there).err());
    }
}

/// The keys of the sections in which a feature that notes call missing would come. A new key: read the notes, correct those
/// that it makes false, and add it here.
const KEYS: &[(&str, &str)] = &[
    (
        "KEY: 1\n",
        "outgoing, transparent, identity, admin, probes, workers, names, refuse, drain, discovery, baseDtab, dtab, \
         namers, limits, breaker, policies, log",
    ),
    (
        "outgoing: { KEY: 1 }\n",
        "label, listen, allow, clients, inPods, overrides, destinations, contexts, diagnostics, via, dstPrefix, \
         identifier, interpreter, baseDtab, dtab, policies, response, attempts, connectPorts, tls",
    ),
    ("policies: { services: [{ prefix: /, KEY: 1 }] }\n", "prefix, response, attempts"),
    ("policies: { clients: [{ prefix: /, KEY: 1 }] }\n", "prefix, response, attempts, protocol, breaker"),
];

#[test]
fn a_new_key_makes_somebody_read_the_notes() {
    for (yaml, known) in KEYS {
        let error = parse(&yaml.replace("KEY", "noSuchKeyAnywhere")).unwrap_err().to_string();
        let said = error.split_once("(known here: ").and_then(|(_, keys)| keys.split_once(')'));
        assert_eq!(said.map(|(keys, _)| keys), Some(*known), "{error}");
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
    include_str!("../part.rs"),
    include_str!("../policy.rs"),
    include_str!("../reasons.rs"),
    include_str!("../router.rs"),
    include_str!("../several.rs"),
    include_str!("../telemetry.rs"),
    include_str!("../tls.rs"),
    include_str!("../transformer.rs"),
];

/// The source without its comments, since notes are in string literals, and with each of these on one line.
fn code(source: &str) -> String {
    source.lines().filter(|line| !line.trim_start().starts_with("//")).fold(String::new(), |code, line| {
        match code.strip_suffix('\\') {
            Some(start) => start.to_owned() + line.trim_start(),
            None => code + "\n" + line,
        }
    })
}

#[test]
fn what_is_checked_here_are_the_notes() {
    let all: Vec<_> = SOURCES.iter().map(|source| code(source)).collect();
    for (claim, ..) in ABSENT {
        assert!(all.iter().any(|code| code.contains(claim)), "no note says any more: {claim}");
    }
    let makes_notes = |text: &str| {
        let makes = ["left", "changed", "unprotected", "broken", "dead_end", "problem"];
        makes.iter().any(|it| text.contains(&format!("notes.{it}(")))
    };
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/migrate")).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(
                !makes_notes(&text) || SOURCES.contains(&text.as_str()),
                "{} makes notes",
                path.display()
            );
        }
    }
}

/// What notes may say of encryption: each is linkerd's, or something that weir does not do ([`ABSENT`]).
const OF_TLS: [&str; 5] =
    ["weir makes no TLS", "clients spoke TLS", "admin speaks no TLS", "were encrypted", "linkerd encrypted"];

#[test]
fn no_note_promises_encryption() {
    for code in SOURCES.iter().map(|source| code(source)) {
        for word in ["TLS", "encrypt"] {
            for (at, _) in code.match_indices(word) {
                let is_known = OF_TLS.iter().any(|it| {
                    it.match_indices(word).any(|(start, _)| {
                        let from = at.checked_sub(start).and_then(|from| code.get(from..));
                        from.is_some_and(|from| from.starts_with(it))
                    })
                });
                let around = &code[code.floor_char_boundary(at.saturating_sub(40))..at + word.len()];
                assert!(is_known, "a note says what is not known to be true here: {around}");
            }
        }
    }
}

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
        for quoted in code(source).split('`').skip(1).step_by(2).filter(|quoted| !is_no_key(quoted)) {
            assert!(
                PRESENT.iter().any(|(key, _)| *key == quoted),
                "a note names `{quoted}`, which this test does not know"
            );
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} keys found in notes");
}
