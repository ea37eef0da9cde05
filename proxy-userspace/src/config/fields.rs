//! Reads a section key by key, and collects mistakes instead of stopping at the first one.

use std::collections::HashMap;

use strsim::levenshtein;

use super::problem::{Mistake, Problem, quoted};
use super::tree::{Entry, Node, Position, Value};

/// The mistakes found so far.
pub(super) struct Report {
    file: String,
    problems: Vec<Problem>,
}

/// A mapping being read. Keys that were read are known; [`finish`](Self::finish) reports the others.
pub(super) struct Section<'n, 'r> {
    path: String,
    at: Position,
    entries: &'n [Entry],
    known: Vec<&'static str>,
    report: &'r mut Report,
}

impl Report {
    pub(super) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), problems: Vec::new() }
    }

    pub(super) fn add(&mut self, at: Position, path: impl Into<String>, mistake: Mistake) {
        self.problems.push(Problem::at(&self.file, at, path, mistake));
    }

    /// Every problem, in the order of the file.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        self.problems
    }
}

impl<'n, 'r> Section<'n, 'r> {
    /// The section in `node`, with `path` as the keys that lead to it; none if it is not a section.
    pub(super) fn open(node: &'n Node, path: &str, report: &'r mut Report) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            let name = if path.is_empty() { "the file" } else { path };
            let mistake = Mistake::new(format!("expected keys with values, not {}", node.kind()))
                .hint(format!("{name} holds `key: value` lines"));
            report.add(node.at, path, mistake);
            return None;
        };
        let section = Self { path: path.to_owned(), at: node.at, entries, known: Vec::new(), report };
        section.report_duplicates()
    }

    fn report_duplicates(self) -> Option<Self> {
        let mut lines = HashMap::new();
        for entry in self.entries {
            let first = *lines.entry(entry.key.as_str()).or_insert(entry.at);
            if first != entry.at {
                let mistake = Mistake::new("this key is here twice")
                    .hint(format!("the first is at line {}; keep one of them", first.line));
                self.report.add(entry.at, join(&self.path, &entry.key), mistake);
            }
        }
        Some(self)
    }

    fn entry(&mut self, key: &'static str) -> Option<&'n Entry> {
        self.known.push(key);
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Sets `target` from `key` if the key is present and its value is valid.
    pub(super) fn set<T>(
        &mut self,
        key: &'static str,
        target: &mut T,
        read: impl FnOnce(&Node) -> Result<T, Mistake>,
    ) {
        let Some(entry) = self.entry(key) else { return };
        match read(&entry.value) {
            Ok(value) => *target = value,
            Err(mistake) => self.report.add(place(entry), join(&self.path, key), mistake),
        }
    }

    /// The list under `key`, if the key is present and every item is valid. Each invalid item is reported.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&Node) -> Result<T, Mistake>,
    ) -> Option<Vec<T>> {
        let entry = self.entry(key)?;
        let path = join(&self.path, key);
        let Value::List(items) = &entry.value.value else {
            let mistake = Mistake::new(format!("expected a list, not {}", entry.value.kind()))
                .hint(format!("write `{key}: [first, second]`"));
            self.report.add(place(entry), path, mistake);
            return None;
        };
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match read(item) {
                Ok(value) => list.push(value),
                Err(mistake) => self.report.add(item.at, format!("{path}[{index}]"), mistake),
            }
        }
        (list.len() == items.len()).then_some(list)
    }

    /// Whether the key is present and its value has keys of its own.
    pub(super) fn is_section(&self, key: &str) -> bool {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        entry.is_some_and(|entry| matches!(entry.value.value, Value::Map(_)))
    }

    /// Whether the key is present and its value is a list.
    pub(super) fn is_list(&self, key: &str) -> bool {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        entry.is_some_and(|entry| matches!(entry.value.value, Value::List(_)))
    }

    /// The section under `key`. An empty one is read as absent.
    pub(super) fn section(&mut self, key: &'static str) -> Option<Section<'n, '_>> {
        let entry = self.entry(key)?;
        match entry.value.value {
            Value::Null => None,
            _ => Section::open(&entry.value, &join(&self.path, key), self.report),
        }
    }

    /// Reads each section in the list under `key` with `read`.
    pub(super) fn sections<T>(&mut self, key: &'static str, read: impl Fn(Section<'n, '_>) -> T) -> Vec<T> {
        let Some(entry) = self.entry(key) else { return Vec::new() };
        let path = join(&self.path, key);
        match &entry.value.value {
            Value::Null => Vec::new(),
            Value::List(items) => {
                let open =
                    |(index, item)| Section::open(item, &format!("{path}[{index}]"), self.report).map(&read);
                items.iter().enumerate().filter_map(open).collect()
            }
            _ => {
                let mistake = Mistake::new(format!("expected a list, not {}", entry.value.kind())).hint(
                    format!("write `{key}: [{{ … }}, {{ … }}]`, or each item on a line after a hyphen"),
                );
                self.report.add(place(entry), path, mistake);
                Vec::new()
            }
        }
    }

    /// The section under `key`, whose presence turns something on. An empty one would be ambiguous, so it is a mistake.
    pub(super) fn switch(&mut self, key: &'static str) -> Option<Section<'n, '_>> {
        let entry = self.entry(key)?;
        let path = join(&self.path, key);
        if matches!(entry.value.value, Value::Null) {
            let mistake = Mistake::new("this section is empty, which could mean on or off")
                .hint(format!("write `{key}: {{}}` for on with every default, or remove the key"));
            self.report.add(entry.at, path, mistake);
            return None;
        }
        Section::open(&entry.value, &path, self.report)
    }

    /// Reports `key`, if it is present, as not supported by this version.
    pub(super) fn not_yet(&mut self, key: &'static str, instead: &str) {
        // Not added to the known keys unless present, so that no hint suggests it.
        if self.has(key)
            && let Some(entry) = self.entry(key)
        {
            let mistake = Mistake::new("not in this version yet").hint(instead);
            self.report.add(entry.at, join(&self.path, key), mistake);
        }
    }

    /// Reports a mistake in the section as a whole, at its start.
    pub(super) fn mistake(&mut self, key: &str, mistake: Mistake) {
        let at = self.entries.iter().find(|entry| entry.key == key).map_or(self.at, |entry| entry.value.at);
        self.report.add(at, join(&self.path, key), mistake);
    }

    /// Reports a mistake inside the value of `key`.
    pub(super) fn mistake_at(&mut self, key: &str, at: Position, mistake: Mistake) {
        self.report.add(at, join(&self.path, key), mistake);
    }

    /// Whether the key is in the file, valid or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// Reports every unknown key.
    pub(super) fn finish(self) {
        for entry in self.entries.iter().filter(|entry| !self.known.contains(&entry.key.as_str())) {
            let hint = match nearest(&entry.key, &self.known) {
                Some(key) => format!("did you mean `{key}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            let mistake = Mistake::new(format!("unknown key {}", quoted(&entry.key))).hint(hint);
            self.report.add(entry.at, &self.path, mistake);
        }
    }
}

/// The position to report for an invalid value: its own, or that of its key if the value is absent.
fn place(entry: &Entry) -> Position {
    match entry.value.value {
        Value::Null => entry.at,
        _ => entry.value.at,
    }
}

fn join(path: &str, key: &str) -> String {
    let key: String = key.chars().take(60).flat_map(char::escape_debug).collect();
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The known key that `key` is most likely a misspelling of. `header_bytes` is near `headerBytes`.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let folded = fold(key);
    let distances = known.iter().map(|candidate| (levenshtein(&folded, &fold(candidate)), *candidate));
    let (distance, candidate) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= candidate.len().div_ceil(3)).then_some(candidate)
}

fn fold(key: &str) -> String {
    key.chars().take(40).filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_finds_its_neighbour_and_a_foreign_one_none() {
        let known = ["listen", "allow", "clusterDomain", "ports"];
        assert_eq!(nearest("lisen", &known), Some("listen"));
        assert_eq!(nearest("cluster_domain", &known), Some("clusterDomain"));
        assert_eq!(nearest("port", &known), Some("ports"));
        assert_eq!(nearest("zebra", &known), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
