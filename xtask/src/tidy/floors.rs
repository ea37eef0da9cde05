//! The floors: a module of the proxy uses only what lies below it, and the domain stays pure.

use std::path::Path;

use super::Finding;
use super::source::{Source, closing, identifier, is_word};

const RULE: &str = "floor";
const ROOT: &str = "proxy-userspace/src";

/// Every top-level module and its floor. The modules of the top floor wire everything and may use each other.
const FLOORS: [(&str, u8); 17] = [
    ("domain", 0),
    ("config", 1),
    ("telemetry", 1),
    ("drain", 1),
    ("discovery", 2),
    ("transport", 2),
    ("intercept", 2),
    ("migrate", 2),
    ("identity", 2),
    ("proxy", 3),
    ("control", 4),
    ("admin", 5),
    ("allocator", 0),
    ("app", TOP),
    ("cli", TOP),
    ("main", TOP),
    ("lib", TOP),
];
const TOP: u8 = 6;

/// What a module may not name, and why.
const FORBIDDEN: [(&str, &str, &str); 12] = [
    ("domain", "tokio", "the domain knows no runtime"),
    ("domain", "Instant::now", "the domain has no clock: take `now: Instant` as an argument"),
    ("domain", "SystemTime", "the domain has no clock: take the time as an argument"),
    ("domain", "std::fs", "the domain reads no files"),
    ("domain", "std::env", "the domain reads no environment"),
    ("domain", "std::thread", "the domain starts no threads"),
    ("domain", "TcpStream", "the domain opens no sockets"),
    ("domain", "socket2", "the domain opens no sockets"),
    ("proxy", "kube", "the proxy sees catalogs, never Kubernetes"),
    ("proxy", "k8s_openapi", "the proxy sees catalogs, never Kubernetes"),
    ("proxy", "aya", "the proxy sees origins, never BPF"),
    ("proxy", "notify", "the proxy sees catalogs, never files"),
];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let Ok(inside) = source.path.strip_prefix(ROOT) else { return Vec::new() };
    let module = top_module(inside);
    let Some(floor) = floor_of(module) else {
        let message = format!("module `{module}` has no floor: give it one in xtask/src/tidy/floors.rs");
        return vec![Finding::new(&source.path, 1, RULE, message)];
    };
    let mut findings = Vec::new();
    for (offset, used) in used_modules(source, inside) {
        let Some(below) = floor_of(used) else { continue };
        if used != module && below >= floor && floor != TOP {
            let message = format!("`{module}` (floor {floor}) may not use `{used}` (floor {below})");
            findings.push(Finding::new(&source.path, source.line(offset), RULE, message));
        }
    }
    findings.extend(forbidden(source, module));
    findings
}

pub(super) fn top_module(inside: &Path) -> &str {
    let first = inside.iter().next().and_then(|part| part.to_str()).unwrap_or_default();
    first.strip_suffix(".rs").unwrap_or(first)
}

fn floor_of(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// Top-level modules named by `crate::…` and by chains of `super::` that reach the root.
fn used_modules<'a>(source: &'a Source, inside: &Path) -> Vec<(usize, &'a str)> {
    let mut used = Vec::new();
    for at in source.words("crate") {
        used.extend(names_after(&source.code, at + "crate".len()));
    }
    used.extend(first_names(source, inside));
    used
}

/// What is named by chains of `super::` that reach the folder below which the file is at `inside`.
pub(super) fn first_names<'a>(source: &'a Source, inside: &Path) -> Vec<(usize, &'a str)> {
    let mut names = Vec::new();
    let file = inside.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let depth = inside.iter().count() - usize::from(["mod", "lib", "main"].contains(&file));
    for at in source.words("super") {
        // Only the head of a chain counts: `super::super::` is read as one.
        if source.code[..at].ends_with("super::") {
            continue;
        }
        let chain = source.code[at..].split("::").take_while(|part| *part == "super").count();
        if chain == depth {
            names.extend(names_after(&source.code, at + chain * "super".len() + (chain - 1) * "::".len()));
        }
    }
    names
}

/// The first names of the path or of the group that follows at `at`, which must be `::`.
pub(super) fn names_after(code: &str, at: usize) -> Vec<(usize, &str)> {
    let Some(rest) = code[at..].strip_prefix("::") else { return Vec::new() };
    let start = at + 2;
    if !rest.starts_with('{') {
        return vec![(start, identifier(rest))];
    }
    let end = closing(code, start).unwrap_or(code.len());
    let mut names = Vec::new();
    let (mut depth, mut fresh) = (0, false);
    for (offset, c) in code[start..end].char_indices() {
        match c {
            '{' => (depth, fresh) = (depth + 1, depth == 0),
            '}' => depth -= 1,
            ',' => fresh = depth == 1,
            c if fresh && is_word(c) => {
                names.push((start + offset, identifier(&code[start + offset..])));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

fn forbidden(source: &Source, module: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut forbid = |offset: usize, what: &str, why: &str| {
        if !source.in_test(offset) {
            let message = format!("`{what}` in `{module}`: {why}");
            findings.push(Finding::new(&source.path, source.line(offset), RULE, message));
        }
    };
    for (_, what, why) in FORBIDDEN.iter().filter(|(place, ..)| *place == module) {
        source.words(what).filter(|at| is_path(&source.code, *at, what)).for_each(|at| forbid(at, what, why));
    }
    if module == "domain" {
        for at in source.words("fastrand") {
            let function = source.code[at..].strip_prefix("fastrand::").map_or("", identifier);
            if function.starts_with(|c: char| c.is_ascii_lowercase()) {
                forbid(at, &format!("fastrand::{function}"), "take `rng: &mut fastrand::Rng` as an argument");
            }
        }
    }
    findings
}

/// A crate's name counts only where a path begins with it; a longer path or a type counts anywhere.
fn is_path(code: &str, at: usize, what: &str) -> bool {
    let is_crate = !what.contains("::") && what.starts_with(|c: char| c.is_ascii_lowercase());
    !is_crate || code[at + what.len()..].starts_with("::") && !code[..at].ends_with("::")
}
