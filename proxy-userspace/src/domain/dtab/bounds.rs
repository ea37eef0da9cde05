//! How large a dtab may be.

/// The limits on a dtab's text. Reading any text within them costs bounded time and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the text.
    pub bytes: usize,
    /// Entries.
    pub entries: usize,
    /// Depth of nested parentheses.
    pub nesting: usize,
    /// Members of one alternative, and of one union.
    pub members: usize,
    /// Mistakes reported; parsing stops at the last one.
    pub problems: usize,
}

impl Bounds {
    /// For a dtab that an operator wrote.
    pub const CONFIGURATION: Self =
        Self { bytes: 1 << 20, entries: 10_000, nesting: 32, members: 1_000, problems: 100 };

    /// For a dtab that came with a request.
    pub const REQUEST: Self = Self { bytes: 4 << 10, entries: 64, nesting: 8, members: 32, problems: 4 };
}

impl Default for Bounds {
    fn default() -> Self {
        Self::CONFIGURATION
    }
}
