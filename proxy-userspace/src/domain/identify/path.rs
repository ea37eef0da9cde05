//! `io.l5d.path`.

use super::Identified;
use crate::domain::name::Path;

/// Whether URL segments that made a name are removed from the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segments {
    /// They stay in the URL.
    Stay,
    /// They are removed (`consume: true`).
    Go,
}

/// The first `count` segments as a name; none if there are fewer. The rest of the target keeps its trailing slash and
/// its query, and is `/` if it would be empty.
pub(super) fn identify(target: &str, count: usize, segments_go: Segments) -> Option<Identified> {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mut labels = Vec::with_capacity(count);
    let mut rest = path;
    while labels.len() < count {
        let segment = rest.strip_prefix('/')?;
        let end = segment.find('/').unwrap_or(segment.len());
        if end == 0 {
            return None;
        }
        labels.push(&segment[..end]);
        rest = &segment[end..];
    }
    let target = (segments_go == Segments::Go).then(|| {
        let rest = if rest.is_empty() { "/" } else { rest };
        format!("{rest}{query}")
    });
    Some(Identified { name: Path::from_labels(labels), target })
}
