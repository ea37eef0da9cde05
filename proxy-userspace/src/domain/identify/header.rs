//! `io.l5d.header`.

use super::{RequestFacts, Unidentifiable};
use crate::domain::name::{BadPath, Path};

pub(super) fn identify(header: &str, facts: &RequestFacts<'_>) -> Result<Option<Path>, Unidentifiable> {
    let Some(value) = (facts.header)(header).filter(|value| !value.is_empty()) else { return Ok(None) };
    let path = value.parse().map_err(|bad: BadPath| {
        Unidentifiable::BadHeader(format!("the header {header} is no path: {bad}"))
    })?;
    Ok(Some(path))
}
