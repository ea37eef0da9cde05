//! The configuration's keys, read from the structs that serde fills.
//!
//! `rename`, `rename_all = "camelCase"` (the house's only spelling), `flatten` and `skip` are understood; fields of enum
//! variants are not, since the configuration has none.

use super::source::{Source, closing, identifier, is_word};

/// The named fields of every struct that derives `Deserialize`, by the names the file uses for them.
pub(super) fn configuration_keys(source: &Source) -> Vec<(usize, String)> {
    let mut keys = Vec::new();
    let code = &source.code;
    for (derive, _) in code.match_indices("#[derive(").filter(|(at, _)| !source.in_test(*at)) {
        let Some(end) = closing(code, derive + 1) else { continue };
        let Some(item) = code[end..].find(['{', ';']).map(|length| end + length) else { continue };
        let head = &code[end..item];
        let is_struct = head.split(|c| !is_word(c)).any(|word| word == "struct");
        if !code[derive..end].contains("Deserialize") || !is_struct || code[item..].starts_with(';') {
            continue;
        }
        let stop = closing(code, item).unwrap_or(code.len()) - 1;
        keys.extend(fields(source, item + 1, stop));
    }
    keys
}

/// The named fields between two offsets, by the name the file uses for them.
fn fields(source: &Source, start: usize, stop: usize) -> Vec<(usize, String)> {
    let code = &source.code;
    let mut found = Vec::new();
    let (mut at, mut renamed, mut hidden) = (start, None, false);
    while at < stop {
        let rest = &code[at..stop];
        if rest.starts_with('#') {
            let end = closing(code, at + 1).unwrap_or(stop);
            let attribute = &code[at..end];
            renamed = renamed.or(attribute.contains("rename =").then(|| rename(source, at)).flatten());
            hidden |= attribute.contains("flatten") || attribute.contains("skip");
            at = end;
        } else if let Some(colon) = field_colon(rest) {
            let name = rest[..colon].trim().rsplit(|c| !is_word(c)).next().unwrap_or_default();
            if !hidden {
                found.push((source.line(at + colon), renamed.take().unwrap_or_else(|| camel_case(name))));
            }
            (renamed, hidden) = (None, false);
            at += field_end(&rest[colon..]) + colon;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    found
}

/// Where the colon of a field is, if `text` begins with one: `pub(crate) name:`.
fn field_colon(text: &str) -> Option<usize> {
    let visible = text.strip_prefix("pub").map_or(0, |rest| {
        let scope = if rest.starts_with('(') { closing(rest, 0).unwrap_or(0) } else { 0 };
        "pub".len() + scope
    });
    let rest = &text[visible..];
    let name = identifier(rest.trim_start());
    let colon = visible + (rest.len() - rest.trim_start().len()) + name.len();
    (!name.is_empty() && text[colon..].starts_with(':')).then_some(colon)
}

/// The comma that ends a field's type, generics and tuples skipped.
fn field_end(text: &str) -> usize {
    let mut depth = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'<' | b'(' | b'[' => depth += 1,
            b'>' | b')' | b']' => depth -= 1,
            b',' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The literal of `rename = "…"` in the attribute that begins at `at`.
fn rename(source: &Source, at: usize) -> Option<String> {
    let line = source.line(at);
    source.literals.iter().find(|literal| literal.line == line).map(|literal| literal.value.clone())
}

fn camel_case(name: &str) -> String {
    let mut parts = name.split('_');
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        result.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        result.push_str(letters.as_str());
    }
    result
}
