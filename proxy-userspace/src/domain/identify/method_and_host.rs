//! `io.l5d.methodAndHost`.

use super::{RequestFacts, path_of};
use crate::domain::name::Path;

/// Whether the URL's path is part of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlPath {
    /// No.
    Left,
    /// Its segments are appended (`httpUriInDst: true`): `/1.1/GET/host/users/7`.
    Follows,
}

pub(super) fn identify(url: UrlPath, facts: &RequestFacts<'_>) -> Option<Path> {
    match (facts.is_http_11, facts.host) {
        (true, Some(host)) if !host.is_empty() => {
            let host = host.to_ascii_lowercase();
            Some(with(url, &["1.1", facts.method, &host], facts.target))
        }
        (true, _) => None,
        (false, _) => Some(with(url, &["1.0", facts.method], facts.target)),
    }
}

/// The name of `labels`, followed by the segments of `target` if `url` says so.
fn with(url: UrlPath, labels: &[&str], target: &str) -> Path {
    let path = match url {
        UrlPath::Left => "",
        UrlPath::Follows => path_of(target),
    };
    Path::from_labels(labels.iter().copied().chain(path.split('/')))
}
