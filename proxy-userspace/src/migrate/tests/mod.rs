//! linkerd's files in, weir's configuration and notes out.

mod errors;
mod kismatic;
mod policy;
mod servicemesh;

use std::path::Path;

use super::*;
use crate::config::{self, Settings};

/// Keys that the imported file may have before `config` reads them: a test leaves one out only while it is unknown.
const MAY_BE_UNKNOWN: [&str; 3] = ["namers", "dstPrefix", "identifier"];

fn imported(text: &str) -> Imported {
    let imported = import("l5d.yaml", text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    // Whatever was imported is a configuration.
    settings(&imported.yaml);
    imported
}

/// What weir makes of an imported file.
fn settings(yaml: &str) -> Settings {
    let parse = |yaml: &str| config::parse("weir.yaml", yaml, Path::new("/etc/weir"));
    let mut yaml = yaml.to_owned();
    if let Err(error) = parse(&yaml) {
        for key in MAY_BE_UNKNOWN {
            if error.problems.iter().any(|problem| problem.what == format!("unknown key `{key}`")) {
                yaml = without(&yaml, key);
            }
        }
    }
    parse(&yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

/// The file without `key` and what is indented under it.
fn without(yaml: &str, key: &str) -> String {
    let mut kept = String::new();
    let mut inside = None;
    for line in yaml.lines() {
        let indent = line.len() - line.trim_start().len();
        if inside.is_some_and(|outer| indent > outer && !line.is_empty()) {
            continue;
        }
        inside = line.trim_start().starts_with(&format!("{key}:")).then_some(indent);
        if inside.is_none() {
            kept.extend([line, "\n"]);
        }
    }
    kept
}

/// The paths of what was left out.
fn left(imported: &Imported) -> Vec<&str> {
    paths(imported, Fate::Left)
}

/// The paths of what has another meaning now.
fn changed(imported: &Imported) -> Vec<&str> {
    paths(imported, Fate::Changed)
}

fn paths(imported: &Imported, fate: Fate) -> Vec<&str> {
    imported.notes.iter().filter(|note| note.fate == fate).map(|note| note.path.as_str()).collect()
}

fn note<'a>(imported: &'a Imported, path: &str) -> &'a Note {
    let found = imported.notes.iter().find(|note| note.path == path);
    found.unwrap_or_else(|| panic!("no note on {path}: {:#?}", imported.notes))
}

/// A file with one router of the protocol http, to which `keys` are added (indented by two).
fn router(keys: &str) -> String {
    format!("routers:\n- protocol: http\n  servers: [{{ port: 4140, ip: 0.0.0.0 }}]\n{keys}")
}

#[test]
fn every_note_is_a_comment_line() {
    let imported = imported(&router("  failFast: true\n  \"odd\\nkey\": 1\n  client: { tls: {} }\n"));
    assert_eq!(imported.notes.len(), 4, "{:#?}", imported.notes);
    for note in &imported.notes {
        let line = format!("# - {note}");
        assert!(imported.yaml.lines().any(|it| it == line), "{line}\n{}", imported.yaml);
    }
}

#[test]
fn a_key_in_test_that_weir_knows_is_not_stripped() {
    let yaml = "outgoing:\n  dstPrefix: /a\n  identifier:\n    - { kind: x }\n    - { kind: y }\n  via: true\nnamers:\n  - a\n";
    let kept = without(&without(&without(yaml, "identifier"), "dstPrefix"), "namers");
    assert_eq!(kept, "outgoing:\n  via: true\n");
}
