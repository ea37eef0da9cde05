//! Every metric, every header and every configuration key is documented, and the documents name none that is gone.

use std::collections::BTreeSet;
use std::path::Path;

use super::source::{Literal, Source};
use super::{Finding, Project, keys};

const RULE: &str = "undocumented";
const STALE: &str = "stale document";
const CODE: &str = "proxy-userspace/src";
const CONFIG: &str = "proxy-userspace/src/config";

const METRICS: &str = "docs/metrics.md";
const HEADERS: &str = "docs/headers.md";
const CONFIGURATION: &str = "docs/configuration.md";

/// What the exposition format appends to a registered name.
const SUFFIXES: [&str; 7] = ["_total", "_seconds", "_bytes", "_info", "_bucket", "_sum", "_count"];

pub(super) fn check(project: &Project) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Not every `weir_…` is a metric (eBPF programs are called so too): one that is counted under is.
    let metrics =
        literals(project, "weir_").filter(|(source, literal)| is_counted(source, literal)).map(named);
    let all = literals(project, "weir_").map(named);
    findings.extend(undocumented(project, METRICS, "metric", metrics));
    findings.extend(stale(project, METRICS, "metric", "weir_", all));
    let headers = || literals(project, "l5d-").map(named);
    findings.extend(undocumented(project, HEADERS, "header", headers()));
    findings.extend(stale(project, HEADERS, "header", "l5d-", headers()));
    let keys = || {
        let sources = project.sources.iter().filter(|source| source.path.starts_with(CONFIG));
        sources.flat_map(|source| keys::configuration_keys(source).map(move |key| named((source, key))))
    };
    findings.extend(undocumented(project, CONFIGURATION, "configuration key", keys()));
    findings.extend(stale_keys(project, keys()));
    findings
}

fn is_name(text: &str, prefix: &str) -> bool {
    let rest = text.strip_prefix(prefix);
    rest.is_some_and(|rest| {
        !rest.is_empty()
            && rest
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte))
    })
}

/// The names with this prefix in the proxy's own code.
fn literals<'a>(project: &'a Project, prefix: &'a str) -> impl Iterator<Item = (&'a Source, &'a Literal)> {
    project.sources.iter().filter(|source| source.path.starts_with(CODE)).flat_map(move |source| {
        let own = source.literals.iter().filter(|literal| !source.line_in_test(literal.line));
        own.filter(move |literal| is_name(&literal.value, prefix)).map(move |literal| (source, literal))
    })
}

/// Whether the literal stands where metrics are written out: there it is a call's or a row's first value.
fn is_counted(source: &Source, literal: &Literal) -> bool {
    let writes = ["counters", "gauges", "histograms"].iter().any(|call| source.words(call).next().is_some());
    writes && source.code[..literal.start].trim_end().ends_with('(')
}

type Named<'a> = (&'a Path, usize, String);

fn named<'a>((source, literal): (&'a Source, &'a Literal)) -> Named<'a> {
    (source.path.as_path(), literal.line, literal.value.clone())
}

/// Names in the document that the code does not know.
fn stale<'a>(
    project: &Project,
    document: &str,
    kind: &str,
    prefix: &str,
    names: impl Iterator<Item = Named<'a>>,
) -> Vec<Finding> {
    let in_code: BTreeSet<String> = names.map(|(.., name)| stem(&name).to_owned()).collect();
    let Some(document) = project.document(document) else { return Vec::new() };
    let mut findings = Vec::new();
    for (index, line) in document.text.lines().enumerate() {
        for word in quoted(line).filter(|word| is_name(word, prefix) && !in_code.contains(stem(word))) {
            let message = format!("the code has no {kind} `{word}`");
            findings.push(Finding::new(&document.path, index + 1, STALE, message));
        }
    }
    findings
}

/// Documented keys, written `section.key`, that nothing reads. Words without a dot may be values.
fn stale_keys<'a>(project: &Project, keys: impl Iterator<Item = Named<'a>>) -> Vec<Finding> {
    let in_code: BTreeSet<String> = keys.map(|(.., name)| name).collect();
    let Some(document) = project.document(CONFIGURATION) else { return Vec::new() };
    let mut findings = Vec::new();
    for (index, line) in document.text.lines().enumerate() {
        // The first cell of a table's row is the key.
        let Some(key) = line.strip_prefix("| `").and_then(|rest| rest.split('`').next()) else { continue };
        if let Some(unknown) = key.split('.').find(|part| !in_code.contains(*part)) {
            let message = format!("the code reads no configuration key `{unknown}`");
            findings.push(Finding::new(&document.path, index + 1, STALE, message));
        }
    }
    findings
}

fn undocumented<'a>(
    project: &'a Project,
    document: &str,
    kind: &str,
    names: impl Iterator<Item = Named<'a>>,
) -> Vec<Finding> {
    let text = project.document(document).map_or("", |document| document.text.as_str());
    let known: BTreeSet<&str> =
        text.lines().flat_map(quoted).flat_map(|words| words.split('.')).map(stem).collect();
    names
        .filter(|(.., name)| !known.contains(stem(name)))
        .map(|(path, line, name)| {
            Finding::new(path, line, RULE, format!("{kind} `{name}` is not in {document}"))
        })
        .collect()
}

/// What a line has between backticks: without labels, and without the star of a family of names.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    let parts = line.split('`').skip(1).step_by(2);
    parts.map(|part| part.split(['{', ':', ' ']).next().unwrap_or_default().trim_end_matches('*'))
}

fn stem(name: &str) -> &str {
    SUFFIXES.iter().fold(name, |name, suffix| name.strip_suffix(suffix).unwrap_or(name))
}
