//! Files hold one idea and functions fit a screen.
//!
//! Clippy's `too_many_lines` cannot take the place of the rule for functions: it has one threshold for a crate, while tests
//! may be longer than the code beside them; it does not count comments and empty lines, which a screen has to show; and it
//! never sees the program of proxy-ebpf, which is built for another machine.

use super::Finding;
use super::source::{Source, closing, identifier};

const RULE: &str = "length";

/// Lines of a file outside its test code.
const FILE: usize = 400;
/// Lines of a file, test code included, and of a file of tests.
const FILE_WITH_TESTS: usize = 600;
/// Lines of a function, from `fn` to the closing brace.
const FUNCTION: usize = 60;
/// A test may tell a longer story.
const TEST_FUNCTION: usize = 100;

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (all, own) = source.lines();
    if own > FILE {
        let message = format!("{own} lines of code, {FILE} is the wall: which two ideas does the file hold?");
        findings.push(Finding::new(&source.path, 1, RULE, message));
    } else if all > FILE_WITH_TESTS {
        let message =
            format!("{all} lines with its tests, {FILE_WITH_TESTS} is the wall: move tests beside it");
        findings.push(Finding::new(&source.path, 1, RULE, message));
    }
    for (at, name, lines) in functions(source) {
        let limit = if source.in_test(at) { TEST_FUNCTION } else { FUNCTION };
        if lines > limit {
            let message = format!("function `{name}` has {lines} lines, {limit} fit a screen");
            findings.push(Finding::new(&source.path, source.line(at), RULE, message));
        }
    }
    findings
}

/// Every function with a body: where, its name, its lines.
fn functions(source: &Source) -> Vec<(usize, &str, usize)> {
    let code = &source.code;
    let mut found = Vec::new();
    for at in source.words("fn") {
        let name = identifier(code[at + 2..].trim_start());
        let Some(open) = body(code, at).filter(|_| !name.is_empty()) else { continue };
        let Some(end) = closing(code, open) else { continue };
        found.push((at, name, source.line(end - 1) - source.line(at) + 1));
    }
    found
}

/// The brace that opens the body; `None` for a declaration without one.
fn body(code: &str, at: usize) -> Option<usize> {
    let mut depth = 0;
    for (offset, byte) in code.bytes().enumerate().skip(at) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(offset),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}
