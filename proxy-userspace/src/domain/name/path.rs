//! Paths: the names that dtabs rewrite, `/svc/hello`.
//!
//! A path is a list of labels; a label is any non-empty sequence of bytes. In text, a label holds letters, digits and
//! `_ : . # $ % -`; every other byte is written `\xHH` (finagle's `Path`). Delegation makes a path at every step, so a
//! path of usual length is stored inline, without an allocation.
//!
//! A label keeps the [`Scope`] of the host it was made from, since a shortened host can look like another one. Labels
//! that entries and namers derive from it keep it too. The scope takes part in comparisons of paths, and is not
//! printed.
//!
//! Not here: case folding. Paths are compared byte by byte; hosts are made canonical before.

use std::fmt;
use std::str::FromStr;

use smallvec::SmallVec;

use super::Scope;

/// A name: `/`, or `/label/label…`.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path {
    /// The bytes of all labels, concatenated.
    bytes: SmallVec<[u8; 64]>,
    /// Where each label ends.
    ends: SmallVec<[End; 6]>,
}

/// Where a label ends, and in the highest bit whether its scope is [`Scope::Cluster`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct End(u32);

impl End {
    const CLUSTER: u32 = 1 << 31;

    /// Every text that a path is parsed from is bounded far below 2 GiB.
    fn new(at: usize, scope: Scope) -> Self {
        let bit = if scope == Scope::Cluster { Self::CLUSTER } else { 0 };
        Self(at as u32 & !Self::CLUSTER | bit)
    }

    fn at(self) -> usize {
        (self.0 & !Self::CLUSTER) as usize
    }

    fn scope(self) -> Scope {
        if self.0 & Self::CLUSTER == 0 { Scope::Anywhere } else { Scope::Cluster }
    }
}

/// A path, or what remains of one after its first labels.
#[derive(Clone, Copy)]
pub struct Labels<'a> {
    bytes: &'a [u8],
    ends: &'a [End],
    start: usize,
}

/// Why a text is not a valid path or label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPath {
    /// The first invalid byte.
    pub at: usize,
    /// What was expected there.
    pub expected: &'static str,
}

pub(in crate::domain) const LABEL: &str = "a label (letters, digits, _ : . # $ % - or \\xHH)";

impl Path {
    /// The path of `labels`. Empty labels are skipped.
    pub fn from_labels<L: AsRef<[u8]>>(labels: impl IntoIterator<Item = L>) -> Self {
        let mut path = Self::default();
        labels.into_iter().for_each(|label| path.push(label));
        path
    }

    /// Appends a label. An empty label is skipped.
    pub fn push(&mut self, label: impl AsRef<[u8]>) {
        self.push_scoped(label, Scope::Anywhere);
    }

    /// As [`push`](Self::push), for a label of this scope.
    pub fn push_scoped(&mut self, label: impl AsRef<[u8]>, scope: Scope) {
        let label = label.as_ref();
        if !label.is_empty() {
            self.bytes.extend_from_slice(label);
            self.ends.push(End::new(self.bytes.len(), scope));
        }
    }

    /// This path followed by `rest`.
    pub fn join(&self, rest: Labels<'_>) -> Self {
        let mut path = self.clone();
        path.extend(rest);
        path
    }

    /// Appends the labels of `rest`.
    pub fn extend(&mut self, rest: Labels<'_>) {
        let from = rest.start;
        let before = self.bytes.len();
        self.bytes.extend_from_slice(&rest.bytes[from..]);
        self.ends.extend(rest.ends.iter().map(|&end| End::new(before + end.at() - from, end.scope())));
    }

    /// The same labels without their scopes.
    pub fn unscoped(&self) -> Self {
        Self::from_labels(self.labels().iter())
    }

    /// All its labels.
    pub fn labels(&self) -> Labels<'_> {
        Labels { bytes: &self.bytes, ends: &self.ends, start: 0 }
    }

    /// The number of labels.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it is `/`.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The total bytes of all labels.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Parses the path that starts at `at`, as far as it goes; returns where it ends.
    pub(in crate::domain) fn scan(text: &[u8], at: usize) -> Result<(Self, usize), BadPath> {
        let mut path = Self::default();
        let mut at = match text.get(at) {
            Some(b'/') => at + 1,
            _ => return Err(BadPath { at, expected: "a path that starts with `/`" }),
        };
        if !text.get(at).is_some_and(|&byte| starts_label(byte)) {
            return Ok((path, at));
        }
        loop {
            at = scan_label(text, at, |byte| path.bytes.push(byte))?;
            path.ends.push(End::new(path.bytes.len(), Scope::Anywhere));
            if text.get(at) != Some(&b'/') {
                return Ok((path, at));
            }
            at += 1;
        }
    }
}

