//! ARCHITECTURE.md and README.md name only files that exist, and the map in ARCHITECTURE.md has every module and room.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Document, Finding, Project};

const RULE: &str = "architecture";
const MAP: &str = "proxy-userspace/ARCHITECTURE.md";
const DOCUMENTS: [&str; 2] = [MAP, "README.md"];
/// The folders whose modules are in the map.
const MAPPED: [&str; 3] = ["proxy-userspace/src", "proxy-userspace/src/domain", "proxy-userspace/src/proxy"];
/// Endings that make a word a file's name.
const ENDINGS: [&str; 5] = [".rs", ".toml", ".md", ".yaml", ".yml"];

pub(super) fn check(project: &Project) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in DOCUMENTS {
        match project.document(path) {
            Some(document) => findings.extend(missing(project, document)),
            None => findings.push(Finding::new(Path::new(path), 1, RULE, "this file has to exist")),
        }
    }
    findings.extend(project.document(MAP).into_iter().flat_map(|map| unmapped(project, map)));
    findings
}

/// Modules that no row of a table in `map` names. A module is named in backticks, with or without `.rs`.
fn unmapped(project: &Project, map: &Document) -> Vec<Finding> {
    let rows = map.text.lines().filter(|line| line.starts_with('|'));
    let named: BTreeSet<&str> =
        rows.flat_map(|row| row.split('`').skip(1).step_by(2)).map(module_of).collect();
    let inside = MAPPED
        .iter()
        .flat_map(|folder| project.paths.iter().filter_map(move |path| path.strip_prefix(folder).ok()));
    let modules: BTreeSet<&str> =
        inside.filter_map(|path| path.iter().next()?.to_str()).map(module_of).collect();
    let is_hidden = |module: &str| matches!(module, "mod" | "lib") || module.ends_with("_tests");
    let absent = modules.into_iter().filter(|module| !is_hidden(module) && !named.contains(module));
    absent.map(|it| Finding::new(&map.path, 1, RULE, format!("no row of the map names `{it}`"))).collect()
}

/// A module's name, of the name of its file or folder.
fn module_of(name: &str) -> &str {
    name.strip_suffix(".rs").unwrap_or(name)
}

fn missing(project: &Project, document: &Document) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in document.text.lines().enumerate() {
        for word in line.split(|c: char| !(c.is_alphanumeric() || "_-./*<>{}:".contains(c))) {
            let word = word.trim_end_matches(['.', ':']).trim_start_matches("./");
            let is_pattern = word.contains(['*', '<', '{', ':']);
            if is_pattern || !ENDINGS.iter().any(|ending| word.ends_with(ending) && word != *ending) {
                continue;
            }
            if !project.paths.iter().any(|path| path.ends_with(word)) {
                findings.push(Finding::new(&document.path, index + 1, RULE, format!("no file `{word}`")));
            }
        }
    }
    findings
}
