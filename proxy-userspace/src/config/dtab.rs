//! `baseDtab` and `dtab`: how names are rewritten.

use std::sync::Arc;

use super::fields::Section;
use super::tree::{Node, Position};
use super::{Mistake, values};
use crate::domain::dtab::{Bounds, Dtab, Origin};

/// Reads both. `baseDtab` replaces weir's own; `dtab` is appended, so that it takes precedence.
pub(super) fn read(root: &mut Section<'_, '_>) -> Arc<Dtab> {
    let (mut base, mut own) = (None, None);
    let text = |node: &Node| Ok(Some((values::text(node)?.to_owned(), node.at)));
    root.set("baseDtab", &mut base, text);
    root.set("dtab", &mut own, text);
    let mut dtab = match base {
        Some((text, at)) => parse(root, "baseDtab", &text, at, Origin::Base),
        None => Dtab::base(),
    };
    if let Some((text, at)) = own {
        dtab.append(parse(root, "dtab", &text, at, Origin::Configured));
    }
    Arc::new(dtab)
}

/// Every mistake is reported at its position in the file: a block (`dtab: |`) starts at `start` and keeps that
/// indentation.
fn parse(root: &mut Section<'_, '_>, key: &str, text: &str, start: Position, origin: Origin) -> Dtab {
    match Dtab::parse(text, origin, &Bounds::CONFIGURATION) {
        Ok(dtab) => dtab,
        Err(error) => {
            for problem in &error.problems {
                let at = Position {
                    line: start.line + problem.at.line - 1,
                    column: start.column + problem.at.column - 1,
                };
                let mistake = Mistake::new(format!("{}\n{}", problem.what, problem.caret));
                let mistake = match problem.hint {
                    Some(hint) => mistake.hint(hint),
                    None => mistake,
                };
                root.mistake_at(key, at, mistake);
            }
            Dtab::default()
        }
    }
}
