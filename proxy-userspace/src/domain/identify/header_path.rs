//! `io.l5d.header.path`, by which linkerd named requests of HTTP/2, gRPC's above all: `/package.Service/Method` has two
//! segments.

use super::{RequestFacts, Unidentifiable, path_of};
use crate::domain::name::Path;

/// Which segments make the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderPath {
    /// The header that has the path, in lower case. `None` means the request's target (`:path`).
    pub header: Option<Box<str>>,
    /// How many segments there must be, and are taken. `None` means all, and at least one.
    pub segments: Option<usize>,
}

impl HeaderPath {
    /// The name: the first segments of the path without its query. A segment may have any characters.
    pub(super) fn identify(&self, facts: &RequestFacts<'_>) -> Result<Option<Path>, Unidentifiable> {
        let value = match &self.header {
            Some(header) => (facts.header)(header),
            None => Some(facts.target),
        };
        let path = path_of(value.unwrap_or_default());
        // One slash at the end says nothing.
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.is_empty() {
            return Ok(None);
        }
        let Some(path) = path.strip_prefix('/') else {
            return match &self.header {
                Some(header) => {
                    let why = format!("the header {header} is no path: it does not begin with a slash");
                    Err(Unidentifiable::BadHeader(why))
                }
                // `*`
                None => Ok(None),
            };
        };
        let wanted = self.segments.unwrap_or(usize::MAX);
        let segments = || path.split('/').take(wanted);
        let too_few = self.segments.is_some_and(|wanted| segments().count() < wanted);
        if too_few || segments().any(str::is_empty) {
            return Ok(None);
        }
        Ok(Some(Path::from_labels(segments())))
    }
}
