//! linkerd's files in, weir's configuration and notes out.

mod dtabs;
mod errors;
mod interpreters;
mod kismatic;
mod policy;
mod protection;
mod routers;
mod servicemesh;
mod table;
mod truth;

use std::path::Path;

use super::*;
use crate::config::{self, Settings};

fn imported(text: &str) -> Imported {
    let imported =
        import("l5d.yaml", text, Options::default()).unwrap_or_else(|error| panic!("{error}\n{text}"));
    // Every imported file results in a valid configuration.
    settings(&imported.yaml);
    imported
}

/// What weir makes of an imported file.
fn settings(yaml: &str) -> Settings {
    config::parse("weir.yaml", yaml, Path::new("/etc/weir")).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

/// The paths of the keys that were left out.
fn left(imported: &Imported) -> Vec<&str> {
    paths(imported, Fate::Left)
}

/// The paths of the keys with a different meaning.
fn changed(imported: &Imported) -> Vec<&str> {
    paths(imported, Fate::Changed)
}

/// The paths of the keys that cannot work unchanged.
fn broken(imported: &Imported) -> Vec<&str> {
    paths(imported, Fate::Broken)
}

fn paths(imported: &Imported, fate: Fate) -> Vec<&str> {
    imported.notes.iter().filter(|note| note.fate == fate).map(|note| note.path.as_str()).collect()
}

fn note<'a>(imported: &'a Imported, path: &str) -> &'a Note {
    let found = imported.notes.iter().find(|note| note.path == path);
    found.unwrap_or_else(|| panic!("no note on {path}: {:#?}", imported.notes))
}

/// A file with one router of the protocol http, with additional `keys` (indented by two).
fn router(keys: &str) -> String {
    format!("routers:\n- protocol: http\n  servers: [{{ port: 4140 }}]\n{keys}")
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
