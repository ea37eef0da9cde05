//! Parses text into trees.

use std::fmt;
use std::thread;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, MessageFormatter, Options, Spanned};

use super::{Entry, Node, Position, Value};

/// The limits beyond which a file is refused.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of text.
    pub bytes: usize,
    /// Values in the tree, including those repeated by aliases.
    pub nodes: usize,
}

/// Why a text cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// The position of the error.
    pub at: Position,
    /// What is wrong there.
    pub what: String,
}

/// The deepest permitted nesting; the deepest Kubernetes objects that weir reads have 8.
const DEPTH: usize = 64;
/// The most aliases (`*name`) in one text.
const ALIASES: usize = 1000;

/// The stack of a parsing thread. An unoptimized build needs 41 KiB per level; only what is used becomes resident.
const STACK: usize = 8 << 20;

/// Parses the documents of a YAML text; empty documents are skipped. A key may occur twice: both are in the [`Entry`]
/// list.
///
/// # Errors
/// The first place where the text is not YAML, or is beyond `bounds`.
pub fn read_yaml(text: &str, bounds: Bounds) -> Result<Vec<Node>, SyntaxError> {
    if text.len() > bounds.bytes {
        let what = format!("{} bytes are too many; the limit is {}", text.len(), bounds.bytes);
        return Err(SyntaxError { at: Position::default(), what });
    }
    with_deep_stack(|| {
        serde_saphyr::from_multiple_with_options(text, options(bounds)).map_err(|error| {
            let at = error.location().map_or_else(Position::default, Position::from);
            let what =
                serde_saphyr::UserMessageFormatter.format_message(error.without_snippet()).into_owned();
            SyntaxError { at, what }
        })
    })
}

/// Parses the documents of a JSON text, one after the other. The nodes have no positions.
///
/// # Errors
/// The first place where the text is not JSON.
pub fn read_json(text: &str) -> Result<Vec<Node>, SyntaxError> {
    with_deep_stack(|| {
        let documents = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>();
        documents.map(|document| document.map(Node::from)).collect::<Result<_, _>>().map_err(|error| {
            let at = Position { line: clamp(error.line() as u64), column: clamp(error.column() as u64) };
            let text = error.to_string();
            let what = text.split(" at line ").next().unwrap_or(&text).to_owned();
            SyntaxError { at, what }
        })
    })
}

/// Runs a parser on a stack that allows a nesting of [`DEPTH`]. If a parser panics, the result is an error like any
/// other.
fn with_deep_stack<T: Send>(parse: impl FnOnce() -> Result<T, SyntaxError> + Send) -> Result<T, SyntaxError> {
    let failed = |what: String| SyntaxError { at: Position::default(), what };
    thread::scope(|scope| {
        let parser = thread::Builder::new().name("parse".to_owned()).stack_size(STACK);
        let parser = parser
            .spawn_scoped(scope, parse)
            .map_err(|error| failed(format!("no thread to parse it on: {error}")))?;
        parser.join().unwrap_or_else(|_| Err(failed("the parser failed on this text".to_owned())))
    })
}

fn options(bounds: Bounds) -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH,
            flow_nesting_limit: DEPTH,
            max_nodes: bounds.nodes,
            max_events: bounds.nodes.saturating_mul(3),
            max_total_scalar_bytes: bounds.bytes,
            max_aliases: ALIASES,
            max_anchors: ALIASES,
            max_recorded_anchor_events: bounds.nodes,
            max_recorded_anchor_bytes: bounds.bytes,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: bounds.nodes },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
    }
}

/// A line or column; files with larger numbers were refused for their size.
fn clamp(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl From<Location> for Position {
    fn from(location: Location) -> Self {
        Self { line: clamp(location.line()), column: clamp(location.column()) }
    }
}

impl From<serde_json::Value> for Node {
    fn from(json: serde_json::Value) -> Self {
        let at = Position::default();
        let value = match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(value),
            serde_json::Value::Number(number) => match number.as_i128() {
                Some(number) => Value::Integer(number),
                None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => Value::Text(text),
            serde_json::Value::Array(items) => Value::List(items.into_iter().map(Self::from).collect()),
            serde_json::Value::Object(entries) => Value::Map(
                entries.into_iter().map(|(key, value)| Entry { key, at, value: value.into() }).collect(),
            ),
        };
        Self { at, value }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { at: spanned.referenced.into(), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            entries.push(Entry { key: key.value, at: key.referenced.into(), value: map.next_value()? });
        }
        Ok(Value::Map(entries))
    }
}
