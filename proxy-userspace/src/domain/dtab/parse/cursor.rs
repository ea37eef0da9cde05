//! The parser's position in the text, and the input at that position.

use super::super::Position;
use super::Mistake;

/// A position in a text; it only moves forward.
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    /// The last position whose line and column were counted; counting continues from there.
    counted: (usize, Position),
}

const START: Position = Position { line: 1, column: 1 };

/// The line and column of byte `at`.
pub(super) fn position(text: &str, at: usize) -> Position {
    advance(START, &text[..at])
}

fn advance(from: Position, over: &str) -> Position {
    over.chars().fold(from, |Position { line, column }, character| match character {
        '\n' => Position { line: line.saturating_add(1), column: 1 },
        _ => Position { line, column: column.saturating_add(1) },
    })
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, counted: (0, START) }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes().get(self.at).copied()
    }

    pub(super) fn at_end(&self) -> bool {
        self.at >= self.text.len()
    }

    /// Moves forward to `at`, which is the start of a character.
    pub(super) fn move_to(&mut self, at: usize) {
        self.at = at;
    }

    /// Consumes `byte` if it is next.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let next = self.peek() == Some(byte);
        self.at += usize::from(next);
        next
    }

    /// The current line and column.
    pub(super) fn position(&mut self) -> Position {
        let (from, counted) = self.counted;
        self.counted = (self.at, advance(counted, &self.text[from..self.at]));
        self.counted.1
    }

    /// Skips white space and comments.
    pub(super) fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b'#' => self.skip_line(),
                _ if byte.is_ascii_whitespace() || byte == 0x0b => self.at += 1,
                _ => break,
            }
        }
    }

    /// Moves to the next `;` that ends an entry, or to the end of the text.
    pub(super) fn skip_entry(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b';' => break,
                // A comment starts only where white space is allowed, so a `#` in a path does not start one.
                _ if byte.is_ascii_whitespace() || byte == b'#' && !self.in_label() => self.skip_space(),
                _ => self.at += 1,
            }
        }
    }

    /// Whether the preceding byte is part of a path.
    fn in_label(&self) -> bool {
        let before = self.at.checked_sub(1).map(|before| self.bytes()[before]);
        before.is_some_and(|byte| byte == b'/' || crate::domain::name::starts_label(byte))
    }

    fn skip_line(&mut self) {
        let rest = &self.bytes()[self.at..];
        self.at += rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |newline| newline + 1);
    }

    /// The mistake that `what` was expected here.
    pub(super) fn expected(&self, what: &str) -> Mistake {
        self.expected_at(self.at, what)
    }

    /// The mistake that `what` was expected at `at`.
    pub(super) fn expected_at(&self, at: usize, what: &str) -> Mistake {
        let found = match self.text.get(at..).and_then(|rest| rest.chars().next()) {
            None => "the end".to_owned(),
            Some('\n') => "the end of the line".to_owned(),
            Some(character) if character.is_control() => format!("`{}`", character.escape_default()),
            Some(character) => format!("`{character}`"),
        };
        Mistake { at, what: format!("expected {what}, found {found}"), hint: None }
    }
}
