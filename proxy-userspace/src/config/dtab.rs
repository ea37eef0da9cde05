//! `baseDtab` and `dtab`: how names are rewritten.

use std::sync::Arc;

use super::fields::Section;
use super::{Mistake, values};
use crate::domain::dtab::{Bounds, Dtab, Origin};

/// Reads both. `baseDtab` takes the place of weir's own; `dtab` is appended, so that it wins.
pub(super) fn read(root: &mut Section<'_, '_>) -> Arc<Dtab> {
    let (mut base, mut own) = (None, None);
    root.set("baseDtab", &mut base, |node| Ok(Some(values::text(node)?.to_owned())));
    root.set("dtab", &mut own, |node| Ok(Some(values::text(node)?.to_owned())));
    let mut dtab = match base {
        Some(text) => parse(root, "baseDtab", &text, Origin::Base),
        None => Dtab::base(),
    };
    if let Some(text) = own {
        dtab.append(parse(root, "dtab", &text, Origin::Configured));
    }
    Arc::new(dtab)
}

/// Every mistake is reported, with its place in the dtab and the line it is in.
fn parse(root: &mut Section<'_, '_>, key: &str, text: &str, origin: Origin) -> Dtab {
    match Dtab::parse(text, origin, &Bounds::CONFIGURATION) {
        Ok(dtab) => dtab,
        Err(error) => {
            for problem in &error.problems {
                let mistake = Mistake::new(format!(
                    "in line {}, column {} of the dtab: {}\n{}",
                    problem.at.line, problem.at.column, problem.what, problem.caret
                ));
                root.mistake(
                    key,
                    match problem.hint {
                        Some(hint) => mistake.hint(hint),
                        None => mistake,
                    },
                );
            }
            Dtab::default()
        }
    }
}
