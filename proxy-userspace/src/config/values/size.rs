//! Sizes: `512`, `16KiB`, `1MiB`.

use std::ops::RangeInclusive;

use super::{number_and_unit, shown};
use crate::config::problem::Mistake;
use crate::config::tree::{Node, Value};

/// A number of bytes in `range`.
pub(in crate::config) fn size(range: RangeInclusive<usize>) -> impl Fn(&Node) -> Result<usize, Mistake> {
    move |node| {
        let bytes = match &node.value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Text(text) => parse(text),
            _ => None,
        };
        let bytes = bytes.ok_or_else(|| {
            Mistake::new(format!("{} is not a size", shown(node)))
                .hint("a whole number of bytes, or one with its unit: 16KiB or 1MiB")
        })?;
        usize::try_from(bytes).ok().filter(|bytes| range.contains(bytes)).ok_or_else(|| {
            let (least, most) = (format(*range.start()), format(*range.end()));
            Mistake::new(format!("{} is not from {least} to {most}", shown(node)))
        })
    }
}

/// As [`size`], or `auto`: `None`.
pub(in crate::config) fn size_or_auto(
    range: RangeInclusive<usize>,
) -> impl Fn(&Node) -> Result<Option<usize>, Mistake> {
    let size = size(range);
    move |node| match &node.value {
        Value::Text(text) if text == "auto" => Ok(None),
        _ => size(node).map(Some),
    }
}

fn parse(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let bytes = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(bytes)
}

/// The size in its largest unit without a fraction.
fn format(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 && bytes % (1 << 20) == 0 => format!("{}MiB", bytes >> 20),
        bytes if bytes >= 1 << 10 && bytes % (1 << 10) == 0 => format!("{}KiB", bytes >> 10),
        bytes => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_bytes_or_a_binary_unit() {
        for (text, bytes) in [("0", 0), ("512", 512), ("512B", 512), ("16KiB", 16_384), ("1MiB", 1 << 20)] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "KiB",
            "16kb",
            "16K",
            "1.5MiB",
            "-1",
            "16 KiB",
            "99999999999999999999",
            "18446744073709551615KiB",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
