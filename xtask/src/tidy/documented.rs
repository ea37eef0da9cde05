//! Every metric, every header and every configuration key is documented, and the documents name none that is gone.

use std::collections::BTreeSet;
use std::path::Path;

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
    let literals = |prefix: &'static str| {
        project.sources.iter().filter(|source| source.path.starts_with(CODE)).flat_map(move |source| {
            let own = source.literals.iter().filter(|literal| !source.line_in_test(literal.line));
            own.filter(move |literal| is_name(&literal.value, prefix))
                .map(|literal| (source.path.as_path(), literal.line, literal.value.clone()))
        })
    };
    findings.extend(compare(project, METRICS, "metric", "weir_", literals("weir_")));
    findings.extend(compare(project, HEADERS, "header", "l5d-", literals("l5d-")));
    let keys = project.sources.iter().filter(|source| source.path.starts_with(CONFIG)).flat_map(|source| {
        keys::configuration_keys(source).into_iter().map(|(line, key)| (source.path.as_path(), line, key))
    });
    findings.extend(undocumented(project, CONFIGURATION, "configuration key", keys));
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

type Named<'a> = (&'a Path, usize, String);

/// Both ways: what the code names is in the document, and what the document names is in the code.
fn compare<'a>(
    project: &'a Project,
    document: &str,
    kind: &str,
    prefix: &str,
    names: impl Iterator<Item = Named<'a>>,
) -> Vec<Finding> {
    let names: Vec<Named<'a>> = names.collect();
    let in_code: BTreeSet<String> = names.iter().map(|(.., name)| stem(name).to_owned()).collect();
    let mut findings = undocumented(project, document, kind, names.into_iter());
    let Some(document) = project.document(document) else { return findings };
    for (index, line) in document.text.lines().enumerate() {
        for word in quoted(line).filter(|word| is_name(word, prefix)) {
            if !in_code.contains(stem(word))
                && !in_code.iter().any(|name| name.ends_with('-') && word.starts_with(name))
            {
                let message = format!("the code has no {kind} `{word}`");
                findings.push(Finding::new(&document.path, index + 1, STALE, message));
            }
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
