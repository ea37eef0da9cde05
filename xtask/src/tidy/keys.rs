//! The configuration's keys, read from the calls that read them: `section.set("listen", …)`.

use super::source::{Literal, Source};

/// The calls whose first argument is a key.
const READERS: [&str; 7] = ["set(", "list(", "section(", "sections(", "switch(", "required(", "optional("];

/// The keys that this source of the configuration reads.
pub(super) fn configuration_keys(source: &Source) -> impl Iterator<Item = &Literal> {
    source.literals.iter().filter(|literal| {
        let is_key =
            !literal.value.is_empty() && literal.value.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_key && !source.line_in_test(literal.line) && is_first_argument(source, literal)
    })
}

/// Whether the literal is the first argument of a reading method.
fn is_first_argument(source: &Source, literal: &Literal) -> bool {
    let before = source.code[..literal.start].trim_end();
    READERS.iter().any(|reader| before.strip_suffix(reader).is_some_and(|before| before.ends_with('.')))
}