/// Parses one label at `at`; returns where it ends.
pub(in crate::domain) fn scan_label(
    text: &[u8],
    mut at: usize,
    mut take: impl FnMut(u8),
) -> Result<usize, BadPath> {
    let start = at;
    loop {
        match text.get(at) {
            Some(&byte) if is_plain(byte) => {
                take(byte);
                at += 1;
            }
            Some(b'\\') => {
                take(escaped(text, at)?);
                at += 4;
            }
            _ if at == start => return Err(BadPath { at, expected: LABEL }),
            _ => return Ok(at),
        }
    }
}

/// Whether a label can start with `byte`.
pub(in crate::domain) fn starts_label(byte: u8) -> bool {
    is_plain(byte) || byte == b'\\'
}

/// Whether a label can contain `byte` unescaped.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z'
        | b'_' | b':' | b'.' | b'#' | b'$' | b'%' | b'-')
}

/// The byte that the escape `\xHH` at `at` stands for.
fn escaped(text: &[u8], at: usize) -> Result<u8, BadPath> {
    if text.get(at + 1) != Some(&b'x') {
        return Err(BadPath { at: at + 1, expected: "`x` and two hexadecimal digits" });
    }
    let digit = |at: usize| {
        let byte = text.get(at).copied().unwrap_or_default();
        let value = char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
        value.ok_or(BadPath { at, expected: "a hexadecimal digit" })
    };
    Ok((digit(at + 2)? << 4) | digit(at + 3)?)
}

/// Writes `label` so that it can be parsed again.
pub(in crate::domain) fn write_label(f: &mut fmt::Formatter<'_>, label: &[u8]) -> fmt::Result {
    for plain in label.chunk_by(|a, b| is_plain(*a) && is_plain(*b)) {
        match std::str::from_utf8(plain) {
            Ok(text) if is_plain(plain[0]) => f.write_str(text)?,
            _ => plain.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?,
        }
    }
    Ok(())
}

impl<'a> Labels<'a> {
    /// The number of labels.
    pub fn len(self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.ends.is_empty()
    }

    /// The total bytes of all labels.
    pub fn size(self) -> usize {
        self.bytes.len() - self.start
    }

    /// The label at `index`.
    pub fn get(self, index: usize) -> Option<&'a [u8]> {
        let end = self.ends.get(index)?.at();
        let start = if index == 0 { self.start } else { self.ends[index - 1].at() };
        Some(&self.bytes[start..end])
    }

    /// The scope of the label at `index`.
    pub fn scope(self, index: usize) -> Scope {
        self.ends.get(index).map_or(Scope::Anywhere, |end| end.scope())
    }

    /// The label at `index`, if it is UTF-8.
    pub fn text(self, index: usize) -> Option<&'a str> {
        std::str::from_utf8(self.get(index)?).ok()
    }

    /// The labels after the first `count`.
    pub fn skip(self, count: usize) -> Self {
        match count.checked_sub(1).map(|last| self.ends.get(last)) {
            None => self,
            Some(Some(&end)) => Self { start: end.at(), ends: &self.ends[count..], ..self },
            Some(None) => Self { bytes: &[], ends: &[], start: 0 },
        }
    }

    /// The first `count` labels.
    pub fn take(self, count: usize) -> Self {
        let ends = &self.ends[..count.min(self.ends.len())];
        let end = ends.last().map_or(self.start, |&end| end.at());
        Self { bytes: &self.bytes[..end], ends, ..self }
    }

    /// The labels in order.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        (0..self.len()).filter_map(move |index| self.get(index))
    }

    /// Whether the first labels are those of `prefix`.
    pub fn starts_with(self, prefix: Labels<'_>) -> bool {
        self.len() >= prefix.len() && self.iter().zip(prefix.iter()).all(|(own, other)| own == other)
    }

    /// These labels as an owned path.
    pub fn to_path(self) -> Path {
        Path::default().join(self)
    }
}

impl FromStr for Path {
    type Err = BadPath;

    fn from_str(text: &str) -> Result<Self, BadPath> {
        let (path, end) = Self::scan(text.as_bytes(), 0)?;
        if end == text.len() {
            Ok(path)
        } else {
            Err(BadPath { at: end, expected: "`/`, a label or the end" })
        }
    }
}

impl fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("/");
        }
        self.iter().try_for_each(|label| {
            f.write_str("/")?;
            write_label(f, label)
        })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.labels().fmt(f)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.labels().fmt(f)
    }
}

impl fmt::Debug for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for BadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} at column {}", self.expected, self.at + 1)
    }
}

impl std::error::Error for BadPath {}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
