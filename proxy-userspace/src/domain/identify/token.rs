//! `io.l5d.header.token`.

use super::RequestFacts;
use crate::domain::name::Path;

pub(super) fn identify(header: &str, facts: &RequestFacts<'_>) -> Option<Path> {
    let value = (facts.header)(header).filter(|value| !value.is_empty())?;
    Some(Path::from_labels([value]))
}
