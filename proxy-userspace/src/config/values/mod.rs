//! The kinds of values in the file: one function each, from a node to the value, or to a mistake with a hint.

mod address;
mod duration;
mod size;

use std::ops::RangeInclusive;

use super::problem::{Mistake, quoted};
use super::tree::{Node, Value};

pub(super) use address::{cidr, ip, listen};
pub(super) use duration::duration;
pub(super) use size::{size, size_or_auto};

/// A string, unchanged.
pub(super) fn text(node: &Node) -> Result<&str, Mistake> {
    match &node.value {
        Value::Text(text) => Ok(text),
        Value::Null => Err(Mistake::new("no value").hint("remove the key for its default")),
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {
            Err(Mistake::new(format!("expected a text, not {}", node.kind())).hint("put it in quotes"))
        }
        Value::List(_) | Value::Map(_) => Err(Mistake::new(format!("expected a text, not {}", node.kind()))),
    }
}

/// A path; `what` says what it is for, in messages.
pub(super) fn path<'n>(node: &'n Node, what: &str) -> Result<&'n str, Mistake> {
    match text(node)? {
        "" => Err(Mistake::new("no path").hint(format!("name {what}"))),
        text if text.contains('\0') => Err(Mistake::new("a path cannot hold a NUL character")),
        text => Ok(text),
    }
}

/// `true` or `false`.
pub(super) fn boolean(node: &Node) -> Result<bool, Mistake> {
    match node.value {
        Value::Bool(value) => Ok(value),
        _ => Err(Mistake::new(format!("expected true or false, not {}", shown(node)))
            .hint("write true or false, without quotes")),
    }
}

/// A whole number in `range`.
pub(super) fn count<N>(range: RangeInclusive<N>) -> impl Fn(&Node) -> Result<N, Mistake>
where
    N: TryFrom<i128> + PartialOrd + std::fmt::Display,
{
    move |node| {
        let Value::Integer(number) = node.value else {
            return Err(Mistake::new(format!("expected a whole number, not {}", shown(node))).hint(format!(
                "write a number from {} to {}",
                range.start(),
                range.end()
            )));
        };
        N::try_from(number)
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| Mistake::new(format!("{number} is not from {} to {}", range.start(), range.end())))
    }
}

/// One of a closed set of words.
pub(super) fn choice<T: Copy>(choices: &'static [(&'static str, T)]) -> impl Fn(&Node) -> Result<T, Mistake> {
    move |node| {
        let found = node.text().and_then(|text| choices.iter().find(|(word, _)| *word == text));
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            Mistake::new(format!("{} is not a choice", shown(node)))
                .hint(format!("one of {}", words.join(", ")))
        })
    }
}

/// A DNS label (RFC 1123 §2.1): what Kubernetes accepts as the name of a namespace or a port.
pub(super) fn label(node: &Node) -> Result<String, Mistake> {
    let text = text(node)?;
    if is_label(text) {
        return Ok(text.to_owned());
    }
    Err(Mistake::new(format!("{} is not a DNS label", quoted(text)))
        .hint("1 to 63 lower-case letters, digits and hyphens, no hyphen first or last"))
}

/// A domain: labels separated by dots. Lower-cased; a trailing dot is removed.
pub(super) fn domain(node: &Node) -> Result<String, Mistake> {
    let text = text(node)?;
    let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if lower.len() <= 253 && lower.split('.').all(is_label) {
        return Ok(lower);
    }
    Err(Mistake::new(format!("{} is not a domain", quoted(text)))
        .hint("labels with dots between, as in cluster.local"))
}

/// Whether this is a name of an object: labels separated by dots.
pub(super) fn is_domain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_label(text: &str) -> bool {
    let inside = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inside)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The node's value as shown in a message.
fn shown(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => quoted(text),
        Value::Bool(value) => quoted(&value.to_string()),
        Value::Integer(value) => quoted(&value.to_string()),
        Value::Float(value) => quoted(&value.to_string()),
        Value::Null | Value::List(_) | Value::Map(_) => node.kind().to_owned(),
    }
}

/// A number and its unit: `250` and `ms` of `250ms`.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit))
}
