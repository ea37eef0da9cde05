//! ARCHITECTURE.md and README.md name only files that exist.

use std::path::Path;

use super::{Document, Finding, Project};

const RULE: &str = "architecture";
const DOCUMENTS: [&str; 2] = ["proxy-userspace/ARCHITECTURE.md", "README.md"];
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
    findings
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
