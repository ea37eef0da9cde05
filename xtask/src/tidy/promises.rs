//! SECURITY.md names a test for each promise, and every test that it names exists.

use std::collections::BTreeSet;
use std::path::Path;

use super::source::identifier;
use super::{Finding, Project};

const RULE: &str = "promise";
const DOCUMENT: &str = "SECURITY.md";
/// The header of a table's last column, where the tests of the row's promise are named.
const SHOWN_BY: &str = "shown by";
/// Fewer words than this are a setting, not a test.
const WORDS: usize = 4;

pub(super) fn check(project: &Project) -> Vec<Finding> {
    let Some(document) = project.document(DOCUMENT) else {
        return vec![Finding::new(Path::new(DOCUMENT), 1, RULE, "this file has to exist")];
    };
    let tests = tests(project);
    let mut findings = Vec::new();
    let mut is_of_promises = false;
    for (index, line) in document.text.lines().enumerate() {
        let mut wrong = |what: String| findings.push(Finding::new(&document.path, index + 1, RULE, what));
        let named: Vec<&str> = quoted(line).filter(|name| is_test_name(name)).collect();
        for name in named.iter().filter(|name| !tests.contains(**name)) {
            wrong(format!("no test is called `{name}`"));
        }
        let cells: Vec<&str> = line.strip_prefix('|').map_or_else(Vec::new, |row| row.split('|').collect());
        let last = cells.iter().rev().nth(1).map(|cell| cell.trim()).unwrap_or_default();
        if cells.is_empty() {
            is_of_promises = false;
        } else if last == SHOWN_BY {
            is_of_promises = true;
        } else if is_of_promises && !last.starts_with("---") && !quoted(last).any(is_test_name) {
            wrong("a promise without a test".to_owned());
        }
    }
    findings
}

/// The names of all tests: functions below `#[test]`.
fn tests(project: &Project) -> BTreeSet<&str> {
    let mut tests = BTreeSet::new();
    for source in &project.sources {
        for (at, attribute) in source.code.match_indices("#[test]") {
            let rest = &source.code[at + attribute.len()..];
            if let Some(start) = rest.find("fn ") {
                tests.insert(identifier(&rest[start + "fn ".len()..]));
            }
        }
    }
    tests
}

/// What stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn is_test_name(name: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.bytes().all(is_word) && name.split('_').count() >= WORDS
}
