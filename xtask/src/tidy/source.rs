//! Rust source as these rules see it: comments and strings blanked out, string literals listed, test code known.
//!
//! No parser: a scanner that knows comments, strings, characters and braces is enough here and keeps xtask light.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// A string literal and the line it begins on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Literal {
    pub(crate) line: usize,
    /// Where it begins, its quote included.
    pub(crate) start: usize,
    pub(crate) value: String,
}

/// One Rust file.
pub(crate) struct Source {
    /// Relative to the workspace's root.
    pub(crate) path: PathBuf,
    /// The text with comments and the insides of strings blanked; line breaks and offsets are the file's own.
    pub(crate) code: String,
    pub(crate) literals: Vec<Literal>,
    /// Byte ranges of `#[cfg(test)]` items.
    test_ranges: Vec<Range<usize>>,
    /// The whole file is test code.
    pub(crate) is_test: bool,
    line_starts: Vec<usize>,
}

impl Source {
    pub(crate) fn new(path: PathBuf, text: String) -> Self {
        let (code, literals) = mask(&text);
        let test_ranges = test_items(&code).map(|item| item.range).collect();
        let is_test = path.starts_with("tests")
            || path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "fuzz")
            || path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("tests.rs"));
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { path, code, literals, test_ranges, is_test, line_starts }
    }

    /// The number, from 1, of the line that holds the byte offset.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    /// Whether the byte offset lies in test code.
    pub(crate) fn in_test(&self, offset: usize) -> bool {
        self.is_test || self.test_ranges.iter().any(|range| range.contains(&offset))
    }

    /// Whether the line (from 1) begins in test code.
    pub(crate) fn line_in_test(&self, line: usize) -> bool {
        self.line_starts.get(line - 1).is_some_and(|start| self.in_test(*start))
    }

    /// Lines in all, and lines of them outside test code.
    pub(crate) fn lines(&self) -> (usize, usize) {
        let all = self.code.lines().count();
        (all, (1..=all).filter(|line| !self.line_in_test(*line)).count())
    }

    /// Offsets of `word` in the code where it stands as a whole word.
    pub(crate) fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.code.match_indices(word).map(|(at, _)| at).filter(move |at| {
            let before = self.code[..*at].chars().next_back();
            let after = self.code[at + word.len()..].chars().next();
            let joins = |c: Option<char>| c.is_some_and(is_word);
            !(word.starts_with(is_word) && joins(before) || word.ends_with(is_word) && joins(after))
        })
    }
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The identifier that `text` begins with; empty if none.
pub(crate) fn identifier(text: &str) -> &str {
    &text[..text.find(|c| !is_word(c)).unwrap_or(text.len())]
}

/// The offset just after the bracket that closes the one at `open`.
pub(crate) fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

struct TestItem {
    range: Range<usize>,
    /// The name in `mod name;`, whose file is test code as well.
    module: Option<String>,
}

/// Items under `#[cfg(test)]` (or `cfg(all(test, …))`).
fn test_items(code: &str) -> impl Iterator<Item = TestItem> {
    ["#[cfg(test)]", "#[cfg(all(test"].into_iter().flat_map(move |attribute| {
        code.match_indices(attribute).filter_map(move |(start, _)| {
            let after = closing(code, start + 1)?;
            let stop = after + code[after..].find(['{', ';'])?;
            let body = code[stop..].starts_with('{');
            let end = if body { closing(code, stop)? } else { stop + 1 };
            let module = code[after..stop].split_whitespace().skip_while(|word| *word != "mod").nth(1);
            Some(TestItem { range: start..end, module: module.filter(|_| !body).map(str::to_owned) })
        })
    })
}

/// Marks the files of `#[cfg(test)] mod name;` declarations, and everything below them, as test code.
pub(crate) fn mark_test_modules(sources: &mut [Source]) {
    let mut modules = Vec::new();
    for source in sources.iter() {
        let stem = source.path.file_stem().unwrap_or_default();
        let parent = source.path.parent().unwrap_or(Path::new(""));
        let folder = if ["mod", "lib", "main"].iter().any(|name| stem == *name) {
            parent.to_owned()
        } else {
            parent.join(stem)
        };
        modules.extend(test_items(&source.code).filter_map(|item| item.module).map(|name| folder.join(name)));
    }
    for source in sources {
        source.is_test |= modules
            .iter()
            .any(|module| source.path.starts_with(module) || source.path == module.with_extension("rs"));
    }
}

/// Blanks comments and strings, and lists the strings.
fn mask(text: &str) -> (String, Vec<Literal>) {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut literals = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let (end, inside) = match bytes[at] {
            b'/' if text[at..].starts_with("//") => (line_end(bytes, at), Some(at..line_end(bytes, at))),
            b'/' if text[at..].starts_with("/*") => {
                (block_comment_end(bytes, at), Some(at..block_comment_end(bytes, at)))
            }
            b'"' => string(bytes, at),
            b'r' if !joined(bytes, at) => raw_string(bytes, at),
            b'\'' => {
                (character_end(text, at), Some(at + 1..character_end(text, at).saturating_sub(1).max(at + 1)))
            }
            _ => (at + 1, None),
        };
        if let Some(inside) = inside {
            if matches!(bytes[at], b'"' | b'r') {
                literals.push(Literal { line, start: at, value: text[inside.clone()].to_owned() });
            }
            code[inside].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        }
        line += bytes[at..end].iter().filter(|byte| **byte == b'\n').count();
        at = end;
    }
    (String::from_utf8(code).expect("whole characters were blanked"), literals)
}

fn joined(bytes: &[u8], at: usize) -> bool {
    // `br"…"` and `cr"…"` are raw strings too; `for"` cannot be.
    let before = at.checked_sub(1).map(|before| bytes[before]);
    let prefix = matches!(before, Some(b'b' | b'c'))
        && !at
            .checked_sub(2)
            .is_some_and(|before| bytes[before].is_ascii_alphanumeric() || bytes[before] == b'_');
    !prefix && before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length)
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// The end of a plain string and the range of its inside.
fn string(bytes: &[u8], start: usize) -> (usize, Option<Range<usize>>) {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return (at + 1, Some(start + 1..at)),
            _ => at += 1,
        }
    }
    (bytes.len(), Some(start + 1..bytes.len()))
}

/// The end of a raw string and the range of its inside; one step and no range if it is none.
fn raw_string(bytes: &[u8], start: usize) -> (usize, Option<Range<usize>>) {
    let hashes = bytes[start + 1..].iter().take_while(|byte| **byte == b'#').count();
    let open = start + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return (start + 1, None);
    }
    let mut close = vec![b'"'];
    close.resize(hashes + 1, b'#');
    let length = bytes[open + 1..].windows(close.len()).position(|window| window == close);
    let inside = open + 1..length.map_or(bytes.len(), |length| open + 1 + length);
    (length.map_or(bytes.len(), |_| inside.end + close.len()), Some(inside))
}

/// The end of a character literal; of a lifetime only its tick is stepped over.
fn character_end(text: &str, start: usize) -> usize {
    let mut rest = text[start + 1..].char_indices();
    match rest.next() {
        Some((_, '\\')) => text[start + 3..].find('\'').map_or(start + 1, |length| start + 3 + length + 1),
        Some(_) => match rest.next() {
            Some((at, '\'')) => start + 1 + at + 1,
            _ => start + 1,
        },
        None => start + 1,
    }
}
