//! The position of a text inside the file: a dtab in its block, a document in a ConfigMap.

use crate::config::tree::{Node, Position, Value};

/// How many lines after its key a text may begin: comments and empty lines may be in between.
const LOOK: usize = 20;

/// Turns positions inside a text into positions in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The text's lines are lines of the file, shifted by so many lines and columns.
    Moved {
        /// Added to the line.
        lines: u32,
        /// Added to the column.
        columns: u32,
    },
    /// The text was folded or escaped: every position is that of its start.
    At(Position),
}

impl Place {
    /// Finds the text `value` in `source`, at `at` or soon after.
    pub(super) fn find(source: &str, at: Position, text: &str) -> Self {
        let inner: Vec<&str> = text.lines().collect();
        let Some(first) = inner.iter().position(|line| !line.trim().is_empty()) else { return Self::At(at) };
        let from = (at.line as usize).saturating_sub(1);
        let outer: Vec<&str> = source.lines().skip(from).take(LOOK + inner.len()).collect();
        for (offset, line) in outer.iter().enumerate().take(LOOK + first) {
            let Some(column) = line.find(inner[first]).filter(|_| offset >= first) else { continue };
            let matches = inner.iter().enumerate().skip(first).all(|(index, inner)| {
                let outer = outer.get(offset + index - first).copied().unwrap_or_default();
                inner.is_empty() || outer.get(column..).is_some_and(|rest| rest.starts_with(inner))
            });
            if matches {
                let columns = line[..column].chars().count();
                return Self::Moved { lines: small(from + offset - first), columns: small(columns) };
            }
        }
        Self::At(at)
    }

    /// The position in the file of `inside` in the text.
    pub(super) fn of(self, inside: Position) -> Position {
        match self {
            Self::Moved { lines, columns } if inside.line > 0 => Position {
                line: inside.line.saturating_add(lines),
                column: inside.column.saturating_add(columns),
            },
            Self::Moved { lines, columns } => Position { line: lines + 1, column: columns + 1 },
            Self::At(at) => at,
        }
    }

    /// Converts the positions of all nodes of the text's tree to positions in the file.
    pub(super) fn relocate(self, node: &mut Node) {
        node.at = self.of(node.at);
        match &mut node.value {
            Value::List(items) => items.iter_mut().for_each(|item| self.relocate(item)),
            Value::Map(entries) => entries.iter_mut().for_each(|entry| {
                entry.at = self.of(entry.at);
                self.relocate(&mut entry.value);
            }),
            _ => {}
        }
    }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX / 2)
}
