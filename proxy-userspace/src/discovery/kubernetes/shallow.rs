//! Objects as JSON values of bounded depth. Deeper parts are null: nothing that weir reads lies so deep.
//!
//! serde_json refuses a document that is nested 128 times (its recursion limit), the other parts of it included, and an API server
//! passes such a one on: so whoever may write one object would end every watch that has to tell of it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How many lists and maps may be around a value.
const DEPTH: usize = 64;

/// Reads a value, as `deserialize_with` of serde wants it.
///
/// # Errors
///
/// It is none.
pub(super) fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Value, D::Error> {
    Within(DEPTH).deserialize(from)
}

/// The value in `text`.
///
/// # Errors
///
/// It is none.
pub(super) fn parse(text: &str) -> Result<Value, serde_json::Error> {
    let mut from = serde_json::Deserializer::from_str(text);
    let value = read(&mut from)?;
    from.end().map(|()| value)
}

/// Reads a value, so much of it.
#[derive(Clone, Copy)]
struct Within(usize);

impl<'de> DeserializeSeed<'de> for Within {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        match self.0 {
            // Skipped without recursion.
            0 => from.deserialize_ignored_any(IgnoredAny).map(|_| Value::Null),
            _ => from.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Within {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, it: bool) -> Result<Value, E> {
        Ok(Value::Bool(it))
    }

    fn visit_i64<E: Error>(self, it: i64) -> Result<Value, E> {
        Ok(Value::Number(it.into()))
    }

    fn visit_u64<E: Error>(self, it: u64) -> Result<Value, E> {
        Ok(Value::Number(it.into()))
    }

    fn visit_f64<E: Error>(self, it: f64) -> Result<Value, E> {
        Ok(Number::from_f64(it).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, it: &str) -> Result<Value, E> {
        Ok(Value::String(it.to_owned()))
    }

    fn visit_string<E: Error>(self, it: String) -> Result<Value, E> {
        Ok(Value::String(it))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Value, A::Error> {
        let (within, mut list) = (Self(self.0 - 1), Vec::new());
        while let Some(it) = all.next_element_seed(within)? {
            list.push(it);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Value, A::Error> {
        let (within, mut map) = (Self(self.0 - 1), Map::new());
        while let Some(key) = all.next_key::<String>()? {
            map.insert(key, all.next_value_seed(within)?);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_deep_is_read_as_it_is() {
        let value = json!({
            "a": [null, true, -1, 1, u64::MAX, 1.5, "x", "\u{1F980}\n\"", [], {}, [[1], { "b": { "c": [] } }]],
            "": { "é": "y" },
        });
        for text in [value.to_string(), format!(" {value:#}\n"), "7".to_owned(), "null".to_owned()] {
            assert_eq!(parse(&text).unwrap(), serde_json::from_str::<Value>(&text).unwrap(), "{text}");
        }
        for text in ["", "{", "[1,]", "{} {}", "{\"a\" 1}", "nul", "{1: 2}", "1e999"] {
            assert_eq!(parse(text).is_ok(), serde_json::from_str::<Value>(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_too_deep_is_null_and_the_rest_is_there() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            for depth in [DEPTH - 2, DEPTH - 1, 127, 100_000] {
                let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                let value = parse(&format!("{{\"deep\":{deep},\"rest\":2}}")).unwrap();
                assert_eq!(value["rest"], 2, "{depth}");
                let (mut inside, mut found) = (&value["deep"], 0);
                while let Some(next) = inside.get(0).or_else(|| inside.get("a")) {
                    (inside, found) = (next, found + 1);
                }
                let expected = if depth < DEPTH - 1 { (depth, false) } else { (DEPTH - 1, true) };
                assert_eq!((found, inside.is_null()), expected, "{open} {depth}");
            }
        }
    }
}
