//! `cargo xtask tidy`: the house's own rules, checked from the text of its files.
//!
//! Reading text is enough for these rules and needs no compiler, so the check takes a moment. What a lint of rustc or
//! clippy can say is said there, in `[workspace.lints]`, and not here.

mod architecture;
mod banned;
mod documented;
mod floors;
mod keys;
mod lengths;
mod promises;
mod rooms;
mod source;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use source::Source;

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: PathBuf,
    line: usize,
    rule: &'static str,
    message: String,
}

impl Finding {
    fn new(path: &Path, line: usize, rule: &'static str, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, rule, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} [{}]", self.path.display(), self.line, self.message, self.rule)
    }
}

/// A file that is no Rust source: a document, a manifest, a script.
pub(crate) struct Document {
    path: PathBuf,
    text: String,
}

/// All the text of the project.
pub(crate) struct Project {
    /// Every file's path, relative to the root.
    paths: Vec<PathBuf>,
    sources: Vec<Source>,
    documents: Vec<Document>,
}

impl Project {
    /// Reads every file that git would commit from `root`.
    fn read(root: &Path) -> Result<Self> {
        let listed = process::output(Command::new("git").current_dir(root).args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]))
        .context("tidy asks git which files belong to the project")?;
        let paths: Vec<PathBuf> = listed
            .split('\0')
            .filter(|path| !path.is_empty() && root.join(path).is_file())
            .map(PathBuf::from)
            .collect();
        let mut texts = Vec::new();
        for path in &paths {
            // What is no text (the committed eBPF object) has nothing for these rules to read.
            if let Ok(text) = String::from_utf8(std::fs::read(root.join(path))?) {
                texts.push((path.clone(), text));
            }
        }
        Ok(Self::new(paths, texts))
    }

    fn new(paths: Vec<PathBuf>, texts: Vec<(PathBuf, String)>) -> Self {
        let (rust, other): (Vec<_>, Vec<_>) = texts
            .into_iter()
            .partition(|(path, _)| path.extension().is_some_and(|extension| extension == "rs"));
        let mut sources: Vec<Source> = rust.into_iter().map(|(path, text)| Source::new(path, text)).collect();
        source::mark_test_modules(&mut sources);
        let documents = other.into_iter().map(|(path, text)| Document { path, text }).collect();
        Self { paths, sources, documents }
    }

    fn document(&self, path: &str) -> Option<&Document> {
        self.documents.iter().find(|document| document.path == Path::new(path))
    }

    fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for source in &self.sources {
            findings.extend(floors::check(source));
            findings.extend(rooms::check(source));
            findings.extend(lengths::check(source));
            findings.extend(banned::check(source));
        }
        findings.extend(banned::machine_paths(self));
        findings.extend(documented::check(self));
        findings.extend(architecture::check(self));
        findings.extend(promises::check(self));
        findings.sort();
        findings.dedup();
        findings
    }
}

/// Checks the working tree; every broken rule is printed with its place.
pub(crate) fn run() -> Result<()> {
    let project = Project::read(&process::root())?;
    let findings = project.findings();
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} broken rules", findings.len());
    }
    println!("tidy: {} files, no rule broken", project.sources.len() + project.documents.len());
    Ok(())
}

#[cfg(test)]
mod tests;
