//! `weir.host`.

use super::RequestFacts;
use crate::domain::name::Path;

pub(super) fn identify(facts: &RequestFacts<'_>) -> Option<Path> {
    let (host, scope) = facts.canonical?;
    let mut name = Path::default();
    name.push_scoped(host, scope);
    Some(name)
}
