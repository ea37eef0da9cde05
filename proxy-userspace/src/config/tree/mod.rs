//! YAML as a tree whose nodes have a line and column.
//!
//! serde's derive stops at the first mistake. weir reports all of them, so a file is first read into this
//! tree, which fails only on bad syntax, and the sections are then checked one by one. Service files use the
//! same tree: a [`Node`] is itself a serde deserializer (see `deserialize`), so that a Kubernetes object read
//! from it has positions in its errors.
//!
//! Bounded: text size, nesting, nodes, aliases and their expansion. Parsing recurses once per level, so it runs on a
//! thread whose stack is large enough for the deepest permitted text, whatever stack the caller has.

mod deserialize;
mod read;

pub use deserialize::NodeError;
pub use read::{Bounds, SyntaxError, read_json, read_yaml};

/// A position in a file. Line and column count from 1, columns in characters; zeros mean unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

/// A value and its position.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it starts; for an alias, the position of the alias.
    pub at: Position,
    /// Its value.
    pub value: Value,
}

/// YAML's kinds of values (YAML 1.2 core schema: `yes` and `on` are texts).
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing, `null` or `~`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number of 64 bits, signed or not.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file; it may contain a key twice.
    Map(Vec<Entry>),
}

/// A key of a mapping, with its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The position of the key.
    pub at: Position,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// The value under `key`, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The text, if it is a string.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The kind of this value, with an article, for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a section",
        }
    }
}
