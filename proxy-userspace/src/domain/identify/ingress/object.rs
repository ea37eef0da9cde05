//! One Ingress, checked.

use std::sync::Arc;

use super::path::IngressPath;
use crate::domain::name::Path;

/// An Ingress, with those of its rules that can be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// `metadata.creationTimestamp`: RFC 3339 in UTC to the second, so its text sorts by time. Of two rules for the same
    /// host and path the older Ingress's counts.
    pub created: Box<str>,
    /// Its class, if it has one.
    pub class: Option<Box<str>>,
    /// Its rules, in order.
    pub rules: Vec<IngressRule>,
    /// `spec.defaultBackend`.
    pub default: Option<Backend>,
}

/// One path of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressRule {
    /// The host in lower case; `*.` may stand for one label. `None` means any host.
    pub host: Option<Arc<str>>,
    /// The path.
    pub path: IngressPath,
    /// Where its requests go.
    pub backend: Backend,
}

/// A Service's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The Service, in the Ingress's namespace.
    pub service: Box<str>,
    /// The port's name or number.
    pub port: Box<str>,
}

impl Ingress {
    /// `/namespace/port/service`.
    pub(super) fn name_of(&self, backend: &Backend) -> Path {
        Path::from_labels([&*self.namespace, &*backend.port, &*backend.service])
    }

    /// What the Ingresses are ordered by: the oldest first.
    pub(super) fn age(&self) -> (&str, &str, &str) {
        (&self.created, &self.namespace, &self.name)
    }
}

/// Checks a rule's host: a DNS name in lower case, of which the first label may be `*`.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_host(host: &str) -> Result<(), &'static str> {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let inside = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > 253 || !name.split('.').all(is_label) {
        return Err("no host name in lower case, with or without `*.` in front");
    }
    // The last label of a name has a letter (RFC 1123 §2.1).
    match name.rsplit('.').next().is_some_and(|label| label.bytes().all(|c| c.is_ascii_digit())) {
        true => Err("an address, which a rule cannot be for"),
        false => Ok(()),
    }
}
