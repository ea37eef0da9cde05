//! A section of the linkerd configuration that reports every unused key.

use super::notes::Notes;
use super::reasons::Reasons;
use crate::config::tree::{Entry, Node, Position, Value};

/// A value under its key.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    pub(super) node: &'a Node,
    /// The position of the key.
    pub(super) at: Position,
    /// The path of the key.
    pub(super) path: String,
}

/// A section: keys that were not taken are noted by `finish`.
pub(super) struct Part<'a> {
    entries: &'a [Entry],
    path: String,
    taken: Vec<bool>,
}

impl<'a> Field<'a> {
    /// The value as text, if it is a string.
    pub(super) fn text(&self) -> Option<&'a str> {
        self.node.text()
    }

    /// The value as an integer; like linkerd (Jackson), also accepts one in quotes.
    pub(super) fn whole(&self) -> Option<i128> {
        match &self.node.value {
            Value::Integer(number) => Some(*number),
            Value::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// The value as a boolean, also in quotes.
    pub(super) fn boolean(&self) -> Option<bool> {
        match &self.node.value {
            Value::Bool(value) => Some(*value),
            Value::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// Its `kind`, or an empty string.
    pub(super) fn kind(&self) -> &'a str {
        self.node.get("kind").and_then(Node::text).unwrap_or_default()
    }

    /// The elements of a list, or the value itself.
    pub(super) fn items(&self) -> Vec<Self> {
        let Value::List(items) = &self.node.value else { return vec![self.clone()] };
        let item = |(index, node): (usize, &'a Node)| Self {
            node,
            at: node.at,
            path: format!("{}[{index}]", self.path),
        };
        items.iter().enumerate().map(item).collect()
    }
}

impl<'a> Part<'a> {
    /// Opens `field` as a section; any other type is noted.
    pub(super) fn open(field: &Field<'a>, notes: &mut Notes<'_>) -> Option<Self> {
        match &field.node.value {
            Value::Map(entries) => {
                Some(Self { entries, path: field.path.clone(), taken: vec![false; entries.len()] })
            }
            Value::Null => None,
            _ => {
                notes.left(field, format!("expected a section, not {}", field.node.kind()));
                None
            }
        }
    }

    /// Takes the value under `key`; the caller must handle it. A key without a value counts as absent.
    pub(super) fn take(&mut self, key: &str) -> Option<Field<'a>> {
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        self.taken[index] = true;
        let entry = &self.entries[index];
        let is_there = !matches!(entry.value.value, Value::Null);
        is_there.then(|| self.field(entry))
    }

    /// Notes every key that was not taken, with its reason.
    pub(super) fn finish(self, reasons: Reasons, notes: &mut Notes<'_>) {
        for (index, entry) in self.entries.iter().enumerate().filter(|(index, _)| !self.taken[*index]) {
            let again = self.entries[..index].iter().any(|earlier| earlier.key == entry.key);
            let reason = reasons.iter().find(|(key, _)| *key == entry.key).map(|(_, why)| *why);
            let why = if again { "here a second time; the first counts" } else { reason.unwrap_or(UNKNOWN) };
            notes.left(&self.field(entry), why);
        }
    }

    fn field(&self, entry: &'a Entry) -> Field<'a> {
        let key: String = entry.key.chars().take(60).flat_map(char::escape_debug).collect();
        let path = if self.path.is_empty() { key } else { format!("{}.{key}", self.path) };
        Field { node: &entry.value, at: entry.at, path }
    }
}

const UNKNOWN: &str = "weir does not know this key, and does nothing in its place";
