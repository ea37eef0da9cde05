//! What must not stand in the tree, or only in a few places.

use std::path::Path;

use super::source::Source;
use super::{Finding, Project};

/// Where `unsafe` may stand. Tests may use it too.
const UNSAFE_PLACES: [&str; 5] =
    ["proxy-userspace/src/allocator.rs", "proxy-userspace/src/intercept", "proxy-ebpf", "tests", "xtask"];

/// Folders of one machine. Written in two halves, so that this file does not break its own rule.
const MACHINE_PATHS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |at: usize, rule, message: &str| {
        findings.push(Finding::new(&source.path, source.line(at), rule, message));
    };
    for at in source.words("#[ignore") {
        find(at, "ignore", "no test is ignored: make it run, or take it out");
    }
    for name in ["todo!", "unimplemented!"] {
        source.words(name).for_each(|at| find(at, "unfinished", &format!("`{name}` is no answer")));
    }
    let names = |name| source.words(name).next().is_some();
    if names("libc::syscall") && !names("bpf_attr") {
        for at in source.words("SYS_bpf") {
            find(at, "bpf", "bpf(2) takes aya-obj's whole `bpf_attr`: kernels write past a shorter one");
        }
    }
    if !UNSAFE_PLACES.iter().any(|place| source.path.starts_with(place)) {
        for at in source.words("unsafe").filter(|at| !source.in_test(*at)) {
            find(
                at,
                "unsafe",
                "`unsafe` stands only in allocator.rs, intercept/, proxy-ebpf, tests and xtask",
            );
        }
    }
    findings
}

/// A path of the machine somebody worked on helps nobody else.
pub(super) fn machine_paths(project: &Project) -> Vec<Finding> {
    let sources = project.sources.iter().flat_map(|source| {
        source.literals.iter().flat_map(|literal| found(&source.path, literal.line, &literal.value))
    });
    let documents =
        project.documents.iter().filter(|document| document.path != Path::new("Cargo.lock")).flat_map(
            |document| {
                let lines = document.text.lines().enumerate();
                lines.flat_map(|(index, line)| found(&document.path, index + 1, line))
            },
        );
    sources.chain(documents).collect()
}

fn found(path: &Path, line: usize, text: &str) -> Option<Finding> {
    let folder = MACHINE_PATHS.iter().find(|folder| text.contains(**folder))?;
    Some(Finding::new(path, line, "machine path", format!("`{folder}…` is a folder of one machine")))
}
