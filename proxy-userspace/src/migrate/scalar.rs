//! Writes values as YAML that parses back to the same text.

use std::fmt::Write;

/// `text` as a YAML scalar, plain if every parser reads it as a string.
pub(super) fn scalar(text: &str) -> String {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte))
        && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_plain {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            _ if character.is_alphanumeric() => quoted.push(character),
            '\n' => quoted.push_str("\\n"),
            _ => {
                let _ = match u32::from(character) {
                    code @ ..=0xff => write!(quoted, "\\x{code:02X}"),
                    code @ ..=0xffff => write!(quoted, "\\u{code:04X}"),
                    code => write!(quoted, "\\U{code:08X}"),
                };
            }
        }
    }
    quoted.push('"');
    quoted
}

/// A mapping on one line: `{ kind: io.l5d.path, segments: 2 }`. The values must be YAML scalars already.
pub(super) fn map(pairs: &[(&str, String)]) -> String {
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    format!("{{ {} }}", pairs.join(", "))
}

/// The lines of a dtab for a literal block, unchanged except for trailing blanks and common indentation.
pub(super) fn block(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let spaces = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let common = lines.iter().filter(|line| !line.is_empty()).map(|line| spaces(line)).min().unwrap_or(0);
    let first = lines.iter().position(|line| !line.is_empty()).unwrap_or(lines.len());
    let last = lines.iter().rposition(|line| !line.is_empty()).map_or(first, |last| last + 1);
    let mut lines: Vec<&str> =
        lines[first..last].iter().map(|line| line.get(common..).unwrap_or_default()).collect();
    if let Some(first) = lines.first_mut() {
        // A first line with more indentation would set the block's indentation.
        *first = first.trim_start();
    }
    lines
}
