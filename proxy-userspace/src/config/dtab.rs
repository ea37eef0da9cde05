//! `baseDtab` and `dtab`: how names are rewritten.

use std::sync::Arc;

use super::fields::Section;
use super::tree::{Node, Position};
use super::{Interpreter, Mistake, values};
use crate::domain::dtab::{Bounds, Dtab, Origin};

/// What a section says of the two; `None` where it says nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    base: Option<Dtab>,
    own: Option<Dtab>,
}

impl Written {
    /// Both as one. `baseDtab` replaces weir's own; `dtab` is appended, so that it takes precedence.
    pub(super) fn dtab(self) -> Arc<Dtab> {
        let mut dtab = self.base.unwrap_or_else(Dtab::base);
        dtab.append(self.own.unwrap_or_default());
        Arc::new(dtab)
    }

    /// The dtab of a router that says this in a configuration that says `general`. `None` where it is the same. With an
    /// `interpreter`, weir's own base dtab is not there unless it is written: names that only the cluster's dtab binds
    /// would go elsewhere while it is not known.
    pub(super) fn within(mut self, general: &Self, interpreter: Option<&Interpreter>) -> Option<Arc<Dtab>> {
        if interpreter.is_some() && self.base.is_none() && general.base.is_none() {
            self.base = Some(Dtab::default());
        }
        let says_nothing = self.base.is_none() && self.own.is_none();
        let or = |one: Option<Dtab>, other: &Option<Dtab>| one.or_else(|| other.clone());
        (!says_nothing)
            .then(|| Self { base: or(self.base, &general.base), own: or(self.own, &general.own) }.dtab())
    }
}

/// Reads both.
pub(super) fn read(root: &mut Section<'_, '_>) -> Written {
    let (mut base, mut own) = (None, None);
    let text = |node: &Node| Ok(Some((values::text(node)?.to_owned(), node.at)));
    root.set("baseDtab", &mut base, text);
    root.set("dtab", &mut own, text);
    Written {
        base: base.map(|(text, at): (String, _)| parse(root, "baseDtab", &text, at, Origin::Base)),
        own: own.map(|(text, at): (String, _)| parse(root, "dtab", &text, at, Origin::Configured)),
    }
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
